"""A process that forks, as a web server does that loads the application first."""

import os
import re
import subprocess
import sys
from contextlib import nullcontext

import pytest

from sot_graph.testing import Fault, Reply, SkeletonResponder, Stall
from tests.support.chat_requests import one_point
from tests.support.wires.anthropic_wire import AnthropicWire

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")

SCRIPT = """
import os, sys, threading
from langchain_openai import ChatOpenAI
from sot_graph import CallLimiter, create_sot_graph

limiter = CallLimiter(2)
graph = create_sot_graph(ChatOpenAI(model="simulated", base_url=sys.argv[1], api_key="test"), limiter=limiter)

def in_a_child(question):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        result = graph.invoke({"question": question})
        os._exit(len(result["skeleton"]) if limiter.in_flight == 0 else 100)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(101)
"""


@pytest.fixture
def run_script(endpoint):
    endpoint.responder = SkeletonResponder(points=3, words_per_point=5)

    def run(lines):
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT + lines, endpoint.base_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    running = []
    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=30)


def test_a_forked_child_has_a_loop_and_connections_of_its_own(run_script):
    process = run_script("""
graph.invoke({"question": "Warm?"})
print(in_a_child("First?"), in_a_child("Second?"), len(graph.invoke({"question": "Still there?"})["skeleton"]))
""")
    output, errors = process.communicate(timeout=60)
    assert (output, errors) == ("3 3 3\n", "")


def test_a_forked_child_takes_over_no_place_of_its_parents_limiter(run_script, endpoint):
    endpoint.faults = [Fault(Stall(), lambda request: "In flight" in request.text)]
    process = run_script("""
for _ in range(2):
    threading.Thread(target=graph.invoke, args=({"question": "In flight?"},), daemon=True).start()
sys.stdin.readline()
print(limiter.in_flight, in_a_child("First?"), limiter.in_flight, flush=True)
os._exit(0)  # without closing the calls in flight, of which the threads would tell
""")
    endpoint.wait_for(lambda log: len(log) == 2, timeout=60)
    output, errors = process.communicate("\n", timeout=60)
    assert (output, errors) == ("2 3 2\n", "")


def test_a_child_may_be_forked_in_the_middle_of_anything(run_script):
    process = run_script("""
graph.invoke({"question": "Warm?"})  # nothing is being imported any more: Python's locks for that outlive a fork
ended = threading.Event()

def keep_asking():
    while not ended.is_set():
        graph.invoke({"question": "Busy?"})

busy = [threading.Thread(target=keep_asking) for _ in range(3)]
for thread in busy:
    thread.start()
children = {in_a_child("Child?") for _ in range(5)}
ended.set()
for thread in busy:
    thread.join()
print(children)
""")
    output, errors = process.communicate(timeout=120)
    assert (output, errors) == ("{3}\n", "")


SYNC_SCRIPT = """
import os, sys
from sot_graph import create_sot_graph
{make_model}
graph = create_sot_graph(model)
if {is_warm}:
    graph.invoke({{"question": "Question 0."}})  # its connections stay open
children = []
for number in range(1, 5):
    child = os.fork()
    if not child:
        code = 101
        try:
            for turn in range(3):
                result = graph.invoke({{"question": f"Question {{number}}{{turn}}."}})
                texts = [each["text"] for each in result["expansions"]]
                code = 0 if texts == [f"To Question {{number}}{{turn}}."] * 3 else 100
                if code:
                    print(number, turn, texts, file=sys.stderr, flush=True)
                    break
        finally:
            os._exit(code)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
SYNC_MODELS = {
    "ChatAnthropic": """
from langchain_anthropic import ChatAnthropic
model = ChatAnthropic(model="claude-x", base_url=sys.argv[1], api_key="test")
""",
    "ChatAnthropic on loops": """
import asyncio
from langchain_anthropic import ChatAnthropic
model = ChatAnthropic(model="claude-x", base_url=sys.argv[1], api_key="test")
before = create_sot_graph(model)
for _ in range(2):
    asyncio.run(before.ainvoke({"question": "Question 0."}))
""",
    "a client of the caller's": """
import openai
from langchain_openai import ChatOpenAI
model = ChatOpenAI(
    model="simulated", base_url=sys.argv[1], api_key="test", http_client=openai.DefaultHttpxClient()
)
""",
}


@pytest.mark.parametrize("kind", SYNC_MODELS)
def test_forked_children_never_read_each_others_replies(endpoint, kind):
    write = SkeletonResponder(titles=["Seed", "Soil", "Sun"])

    def respond(request):
        question = re.search(r"Question \d+\.", request.text)
        return f"To {question[0]}" if one_point(request) else write(request)

    is_warm = kind in {"ChatAnthropic", "a client of the caller's"}
    script = SYNC_SCRIPT.format(make_model=SYNC_MODELS[kind], is_warm=is_warm)
    if kind.startswith("ChatAnthropic"):
        pytest.importorskip("langchain_anthropic")
        wire = AnthropicWire(respond=lambda request: Reply(text) if isinstance(text := respond(request), str) else text)
        server, address = wire, lambda: wire.url
    else:
        endpoint.responder = respond
        server, address = nullcontext(), lambda: endpoint.base_url
    with server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, address()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("[0, 0, 0, 0]\n", "")


def test_a_forked_child_keeps_what_is_no_connection_of_a_client(run_script):
    process = run_script("""
import logging, logging.handlers, socket
from langchain_core.callbacks import BaseCallbackHandler
from sot_graph.concurrency import cut_inherited_connections

heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.bind(("127.0.0.1", 0))
handler = logging.handlers.SysLogHandler(heard.getsockname())
logging.getLogger("app").addHandler(handler)
listening = socket.create_server(("127.0.0.1", 0))
ours, theirs = socket.socketpair()

child = os.fork()
if not child:
    cut_inherited_connections([logging.getLogger("app"), handler, listening, ours])
    logging.getLogger("app").warning("still there")
    made = socket.create_connection(listening.getsockname())
    listening.accept()
    os._exit(0 if ours.recv(1) == b"" else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), b"still there" in heard.recv(1000))
theirs.sendall(b"x")
print(ours.recv(1))
""")
    output, errors = process.communicate(timeout=60)
    assert (output, errors) == ("0 True\nb'x'\n", "")
