"""How the speed-up over one sequential answer grows with the number of points."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from benchmarks.contenders import SCRIPTS, Setup, contending
from benchmarks.figures import Result
from benchmarks.physics import hosted
from benchmarks.rounds import settle
from benchmarks.scenarios.base import Plan, Scenario
from benchmarks.scenarios.hosted import WHOLE, Shape, first_words_seconds, run_whole, warm
from tests.support.endpoint_process import EndpointProcess

__all__ = ["NAMES", "POINTS", "SCENARIO"]

POINTS = (1, 2, 4, 8, 16)
NAMES = (*SCRIPTS, "sot_graph", "sot_graph pipelined")


async def measure(plan: Plan) -> Result:
    """The direct answers are single streams, and run beside the others."""
    await warm(Shape())
    result = Result("speed-up", {"tokens a point": 60})
    async with AsyncExitStack() as stack:
        contenders = {}
        for points in POINTS:
            endpoint = EndpointProcess(
                ttft=hosted.time_to_first_token, tps=hosted.tokens_per_second, points=points, tokens=60
            )
            setup = Setup(stack.enter_context(endpoint).base_url, points)
            contenders[points] = await stack.enter_async_context(contending(setup, "direct", *NAMES))
        plan.steps.begin(plan.rounds * len(POINTS) * len(NAMES))
        settle()
        for _ in range(plan.rounds):
            written = asyncio.gather(*(first_words_seconds(each["direct"]) for each in contenders.values()))
            for points, each in contenders.items():
                for name in NAMES:
                    plan.steps.step(f"{name}, {points} points")
                    _note(result, points, name, (await run_whole(each[name])).whole)
            for points, read in zip(POINTS, await written, strict=True):
                _note(result, points, "direct", read.whole)
    for points in POINTS:
        group = result.groups[f"{WHOLE}, {points} points"]
        for name in NAMES:
            result.compare(f"direct / {name}, {points} points", group["direct"], group[name])
    return result


def _note(result: Result, points: int, name: str, seconds: float) -> None:
    known = result.find(f"{WHOLE}, {points} points", name)
    result.add(f"{WHOLE}, {points} points", name, "s", [*(known.values if known else ()), seconds])


SCENARIO = Scenario("speed-up", "1 to 16 points of 60 tokens", measure, 1)
