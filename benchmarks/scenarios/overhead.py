"""CPU time a point, from one point to a thousand, on an endpoint in another process that answers at once."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from benchmarks.contenders import QUESTION, Setup, contending
from benchmarks.figures import Result
from benchmarks.rounds import cpu_milliseconds, interleaved
from benchmarks.scenarios.base import Plan, Scenario
from tests.support.endpoint_process import EndpointProcess

__all__ = ["SCENARIO", "group"]

POINTS = (1, 10, 100, 1000)
_QUICK_POINTS = (10, 1000)
_WORDS = 20
_POINTS_A_ROUND = 200
"""Small answers are measured several times in a round, or the clock's steps show."""


def group(points: int) -> str:
    """Where the figures for so many points are."""
    return f"CPU a point, {points} points"


async def measure(plan: Plan) -> Result:
    """Answers of every size in interleaved rounds."""
    sizes = _QUICK_POINTS if plan.quick else POINTS
    names = ("sot_graph",) if plan.quick else ("instructor+gather", "sot_graph", "sot_graph pipelined")
    result = Result("overhead", {"words a point": _WORDS})
    async with AsyncExitStack() as stack:
        ways = {}
        for points in sizes:
            endpoint = stack.enter_context(EndpointProcess(ttft=0, tps=0, points=points, words=_WORDS))
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


SCENARIO = Scenario("overhead", "CPU time a point, 1 to 1,000 points", measure, 2, 1)
