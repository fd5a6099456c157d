"""A LangSmith that is dead, slow or hostile slows and fails nothing; it costs one warning."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
from langchain_core.tracers import LangChainTracer

from sot_graph import create_sot_graph
from sot_graph.cli.process import trace_patience
from tests.support.trace_recorder import TraceRecorder

ASK = {"question": "How do plants grow?"}
WARNING = "sot-graph: warning: "
FOREVER = 100.0
"""Seconds that a process may take on a busy machine; LangSmith's own client would wait for longer."""


def settings(url):
    return {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": url, "LANGSMITH_API_KEY": "lsv2_canary_of_langsmith"}


def patient(environment):
    """The command waits for LangSmith's client to say what has happened, however slow the machine is."""
    return {**environment, "SOT_GRAPH_TRACE_PATIENCE": "100"}


@contextmanager
def black_hole() -> Iterator[str]:
    """An address that takes connections and never reads or writes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def refusing() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


def command(endpoint, environment, *options):
    environment = {**os.environ, "OPENAI_API_KEY": "sk-canary", "LANGSMITH_API_KEY": "", **environment}
    words = ["ask", ASK["question"], "--base-url", endpoint.base_url, "--model", "simulated", *options]
    return subprocess.run(
        [sys.executable, "-m", "sot_graph", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=FOREVER,
        check=False,
    )


def check_answered(ran, warning):
    """The answer, and one warning or none."""
    assert ran.returncode == 0
    assert "**1. Early beginnings**" in ran.stdout
    lines = [line for line in ran.stderr.splitlines() if line]
    assert len(lines) == bool(warning), ran.stderr
    assert "Traceback" not in ran.stderr
    assert "canary" not in ran.stderr
    if warning:
        assert lines[0].startswith(WARNING)
        assert warning in lines[0]


def test_the_command_sends_its_trace_and_says_nothing(endpoint, recorder):
    check_answered(command(endpoint, patient(settings(recorder.url))), warning="")
    root = recorder.root()
    assert all(run.has_ended for run in root.walk())
    assert root.outputs["answer"].startswith("**1. Early beginnings**")
    assert b"sk-canary" not in recorder.traffic


@pytest.mark.parametrize("options", [(), ("--no-stream",), ("--json",)])
def test_the_command_ends_while_langsmith_still_holds_its_reply(options, endpoint, recorder):
    """Not one reply comes before the process has ended."""
    with recorder.hold():
        ran = command(endpoint, settings(recorder.url), *options)
    assert ran.returncode == 0
    assert [line.startswith(WARNING) for line in ran.stderr.splitlines()] == [True]
    assert "within 2 s" in ran.stderr
    assert recorder.requests


@pytest.mark.parametrize(
    ("status", "body", "warning"),
    [
        (401, None, "Authentication failed"),
        (429, None, "Rate limit"),
        (500, None, "Server error (500)"),
        (200, b"<html>no LangSmith here</html>", "JSONDecodeError"),
    ],
)
def test_the_command_says_once_that_langsmith_refuses(status, body, warning, endpoint):
    with TraceRecorder(status=status, body=body) as recorder:
        check_answered(command(endpoint, patient(settings(recorder.url))), warning)


def test_the_command_says_once_that_langsmith_cannot_be_reached(endpoint):
    check_answered(command(endpoint, patient(settings(refusing()))), "Connection error")


def test_the_command_leaves_a_black_hole_behind(endpoint):
    with black_hole() as url:
        check_answered(command(endpoint, settings(url)), "within 2 s")


def test_without_a_key_nothing_is_sent_and_one_warning_says_why(endpoint):
    """The hosted address would be asked; no socket here could reach it."""
    check_answered(command(endpoint, {"LANGSMITH_TRACING": "true"}), "LANGSMITH_API_KEY is not")


def test_settings_that_contradict_each_other_are_a_warning_too(endpoint):
    environment = {**settings(refusing()), "LANGSMITH_RUNS_ENDPOINTS": "{}"}
    check_answered(command(endpoint, environment), "LangSmith's settings are wrong")


@pytest.mark.parametrize("patience", ["", "soon", "-1", "nan"])
def test_a_patience_that_is_no_time_is_two_seconds(patience, monkeypatch):
    monkeypatch.setenv("SOT_GRAPH_TRACE_PATIENCE", patience)
    assert trace_patience() == 2.0


SCRIPT = """
import json, logging, sys
import langsmith
from sot_graph import create_sot_graph
from sot_graph.llm.resolve import resolve_model
from sot_graph.observability.langsmith_log_filter import quiet_langsmith

if "quiet" in sys.argv:
    quiet_langsmith()
logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
graph = create_sot_graph(resolve_model("simulated", base_url=sys.argv[1]))
client = langsmith.Client(retry_config=0)
langsmith.configure(client=client)
answers = [graph.invoke({"question": "How do plants grow?"})["answer"] for _ in range(2)]
client.flush()
print(json.dumps(answers))
client.close(timeout=0)
"""


def script(endpoint, environment, *, quiet=True):
    """A program that uses the library, and waits until LangSmith's client has tried everything."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, endpoint.base_url, "quiet" if quiet else "as it is"],
        env={**os.environ, "OPENAI_API_KEY": "sk-canary", **environment},
        capture_output=True,
        text=True,
        timeout=FOREVER,
        check=False,
    )


def warnings_of(ran):
    """Both answers are there, and no traceback: what was warned of."""
    assert ran.returncode == 0, ran.stderr
    first, second = json.loads(ran.stdout)
    assert first == second
    assert first.startswith("**1. Early beginnings**")
    assert "Traceback" not in ran.stderr
    assert "canary" not in ran.stderr
    return [line for line in ran.stderr.splitlines() if line]


def test_a_program_is_warned_once_that_langsmith_refuses(endpoint):
    with TraceRecorder(status=401) as recorder:
        [warning] = warnings_of(script(endpoint, settings(recorder.url)))
        assert warning.startswith("WARNING langsmith.client: LangSmith does not take traces: ")
        assert "Authentication failed" in warning
        assert len(recorder.requests) > 1


def test_a_program_without_a_key_is_warned_once_that_it_lacks_one(endpoint):
    """By Python's own warning, of two lines. The proxy keeps the requests on this machine."""
    proxies = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), refusing())
    environment = {"LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": "", "LANGCHAIN_API_KEY": "", **proxies}
    warning, _ = warnings_of(script(endpoint, environment))
    assert "LangSmithMissingAPIKeyWarning: API key must be provided" in warning


def test_a_program_that_does_not_ask_for_quiet_has_all_of_langsmiths_own_log(endpoint):
    with TraceRecorder(status=401) as recorder:
        ran = script(endpoint, settings(recorder.url), quiet=False)
    warnings = [line for line in warnings_of(ran) if line.startswith("WARNING")]
    assert len(warnings) > 2
    assert not any("LangSmith does not take traces" in line for line in warnings)


REASONS = {401: "Authentication failed", 429: "Rate limit", 500: "Server error (500)", "garbage": "JSONDecodeError"}


@pytest.mark.parametrize("fault", ["held", *REASONS])
async def test_a_run_has_its_answer_and_one_warning_whatever_langsmith_does(fault, run, endpoint, caplog):
    """Held: LangSmith's first reply comes only after the answer is there."""
    status, body = (fault if isinstance(fault, int) else 200), b"<html>" if fault == "garbage" else None
    graph = create_sot_graph(endpoint.chat_model())
    with TraceRecorder(status=status, body=body) as recorder:
        client = recorder.client(retry_config=0)
        tracer = LangChainTracer(client=client)
        with recorder.hold() if fault == "held" else nullcontext():
            for _ in range(2):
                result = await run(graph, ASK, {"callbacks": [tracer]})
            await asyncio.to_thread(recorder.wait_for, lambda: recorder._paths)
        assert result["answer"].startswith("**1. Early beginnings**")
        assert result["usage"]["total"]["calls"] == 4
        await asyncio.to_thread(client.flush)
        client.close(timeout=0)
    told = [record.getMessage() for record in caplog.records if record.name == "langsmith.client"]
    assert len(told) == (fault != "held"), told
    for message in told:
        assert message.startswith("LangSmith does not take traces: ")
        assert REASONS[fault] in message
