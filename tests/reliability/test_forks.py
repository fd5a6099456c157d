"""A process that forks, as a web server does that loads the application first."""

import os
import subprocess
import sys

import pytest

from sot_graph.testing import Fault, SkeletonResponder, Stall

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
