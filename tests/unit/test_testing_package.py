"""The endpoint as a process, and what the package is as a whole."""

import json
import subprocess
import sys
from typing import Any

import openai
import pytest

import sot_graph.testing
from sot_graph.testing import EndpointProcess, SimulatedEndpoint


def create(client: openai.OpenAI, text: str) -> Any:
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])


def test_it_runs_in_a_process_of_its_own():
    with EndpointProcess(ttft=0, tps=0, points=2, words=3, api_key="right") as endpoint:
        with openai.OpenAI(base_url=endpoint.base_url, api_key="right", max_retries=0) as client:
            listed = create(client, "A numbered list, please.")
            with pytest.raises(openai.AuthenticationError):
                create(client.with_options(api_key="wrong"), "Why?")
        log = endpoint.log()
        endpoint.reset()
        assert endpoint.log()["requests"] == []
        assert endpoint.pid

    assert listed.choices[0].message.content == "1. Early beginnings\n2. Main causes"
    assert [entry["outcome"] for entry in log["requests"]] == ["ok", "rejected"]
    assert log["max_in_flight"] == 1
    assert endpoint.pid is None


def test_a_process_that_does_not_start_says_so():
    with SimulatedEndpoint() as endpoint, pytest.raises(RuntimeError, match="did not start"):
        EndpointProcess(port=endpoint.port).start()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_process_ends_cleanly_when_it_is_told_to():
    command = [sys.executable, "-m", "sot_graph.testing", "--tps", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["base_url"].startswith("http://127.0.0.1:")
        process.terminate()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_the_package_lists_what_it_has_and_imports_no_provider():
    assert sot_graph.testing.__all__ == sorted(sot_graph.testing.__all__) == dir(sot_graph.testing)
    for name in sot_graph.testing.__all__:
        assert getattr(sot_graph.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = sot_graph.testing.Nothing
    script = (
        "import sys, sot_graph.testing as t; [getattr(t, name) for name in t.__all__]; "
        "assert 'langchain_openai' not in sys.modules and 'openai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_missing_aiohttp_says_what_to_install():
    script = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "import sot_graph.testing as t; t.ScriptedChatModel; t.SkeletonResponder\n"
        "try: t.SimulatedEndpoint\n"
        "except ImportError as error: assert isinstance(error, ValueError); print(error)"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, timeout=120, capture_output=True, text=True)

    assert "pip install 'sot-graph[testing]'" in run.stdout
