"""The CPU time of a question: 10 points of 60 tokens, on an endpoint in another process that answers at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import langsmith
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.contenders import QUESTION, SCRIPTS, Contender, Setup, chat_model, contending, sot_options
from benchmarks.figures import Result
from benchmarks.rounds import cpu_milliseconds, interleaved
from benchmarks.scenarios.base import Plan, Scenario
from benchmarks.sink import trace_sink
from sot_graph import astream_answer, create_sot_graph
from tests.support.endpoint_process import EndpointProcess

__all__ = ["CPU", "SCENARIO", "STREAMING"]

POINTS = 10
CPU = "CPU a question"
STREAMING = "CPU of ten streamed points"
_TIMES = 5
_BARE = "bare chat.astream in gather"
_STREAMED = "astream_answer"
_COMPARED = (*SCRIPTS, "sot_graph")

_Way = Callable[[], Awaitable[object]]


async def measure(plan: Plan) -> Result:
    """All ways in interleaved rounds."""
    result = Result("cost", {"points": POINTS, "tokens a point": 60, "questions a round": _TIMES})
    with EndpointProcess(ttft=0, tps=0, points=POINTS, tokens=60) as endpoint, trace_sink() as sink:
        setup = Setup(endpoint.base_url, POINTS)
        with tempfile.TemporaryDirectory() as folder:
            kept = AsyncSqliteSaver.from_conn_string(str(Path(folder) / "checkpoints.sqlite"))
            async with kept as saver, contending(setup) as contenders:
                whole = _whole_ways(contenders, setup, saver, sink)
                streaming = _streaming_ways(setup)
                if plan.quick:
                    whole = {name: whole[name] for name in _COMPARED}
                plan.steps.begin((plan.rounds + 1) * (len(whole) + len(streaming)))
                # The first round is for imports and connections.
                spent = await _spent({**whole, **streaming}, plan)
    for name in whole:
        figure = result.add(CPU, name, "ms", spent[name])
        result.add("questions a second on one core", name, "1/s", [1000 / value for value in figure.values])
    for name in streaming:
        result.add(STREAMING, name, "ms", spent[name])
    _compare(result)
    return result


async def _spent(ways: dict[str, _Way], plan: Plan) -> dict[str, list[float]]:
    measured = {name: partial(cpu_milliseconds, way, _TIMES) for name, way in ways.items()}
    spent = await interleaved(measured, plan.rounds + 1, plan.steps)
    return {name: values[1:] for name, values in spent.items()}


def _whole_ways(contenders: dict[str, Contender], setup: Setup, saver: AsyncSqliteSaver, sink: str) -> dict[str, _Way]:
    ways: dict[str, _Way] = {
        name: partial(contender.answer, QUESTION) for name, contender in contenders.items() if contender.answer
    }
    graph = create_sot_graph(chat_model(setup.base_url), options=sot_options(setup))
    ways["sot_graph, read by astream_answer"] = lambda: _read(graph, {"question": QUESTION})
    client = langsmith.Client(api_url=sink, api_key="any")

    async def traced() -> None:
        with langsmith.tracing_context(enabled=True, client=client):
            await graph.ainvoke({"question": QUESTION})
        client.flush()

    kept = create_sot_graph(chat_model(setup.base_url), options=sot_options(setup), checkpointer=saver)

    async def checkpointed() -> None:
        await kept.ainvoke({"question": QUESTION}, {"configurable": {"thread_id": uuid4().hex}})

    return {**ways, "sot_graph, traced": traced, "sot_graph, SQLite checkpoints": checkpointed}


def _streaming_ways(setup: Setup) -> dict[str, _Way]:
    """The same ten replies, token by token: bare, and read through the graph, which is given the skeleton."""
    chat = chat_model(setup.base_url)
    titles = [f"Way number {number}" for number in range(1, POINTS + 1)]
    graph = create_sot_graph(chat, options=sot_options(setup))

    async def bare() -> None:
        async def one(number: int, title: str) -> None:
            async for _ in chat.astream([HumanMessage(f"Write this one point:\n<point>{number}. {title}</point>")]):
                pass

        await asyncio.gather(*(one(number, title) for number, title in enumerate(titles, start=1)))

    return {_BARE: bare, _STREAMED: lambda: _read(graph, {"question": QUESTION, "given_skeleton": titles})}


async def _read(graph: Any, asked: dict[str, Any]) -> None:
    async with aclosing(astream_answer(graph, asked)) as pieces:  # type: ignore[type-var]
        async for _ in pieces:
            pass


def _compare(result: Result) -> None:
    cpu, streaming = result.groups[CPU], result.groups[STREAMING]
    for script in SCRIPTS:
        for name, figure in cpu.items():
            if name != script:
                result.compare(f"{name} / {script}", figure, cpu[script])
    result.compare(f"{_STREAMED} / {_BARE}", streaming[_STREAMED], streaming[_BARE])


SCENARIO = Scenario("cost", "CPU time of a question", measure, 7, 3)
