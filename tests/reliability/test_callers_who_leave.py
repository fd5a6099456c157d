"""When the caller goes away, every model call is closed and nothing is left running."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing, closing

import pytest

from sot_graph import astream_answer, create_sot_graph, stream_answer
from sot_graph.testing import Fault, Stall

ASK = {"question": "How do plants grow?"}
EIGHT = 8


def one_point(request):
    return "one point" in request.last_user


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
