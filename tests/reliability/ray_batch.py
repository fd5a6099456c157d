"""`examples/ray_batch.py` on a cluster of this machine: it is killed (`kill -9`), and goes on with what is missing.

`make test-ray` runs it, in an environment of its own: Ray takes 800 MB, ten processes and half a minute to start.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from sot_graph.testing import Physics, SkeletonResponder
from tests.batch.conftest import CALLS, TITLES, row_asked_about, rows_of
from tests.support.strict_endpoint import StrictEndpoint

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_batch.py"
ROWS, BLOCK = 24, 4
SECONDS = 300


@pytest.fixture
def endpoint():
    with StrictEndpoint(SkeletonResponder(titles=TITLES), physics=Physics.instant()) as running:
        yield running


@pytest.fixture
def processes():
    """Starts processes, and at the end of the test ends them with all that they started."""
    started = []

    def start(*command, **settings):
        started.append(subprocess.Popen(command, start_new_session=True, **settings))
        return started[-1]

    yield start
    for process in reversed(started):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def start(endpoint, processes, tmp_path, unused_port):
    """Starts the example, on a cluster that outlives it. Its CPUs are a count: all of them mostly wait."""
    rows = [{**row, "id": f"row-{row['id']}"} for row in rows_of(ROWS)]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = {"OPENAI_BASE_URL": endpoint.base_url, "OPENAI_API_KEY": "test"}
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": f"127.0.0.1:{unused_port}"}
    environment = {**os.environ, **keys, **settings}
    head = ["start", "--head", "--block", "--num-cpus=8", "--include-dashboard=false", f"--port={unused_port}"]
    processes(Path(sys.executable).with_name("ray"), *head, env={**environment, "RAY_ADDRESS": ""})
    command = [sys.executable, EXAMPLE, "questions.jsonl", "answers", "--block", str(BLOCK)]
    return lambda: processes(*command, cwd=tmp_path, env=environment)


@pytest.fixture
def unused_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def records_in(folder):
    lines = [line for file in folder.glob("*.json") for line in file.read_text().splitlines()]
    return [json.loads(json.loads(line)["record"]) for line in lines]


@pytest.mark.timeout(3 * SECONDS)
def test_a_run_that_was_killed_goes_on_with_the_missing_rows(start, endpoint, tmp_path):
    answers = tmp_path / "answers"
    begun = set()

    def comes_later(request):
        """All questions but those that came first."""
        if len(begun) < 2 * BLOCK:
            begun.add(row_asked_about(request))
        return row_asked_about(request) not in begun

    def is_held():
        return any(one.outcome is None for one in endpoint.requests)

    with endpoint.hold(10 * ROWS, comes_later, timeout=SECONDS) as hold:
        process = start()
        until = time.monotonic() + SECONDS
        written, since = 0, time.monotonic()
        # It is killed when blocks are written, others wait for the model, and no file comes any more.
        while not (written and is_held() and time.monotonic() > since + 5):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
            if (now := len([*tmp_path.glob("answers*/*")])) != written:
                written, since = now, time.monotonic()
        process.kill()
        process.wait()
        hold.release()
    before = Counter(record["id"] for record in records_in(answers))
    endpoint.wait_for(lambda log: all(one.outcome for one in log))
    endpoint.reset()
    assert start().wait(timeout=SECONDS) == 0
    again = Counter(f"row-{row_asked_about(one.request)}" for one in endpoint.requests)
    records = records_in(answers)
    assert sorted(record["id"] for record in records) == sorted(f"row-{number}" for number in range(ROWS))
    assert all(record["statuses"] == ["ok"] * len(TITLES) for record in records)
    assert before
    assert not before.keys() & again.keys()
    assert set(again.values()) == {CALLS}
