"""The recipe of docs/batch.md, on a real PostgreSQL: its process is killed (`kill -9`), and the next one goes on."""

import json
import os
import re
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

import pytest

from sot_graph.testing import Physics, SkeletonResponder
from tests.batch.conftest import CALLS, TITLES, row_asked_about, rows_of
from tests.support.strict_endpoint import StrictEndpoint

PAGE = Path(__file__).parents[2] / "docs" / "batch.md"
ROWS = 24
AT_ONCE = 16


@pytest.fixture
def worker(postgres, tmp_path):
    """Starts the recipe's process, against this endpoint."""
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("dbos")
    name = f"batch_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    recipe = next(
        code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "from dbos" in code
    )
    (tmp_path / "worker.py").write_text(recipe)
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows_of(ROWS))))

    def start(endpoint):
        settings = {"OPENAI_BASE_URL": endpoint.base_url, "OPENAI_API_KEY": "test", "DBOS__VMID": "worker-1"}
        database = postgres.rpartition("/")[0] + f"/{name}"
        return subprocess.Popen(
            [sys.executable, "worker.py"], cwd=tmp_path, env={**os.environ, **settings, "DATABASE_URL": database}
        )

    return start


def test_the_recipe_goes_on_after_a_kill_and_asks_only_for_what_was_in_flight(worker, tmp_path):
    with StrictEndpoint(SkeletonResponder(titles=TITLES), physics=Physics.instant()) as endpoint:
        # The second half of the questions is held, so that the kill finds them in flight.
        with endpoint.hold(10 * ROWS, lambda request: int(row_asked_about(request)) >= ROWS // 2, timeout=90):
            process = worker(endpoint)
            try:
                endpoint.wait_for(
                    lambda log: (
                        sum(one.outcome == "ok" for one in log) == CALLS * ROWS // 2
                        and any(one.outcome is None for one in log)
                    ),
                    timeout=90,
                )
            finally:
                process.kill()
                process.wait()
        endpoint.wait_for(lambda log: all(one.outcome for one in log))
        before = Counter(row_asked_about(one.request) for one in endpoint.requests)
        endpoint.reset()
        assert worker(endpoint).wait(timeout=150) == 0
        after = Counter(row_asked_about(one.request) for one in endpoint.requests)
    records = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [row["id"] for row in rows_of(ROWS)]
    assert all(record["statuses"] == ["ok"] * 3 for record in records)
    assert all(after[row] == CALLS for row in map(str, range(ROWS // 2, ROWS)))
    # Of what was answered, at most those are asked again whose end wasn't in the database yet.
    assert len(before.keys() & after.keys()) <= AT_ONCE
