"""Many questions at once while one request in three goes wrong. `make soak` asks more of them."""

import asyncio
import gc
import logging
import os
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import replace
from pathlib import Path

import pytest

from sot_graph import SotError, SotOptions, astream_answer, create_sot_graph
from sot_graph.concurrency.background_loop import _LibraryLoop
from sot_graph.testing import (
    CutOff,
    Empty,
    Fault,
    Garbage,
    HangUp,
    Refusal,
    Reset,
    SkeletonResponder,
    Stall,
    Status,
)

QUESTIONS = int(os.environ.get("SOAK_QUESTIONS", "60"))
KINDS = [
    Status(429, retry_after=0.1),
    Status(500),
    Reset(),
    HangUp(after_tokens=8),
    Garbage(),
    Empty(),
    Stall(after_tokens=8),
    CutOff(8),
    Refusal(),
]
BLOCKS_A_QUESTION = 100
"""Of memory that a round may leave behind; a single run that is held on to holds thousands."""
OF_THE_LIBRARYS_LOOP = 2
"""Sockets by which an event loop's other threads wake it."""


@pytest.fixture
def faulty(endpoint):
    """Each kind of fault hits one request in twenty; every reply carries its question's tag."""
    write = SkeletonResponder(points=5, words_per_point=20)

    def respond(request):
        reply = write(request)
        if "one point" not in request.last_user and "Answer the question" not in request.last_user:
            return reply
        return replace(reply, text=f"{tag_of(request.text)} {reply.text}")

    endpoint.responder = respond
    endpoint.faults = [Fault(kind, probability=0.05, seed=seed) for seed, kind in enumerate(KINDS)]
    return endpoint


def tag_of(text):
    return text.split("(tag ")[1].split(")")[0]


async def ask(graph, number, threads):
    """A third of the questions each way; what comes out is the answer, or one of our own errors."""
    given = {"question": f"(tag T{number:04}T) Why do plants grow?"}
    try:
        if number % 3 == 0:
            return "".join([text async for text in astream_answer(graph, given)])
        if number % 3 == 1:
            return (await graph.ainvoke(given))["answer"]
        return (await asyncio.get_running_loop().run_in_executor(threads, graph.invoke, given))["answer"]
    except SotError as error:
        return error


async def ask_all(graph):
    # Not `asyncio.to_thread`: the event loop's own few threads, which look up names, would wait for whole runs.
    with ThreadPoolExecutor(40) as threads:
        outcomes = await asyncio.gather(*(ask(graph, number, threads) for number in range(QUESTIONS)))
    for _ in range(100):
        if asyncio.all_tasks() == {asyncio.current_task()}:
            break
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return outcomes


def check(outcomes):
    answers = {number: outcome for number, outcome in enumerate(outcomes) if isinstance(outcome, str)}
    for number, answer in answers.items():
        tags = {word for word in answer.split() if word.startswith("T") and word.endswith("T") and len(word) == 6}
        assert tags <= {f"T{number:04}T"}
    assert len(answers) >= QUESTIONS / 2, Counter(map(repr, outcomes))


def round_of(endpoint, options):
    """One graph, one event loop: both are gone when it is over."""
    graph = create_sot_graph(endpoint.chat_model(), options=options)
    check(asyncio.run(ask_all(graph)))
    assert endpoint.requests
    endpoint.reset()


def open_sockets():
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found += os.readlink(descriptor).startswith("socket:")
        except OSError:  # closed in the meantime
            continue
    return found


def settles(condition):
    """Connections are closed by other threads, which tell nobody."""
    for _ in range(500):
        gc.collect()
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.timeout(max(180, 4 * QUESTIONS))
def test_all_end_none_are_mixed_and_nothing_is_left(faulty, caplog):
    caplog.set_level(logging.CRITICAL, "sot_graph")  # pytest keeps what is logged
    patience = max(10.0, QUESTIONS / 8)  # two cores work through them in that time; a stall lasts as long
    options = SotOptions(point_timeout=patience, skeleton_timeout=patience, deadline=2 * patience)
    sockets = open_sockets()
    round_of(faulty, options)  # what is loaded and started once is there after it
    assert settles(lambda: open_sockets() <= sockets + OF_THE_LIBRARYS_LOOP), "sockets are left open"
    threads, blocks = threading.active_count(), sys.getallocatedblocks()
    round_of(faulty, options)
    assert settles(lambda: open_sockets() <= sockets + OF_THE_LIBRARYS_LOOP), "sockets are left open"
    assert settles(lambda: sys.getallocatedblocks() - blocks < QUESTIONS * BLOCKS_A_QUESTION), "memory grows"
    assert settles(lambda: threading.active_count() <= threads), "threads are left"


def test_the_librarys_event_loop_holds_nothing_of_the_run_that_started_it():
    class Run:
        """Whatever the first run has in its context."""

    variable: ContextVar[Run] = ContextVar("variable")
    context = copy_context()
    context.run(variable.set, Run())
    held = weakref.ref(context[variable])
    loop = context.run(_LibraryLoop().get)
    del context
    assert settles(lambda: held() is None)
    loop.call_soon_threadsafe(loop.stop)
    assert settles(lambda: not loop.is_running())
    loop.close()
