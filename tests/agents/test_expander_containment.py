"""Expanders that take no cancellation, or raise what is meant to end a task or a process: the run goes on."""

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator

import pytest
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from sot_graph import CallLimiter, SotOptions, create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

ASK = {"question": "How do plants grow?"}
TITLES = ["Seed", "Soil", "Sun"]


def graph_of(expander, **kwargs):
    model = ScriptedChatModel(answer_skeleton_of_thought(TITLES, "By the model."))
    return create_sot_graph(model, expander=expander, **kwargs)


@tool
def look_up(query: str) -> str:
    """Look something up."""
    return f"All about {query}."


class Stubborn:
    """Writes the second point for as long as it wants to, whoever cancels it."""

    def __init__(self):
        self.begun = threading.Event()
        self.ended = threading.Event()
        self._held = []

    async def hold(self):
        released = asyncio.Event()
        self._held.append((asyncio.get_running_loop(), released))
        self.begun.set()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    def release(self):
        for loop, released in self._held:
            loop.call_soon_threadsafe(released.set)

    async def write(self, given):
        if given["point"]["index"] == 2:
            await self.hold()
            try:
                look_up.invoke({"query": "soil"})
                raise ValueError("nobody listens")
            finally:
                self.ended.set()
        return "Text."

    async def write_in_pieces(self, given):
        yield "Text"
        if given["point"]["index"] == 2:
            await self.hold()
            try:
                yield " that is too late"
            finally:
                self.ended.set()
        yield "."

    @property
    def write_in_a_graph(self):
        class Given(TypedDict):
            point: dict
            text: str

        async def write(given):
            return {"text": await self.write(given)}

        builder = StateGraph(Given)
        builder.add_node("write", write)
        builder.add_edge(START, "write")
        return builder.compile()


@pytest.fixture
async def stubborn() -> AsyncIterator[Stubborn]:
    writer = Stubborn()
    yield writer
    writer.release()
    await asyncio.to_thread(writer.ended.wait, 20)


@pytest.fixture(params=["write", "write_in_pieces", "write_in_a_graph"])
def write(request, stubborn):
    return getattr(stubborn, request.param)


LATE = SotOptions(point_timeout=0.3)


async def test_one_that_takes_no_cancellation_is_left_to_itself(run, write, stubborn, caplog):
    result = await run(graph_of(write, options=LATE))
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "timed_out", "ok"]
    assert "point_timeout" in result["expansions"][1]["error"]
    assert not stubborn.ended.is_set()
    told = [record.message for record in caplog.records if "goes on" in record.message]
    assert len(told) == 1
    assert told[0].startswith("Point 2: its expander goes on 0.2 s after it was cancelled.")


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
async def test_a_deadline_leaves_it_too(write, stubborn, dispatch):
    graph = graph_of(write, options=SotOptions(deadline=0.5, dispatch=dispatch))
    result = await graph.ainvoke(ASK)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "timed_out", "ok"]
    assert not stubborn.ended.is_set()


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
async def test_a_cancelled_run_leaves_it_too(write, stubborn, dispatch):
    running = asyncio.create_task(graph_of(write, options=SotOptions(dispatch=dispatch)).ainvoke(ASK))
    await asyncio.to_thread(stubborn.begun.wait, 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not stubborn.ended.is_set()


async def test_what_it_does_after_that_reaches_nobody(write, stubborn, caplog):
    events = [event async for event in graph_of(write, options=LATE).astream(ASK, stream_mode="custom")]
    stubborn.release()
    await asyncio.to_thread(stubborn.ended.wait, 20)
    gc.collect()
    of_point = [event["type"] for event in events if event.get("index") == 2]
    assert of_point[-1] == "sot.point.end"
    assert "too late" not in str(events)
    assert "sot.point.tool" not in of_point
    # The OpenAI client leaves its generators at the end of a stream, and asyncio fails to close them.
    untold = [each.getMessage() for each in caplog.records if "never retrieved" in each.getMessage()]
    assert [message for message in untold if "async_generator_athrow" not in message] == []


async def test_its_place_goes_to_the_next(write):
    limiter = CallLimiter(1)
    graph = graph_of(write, options=SotOptions(point_timeout=0.3, max_concurrency=1), limiter=limiter)
    await graph.ainvoke(ASK)
    assert limiter.in_flight == 0
    assert (await graph_of(lambda given: "Text.", limiter=limiter).ainvoke(ASK))["answer"].count("Text.") == 3


async def test_one_that_ends_when_it_is_cancelled_has_the_time_to_clean_up(caplog):
    cleaned = []

    async def write(given):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(given["point"]["index"])

    await graph_of(write, options=LATE).ainvoke(ASK)
    assert sorted(cleaned) == [1, 2, 3]
    assert "goes on" not in caplog.text


@pytest.mark.parametrize("kind", ["a coroutine function", "a graph", "a generator"])
def test_the_end_of_a_program_does_not_wait_for_it(kind):
    script = textwrap.dedent(
        """
        import asyncio, sys
        from langgraph.graph import START, MessagesState, StateGraph
        from sot_graph import SotOptions, create_sot_graph
        from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

        async def for_ever():
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        async def write(given):
            await asyncio.gather(for_ever())

        async def pieces(given):
            yield "Begun."
            await for_ever()

        builder = StateGraph(MessagesState)
        builder.add_node("write", write)
        builder.add_edge(START, "write")
        expander = {"a coroutine function": write, "a graph": builder.compile(), "a generator": pieces}[sys.argv[1]]
        model = ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil", "Sun"]))
        graph = create_sot_graph(model, expander=expander, options=SotOptions(point_timeout=0.2))
        print([point["status"] for point in asyncio.run(graph.ainvoke({"question": "Why?"}))["expansions"]])
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, kind], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout == "['timed_out', 'timed_out', 'timed_out']\n", ended.stderr
    assert ended.returncode == 0


# --- What is raised ---


class UnusualError(BaseException):
    """As libraries have that want nobody to catch it."""


RAISED = [
    SystemExit(3),
    GeneratorExit(),
    UnusualError("!"),
    asyncio.CancelledError(),
    StopAsyncIteration(),
    MemoryError(),
]


def raising(error):
    """The kinds of expanders, each of which raises this for the second point."""

    def write(given):
        if given["point"]["index"] == 2:
            raise error
        return "Text."

    async def awrite(given):
        return write(given)

    def pieces(given):
        yield "Te"
        yield write(given)[2:]

    async def apieces(given):
        yield "Te"
        yield write(given)[2:]

    return {"a function": write, "a coroutine function": awrite, "a generator": pieces, "an async one": apieces}


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", ["a function", "a coroutine function", "a generator", "an async one"])
async def test_whatever_one_raises_fails_its_own_point(run, kind, error):
    result = await run(graph_of(raising(error)[kind]))
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "failed", "ok"]
    assert "the expander" in result["expansions"][1]["error"]
