"""CPU time a point, from one point to a thousand, on an endpoint in another process that answers at once.

And how long a thousand points take beside a thousand bare calls of the same model, which do nothing but ask.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import httpx2
from langchain_openai import ChatOpenAI
from openai import DefaultAioHttpClient
from pydantic import SecretStr

from benchmarks.contenders import QUESTION, SCRIPTS, Setup, contending
from benchmarks.figures import Result
from benchmarks.rounds import cpu_milliseconds, interleaved
from benchmarks.scenarios.base import Plan, Scenario
from sot_graph.testing import SkeletonResponder
from tests.support.endpoint_process import EndpointProcess

__all__ = ["SCENARIO", "THOUSAND", "group"]

POINTS = (1, 10, 100, 1000)
_QUICK_POINTS = (10, 1000)
_TOKENS = 20
_POINTS_A_ROUND = 200
"""Small answers are measured several times in a round, or the clock's steps show."""


def group(points: int) -> str:
    """Where the figures for so many points are."""
    return f"CPU a point, {points} points"


async def measure(plan: Plan) -> Result:
    """Answers of every size in interleaved rounds."""
    sizes = _QUICK_POINTS if plan.quick else POINTS
    names = ("sot_graph",) if plan.quick else (*SCRIPTS, "sot_graph", "sot_graph pipelined")
    result = Result("overhead", {"tokens a point": _TOKENS})
    async with AsyncExitStack() as stack:
        ways = {}
        for points in sizes:
            endpoint = stack.enter_context(EndpointProcess(ttft=0, tps=0, points=points, tokens=_TOKENS))
            setup = Setup(endpoint.base_url, points)
            for name, contender in (await stack.enter_async_context(contending(setup, *names))).items():
                assert contender.answer is not None
                answer = partial(contender.answer, QUESTION)
                await answer()  # imports, schemas, connections
                ways[name, points] = partial(cpu_milliseconds, answer, max(1, _POINTS_A_ROUND // points))
        labelled = {f"{name}, {points} points": way for (name, points), way in ways.items()}
        plan.steps.begin(len(ways) * plan.rounds)
        spent = await interleaved(labelled, plan.rounds, plan.steps)
    for name, points in ways:
        values = spent[f"{name}, {points} points"]
        result.add(group(points), name, "ms", [value / points for value in values])
    for name in names:
        result.compare(
            f"{name}, 1000 points / 10 points", result.groups[group(1000)][name], result.groups[group(10)][name]
        )
    return result


async def beside_bare_calls(plan: Plan) -> Result:
    """A thousand points, and a thousand bare calls of the same model, which do nothing but ask."""
    points = POINTS[-1]
    result = Result("thousand", {"points": points, "tokens a point": _TOKENS})
    with EndpointProcess(ttft=0, tps=0, points=points, tokens=_TOKENS) as endpoint:
        titles = SkeletonResponder(points=points).titles
        # By httpx2, the OpenAI client's default, a thousand at once take minutes: its pool looks at all of them
        # whenever one comes or goes.
        client = DefaultAioHttpClient(limits=httpx2.Limits(max_connections=points, max_keepalive_connections=points))
        chat = ChatOpenAI(
            model="simulated", base_url=endpoint.base_url, api_key=SecretStr("any"), http_async_client=client
        )

        async def bare() -> None:
            await asyncio.gather(*(chat.ainvoke(f"{QUESTION} Write only this point: {title}") for title in titles))

        async with client, contending(Setup(endpoint.base_url, points), "sot_graph") as contenders:
            ours = contenders["sot_graph"].answer
            assert ours is not None
            ways = {"bare calls": partial(_seconds, bare), "sot_graph": partial(_seconds, partial(ours, QUESTION))}
            plan.steps.begin(len(ways) * (plan.rounds + 1))
            took = await interleaved(ways, plan.rounds + 1, plan.steps)
    for name, values in took.items():
        result.add("seconds", name, "s", values[1:])  # the first round is for connections
    result.compare("sot_graph / bare calls", *(result.groups["seconds"][name] for name in ("sot_graph", "bare calls")))
    return result


async def _seconds(way: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await way()
    return time.perf_counter() - started


SCENARIO = Scenario("overhead", "CPU time a point, 1 to 1,000 points", measure, 2, 1)
THOUSAND = Scenario("thousand", "1,000 points beside 1,000 bare calls", beside_bare_calls, 3, 1)
