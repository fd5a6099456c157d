"""When the caller goes away, every model call is closed and nothing is left running."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from sot_graph import astream_answer, create_sot_graph, stream_answer
from sot_graph.concurrency.background_loop import CallerLeft
from sot_graph.concurrency.cancellation import closing_calls, closing_once
from sot_graph.events import BREAKS_OFF
from sot_graph.testing import Fault, Stall
from tests.support.chat_requests import one_point

ASK = {"question": "How do plants grow?"}
EIGHT = 8


def all_points_in_flight(log):
    return len([one for one in log if one_point(one.request) and one.outcome is None]) == EIGHT


def all_closed(log):
    return all(one.outcome for one in log)


def outcomes_of_points(endpoint):
    return [one.outcome for one in endpoint.requests if one_point(one.request)]


@pytest.fixture
def stalling(endpoint):
    """Every point begins and never ends."""
    endpoint.faults = [Fault(Stall(after_tokens=3), one_point)]
    return endpoint


async def nothing_runs_but_this():
    for _ in range(3):
        await asyncio.sleep(0)
    return asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_task_closes_every_call(stalling):
    graph = create_sot_graph(stalling.chat_model())
    task = asyncio.create_task(graph.ainvoke(ASK))
    await stalling.wait_for_async(all_points_in_flight)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stalling.wait_for_async(all_closed)
    assert outcomes_of_points(stalling) == ["client_closed"] * EIGHT
    assert await nothing_runs_but_this()


async def test_a_task_cancelled_while_the_skeleton_is_drafted_closes_that_call(endpoint):
    endpoint.faults = [Fault(Stall())]
    task = asyncio.create_task(create_sot_graph(endpoint.chat_model()).ainvoke(ASK))
    await endpoint.wait_for_async(lambda log: log)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await endpoint.wait_for_async(all_closed)
    assert [one.outcome for one in endpoint.requests] == ["client_closed"]
    assert await nothing_runs_but_this()


async def test_a_timeout_around_a_run_closes_every_call(stalling):
    graph = create_sot_graph(stalling.chat_model())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await graph.ainvoke(ASK)
    await stalling.wait_for_async(all_closed)
    assert set(outcomes_of_points(stalling)) <= {"client_closed"}
    assert await nothing_runs_but_this()


async def test_a_closed_stream_closes_every_call(stalling):
    async with aclosing(create_sot_graph(stalling.chat_model()).astream(ASK, stream_mode="custom")) as events:
        async for event in events:
            if event["type"] == "sot.point.delta":
                break
        await stalling.wait_for_async(all_points_in_flight)
    await stalling.wait_for_async(all_closed)
    assert outcomes_of_points(stalling) == ["client_closed"] * EIGHT
    assert await nothing_runs_but_this()


async def test_a_closed_answer_stream_closes_every_call(stalling):
    async with aclosing(astream_answer(create_sot_graph(stalling.chat_model()), ASK)) as chunks:
        await anext(chunks)
        await anext(chunks)  # LangGraph's streams are pulled: the points begin when more than the first title is wanted
        await stalling.wait_for_async(all_points_in_flight)
    await stalling.wait_for_async(all_closed)
    assert outcomes_of_points(stalling) == ["client_closed"] * EIGHT
    assert await nothing_runs_but_this()


def test_a_closed_synchronous_answer_stream_closes_every_call(stalling):
    with closing(stream_answer(create_sot_graph(stalling.chat_model()), ASK)) as chunks:
        next(chunks)
        next(chunks)  # LangGraph's streams are pulled: the points begin when more than the first title is wanted
        stalling.wait_for(all_points_in_flight)
    stalling.wait_for(all_closed)
    assert outcomes_of_points(stalling) == ["client_closed"] * EIGHT


def command(endpoint):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sot_graph",
            "ask",
            "Why?",
            "--model",
            "simulated",
            "--base-url",
            endpoint.base_url,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENAI_API_KEY": "test"},
    )


def interrupt(process):
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


def test_ctrl_c_in_the_command_closes_every_call_and_the_status_is_130(stalling):
    process = command(stalling)
    stalling.wait_for(all_points_in_flight, timeout=60)
    status, errors = interrupt(process)
    assert status == 130
    assert "Traceback" not in errors
    stalling.wait_for(all_closed)
    assert outcomes_of_points(stalling) == ["client_closed"] * EIGHT


def test_ctrl_c_while_the_skeleton_is_drafted_does_the_same(endpoint):
    endpoint.faults = [Fault(Stall())]
    process = command(endpoint)
    endpoint.wait_for(lambda log: log, timeout=60)
    status, errors = interrupt(process)
    assert status == 130
    assert "Traceback" not in errors
    endpoint.wait_for(all_closed)
    assert [one.outcome for one in endpoint.requests] == ["client_closed"]


SCRIPT = """
import sys, threading
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from sot_graph import create_sot_graph, stream_answer
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

def to_the_end(chunks):
    for _ in chunks: pass

def parent(graph, checkpointer=None):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", graph)
    builder.add_node("another", lambda state: {})
    builder.add_edge(START, "answer")
    builder.add_edge(START, "another")
    return builder.compile(checkpointer=checkpointer)

def lone_parent(graph, checkpointer=None):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", graph)
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=checkpointer)

ask = {"question": "How do plants grow?"}
chat = {"messages": [("user", "How do plants grow?")]}
scripted = ScriptedChatModel(answer_skeleton_of_thought())
model = ChatOpenAI(model="simulated", base_url=sys.argv[1], api_key="test")
graph = create_sot_graph(model)
thread = {"configurable": {"thread_id": "1"}}
kept_graph = create_sot_graph(model, checkpointer=InMemorySaver())
kept_parent = lone_parent(graph, InMemorySaver())
"""
"""Beginning of the scripts that stand for a caller of their own process."""

RUNS = {
    "invoke": "graph.invoke(ask)",
    "batch": "graph.batch([ask])",
    "stream": 'to_the_end(graph.stream(ask, stream_mode="custom"))',
    "stream_answer": "to_the_end(stream_answer(graph, ask))",
    "invoke of a parent": "lone_parent(graph).invoke(chat)",
    "invoke in a join": "create_sot_graph(scripted, join=lambda *_: graph.invoke(ask)['answer']).invoke(ask)",
    "stream_answer of a parent": "to_the_end(stream_answer(parent(graph), chat))",
}


def script(endpoint, lines):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + lines, endpoint.base_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_ctrl_c_in_a_script_closes_every_call_and_ends_it(stalling, run):
    process = script(stalling, run)
    stalling.wait_for(all_points_in_flight, timeout=60)
    status, errors = interrupt(process)
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    stalling.wait_for(all_closed)
    assert outcomes_of_points(stalling) == ["client_closed"] * EIGHT


def test_after_ctrl_c_a_script_goes_on_as_ever(stalling):
    lines = f"""
import signal
before = signal.getsignal(signal.SIGINT)
try:
    {RUNS["invoke"]}
except KeyboardInterrupt:
    print(signal.getsignal(signal.SIGINT) is before, flush=True)
sys.stdin.readline()
print(len(graph.invoke(ask)["skeleton"]))
"""
    process = script(stalling, lines)
    stalling.wait_for(all_points_in_flight, timeout=60)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "True\n"
    stalling.wait_for(all_closed)
    stalling.faults = []
    output, _ = process.communicate("\n", timeout=30)
    assert (process.returncode, output) == (0, f"{EIGHT}\n")


def test_a_signal_handler_that_returns_ends_no_call(stalling):
    lines = f"""
import signal
signal.signal(signal.SIGINT, lambda number, frame: print("noted", flush=True))
{RUNS["invoke"]}
"""
    process = script(stalling, lines)
    stalling.wait_for(all_points_in_flight, timeout=60)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "noted\n"
    assert all_points_in_flight(stalling.requests)
    process.kill()
    process.communicate(timeout=30)


def test_a_model_that_blocks_keeps_no_process_alive(endpoint):
    lines = """
from langchain_core.language_models import BaseChatModel
class Blocking(BaseChatModel):
    _llm_type = "blocking"
    def _generate(self, *args, **kwargs):
        print("called", flush=True)
        threading.Event().wait()
create_sot_graph(Blocking()).invoke(ask)
"""
    process = script(endpoint, lines)
    assert process.stdout.readline() == "called\n"
    status, errors = interrupt(process)
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


LEFT_BEHIND = {
    "an iterator": "chunks = stream_answer(graph, ask); next(chunks); next(chunks)",
    "a kept thread's iterator": "chunks = stream_answer(kept_graph, ask, thread); next(chunks); next(chunks)",
    "a daemon thread that runs a kept thread": (
        "threading.Thread(target=kept_graph.invoke, args=(ask, thread), daemon=True).start()"
    ),
    "a daemon thread that runs a parent's kept thread": (
        "threading.Thread(target=lambda: to_the_end(stream_answer(kept_parent, chat, thread)), daemon=True).start()"
    ),
    "a stream": 'parts = graph.stream(ask, stream_mode="custom"); next(parts); next(parts)',
    "a daemon thread": "threading.Thread(target=graph.invoke, args=(ask,), daemon=True).start()",
    "a daemon thread's iterator": (
        "threading.Thread(target=lambda: to_the_end(stream_answer(parent(graph), chat)), daemon=True).start()"
    ),
}


@pytest.mark.parametrize("run", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_what_a_script_leaves_behind_at_its_end_is_closed(stalling, run):
    process = script(stalling, f"{run}\nsys.stdin.readline()")
    stalling.wait_for(all_points_in_flight, timeout=60)
    _, errors = process.communicate("\n", timeout=30)
    assert (process.returncode, errors) == (0, "")
    stalling.wait_for(all_closed)
    assert outcomes_of_points(stalling) == ["client_closed"] * EIGHT


def test_two_who_close_one_run_at_once_do_not_stumble_over_each_other():
    being_closed, go_on = threading.Event(), threading.Event()

    def parts():
        try:
            yield 1
        finally:
            being_closed.set()
            go_on.wait(30)

    run = closing_calls(parts())
    next(run)
    closer = threading.Thread(target=run.close)
    closer.start()
    assert being_closed.wait(30)
    with closing_once(run):
        pass
    go_on.set()
    closer.join()


def test_what_an_ordinary_thread_runs_at_a_scripts_end_is_finished(endpoint):
    lines = """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
idle = pool.submit(threading.current_thread).result()
threading.Thread(target=lambda: (idle.join(), print("ending", flush=True)), daemon=True).start()
threading.Thread(target=lambda: print(len(graph.invoke(ask)["skeleton"]))).start()
sys.stdin.readline()
"""
    with endpoint.hold(EIGHT + 1, one_point, timeout=60) as hold:
        process = script(endpoint, lines)
        endpoint.wait_for(all_points_in_flight, timeout=60)
        go_on(process)
        assert process.stdout.readline() == "ending\n"
        hold.release()
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, f"{EIGHT}\n", "")


def test_a_forgotten_answer_stream_closes_every_call(stalling):
    chunks = stream_answer(create_sot_graph(stalling.chat_model()), ASK)
    next(chunks)
    next(chunks)
    stalling.wait_for(all_points_in_flight)
    del chunks
    stalling.wait_for(all_closed)
    assert outcomes_of_points(stalling) == ["client_closed"] * EIGHT


def test_a_closed_synchronous_stream_closes_every_call(stalling):
    with closing(create_sot_graph(stalling.chat_model()).stream(ASK, stream_mode="custom")) as events:
        next(events)
        next(events)
        stalling.wait_for(all_points_in_flight)
    stalling.wait_for(all_closed)
    assert outcomes_of_points(stalling) == ["client_closed"] * EIGHT


LATE_CALLBACKS = """
import asyncio, json, time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from sot_graph.concurrency import background_loop

submit, shutdown, add_callback = ThreadPoolExecutor.submit, ThreadPoolExecutor.shutdown, Future.add_done_callback
came_late = []

def event_of(executor):
    return executor.__dict__.setdefault("is_shut_down", threading.Event())

def submit_and_mark(executor, *args, **kwargs):
    future = submit(executor, *args, **kwargs)
    # In a graph within a node LangGraph waits for the callbacks itself: there the order can't be this one.
    if threading.current_thread() is threading.main_thread():
        future.is_shut_down = event_of(executor)
    return future

def add_late_callback(future, callback):
    def late(_):
        if not future.cancelled() and future.exception() and future.is_shut_down.wait(30):
            came_late.append(future)
        callback(future)
    add_callback(future, late if hasattr(future, "is_shut_down") else callback)

def shut_down_and_tell(executor, wait=True, **kwargs):
    shutdown(executor, wait=False, **kwargs)
    event_of(executor).set()
    shutdown(executor, wait=wait)

ThreadPoolExecutor.submit, ThreadPoolExecutor.shutdown = submit_and_mark, shut_down_and_tell
Future.add_done_callback = add_late_callback

def in_function(state):
    try:
        return {"messages": graph.invoke({"messages": state["messages"]})["messages"][-1:]}
    except Exception:
        return {"messages": [("ai", "Sorry.")]}

def tasks_left():
    until = time.monotonic() + 20  # those that are cancelled may be cleaning up
    while tasks := [task for one in background_loop._loops if one.running for task in asyncio.all_tasks(one.running)]:
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    return tasks

def left_when_closed(**kwargs):
    with closing(stream_answer(app, chat, thread, **kwargs)) as chunks:
        next(chunks)
        next(chunks)
        sys.stdin.readline()

def left_by_ctrl_c(call):
    try:
        call()
    except KeyboardInterrupt:
        pass
"""
"""Has the callbacks of nodes that failed run when LangGraph's executor is shut down already, as a busy machine may.

LangGraph stores what a node wrote in such a callback, by that executor."""

APPS = {
    "the graph": "kept_graph",
    "a parent": "kept_parent",
    "a parent's function": "parent(in_function, InMemorySaver())",
}
LEAVES = {
    "closing": "left_when_closed()",
    "Ctrl-C in stream_answer": "left_by_ctrl_c(lambda: to_the_end(stream_answer(app, chat, thread)))",
    "Ctrl-C in invoke": "left_by_ctrl_c(lambda: app.invoke(chat, thread))",
}
WHAT_IS_LEFT = """
print("left", flush=True)
sys.stdin.readline()
threads = [each.name for each in threading.enumerate() if not each.name.startswith(("MainThread", "sot_graph"))]
print(json.dumps({"late": len(came_late), "threads": threads, "tasks": len(tasks_left())}), flush=True)
sys.stdin.readline()
print(json.dumps([message.text for message in app.invoke(None, thread)["messages"]]))
"""


WAYS = {
    f"{way}, {app}": (LEAVES[way], APPS[app])
    for way in LEAVES
    for app in APPS
    # In a parent whose nodes run side by side, `invoke` leaves Ctrl-C to LangGraph.
    if not (way == "Ctrl-C in invoke" and app == "a parent's function")
}


@pytest.mark.parametrize(("way", "app"), WAYS.values(), ids=WAYS)
def test_who_leaves_a_thread_that_is_kept_hears_nothing_and_leaves_nothing(stalling, app, way):
    process = script(stalling, LATE_CALLBACKS + f"app = {app}\n{way}\n{WHAT_IS_LEFT}")
    stalling.wait_for(all_points_in_flight, timeout=60)
    if "ctrl_c" in way:
        process.send_signal(signal.SIGINT)
    else:
        go_on(process)
    assert process.stdout.readline() == "left\n"
    stalling.wait_for(all_closed)
    go_on(process)
    left = json.loads(process.stdout.readline())
    stalling.faults = []
    output, errors = process.communicate("\n", timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert left["late"] > 0
    assert (left["threads"], left["tasks"]) == ([], 0)
    assert outcomes_of_points(stalling)[:EIGHT] == ["client_closed"] * EIGHT
    question, answer = json.loads(output)
    assert question == ASK["question"]
    assert answer.count("\n\n") >= EIGHT - 1


def test_a_thread_that_was_left_holds_no_error(stalling):
    graph, thread = (
        create_sot_graph(stalling.chat_model(), checkpointer=InMemorySaver()),
        {"configurable": {"thread_id": "1"}},
    )
    with closing(stream_answer(graph, ASK, thread)) as chunks:
        next(chunks)
        next(chunks)
        stalling.wait_for(all_points_in_flight)
    assert [task.error for task in graph.get_state(thread).tasks] == [None] * EIGHT


def test_what_is_read_when_its_reader_leaves_is_kept_without_a_word(stalling):
    way = "left_when_closed(keep_cut=True)"
    kept = 'print(json.dumps([message.text for message in app.get_state(thread).values["messages"]]))'
    process = script(stalling, f"{LATE_CALLBACKS}\napp = kept_parent\n{way}\n{kept}")
    stalling.wait_for(all_points_in_flight, timeout=60)
    output, errors = process.communicate("\n", timeout=30)
    question, answer = json.loads(output)
    assert (process.returncode, errors, question) == (0, "", ASK["question"])
    assert answer.endswith(BREAKS_OFF)


@pytest.mark.parametrize(
    ("failed_by", "text"),
    [(CallerLeft, "a callback's own error"), (ValueError, "cannot schedule new futures after shutdown")],
)
def test_no_other_error_of_a_callback_is_kept_from_the_log(caplog, failed_by, text):
    list(closing_calls(iter_of_one()))
    with ThreadPoolExecutor(1) as pool:
        go_on = threading.Event()

        def fail():
            go_on.wait(30)
            raise failed_by

        def callback(_):
            raise RuntimeError(text)

        future = pool.submit(fail)
        future.add_done_callback(callback)
        go_on.set()
    assert [record.exc_info[1].args for record in caplog.records] == [(text,)]


def iter_of_one():
    yield 1
