"""How the speed-up over one sequential answer grows with the number of points."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from benchmarks.contenders import PIPELINED, Setup, make
from benchmarks.figures import Result
from benchmarks.physics import hosted
from benchmarks.scenarios.base import Plan, Scenario
from benchmarks.scenarios.hosted import WHOLE, Shape, first_words_seconds, run_whole, warm
from sot_graph.testing import EndpointProcess

__all__ = ["NAMES", "POINTS", "SCENARIO"]

POINTS = (1, 2, 4, 8, 16)
NAMES = ["instructor+gather", "sot_graph", *(["sot_graph pipelined"] if PIPELINED else [])]


async def measure(plan: Plan) -> Result:
    """The direct answers are single streams, and run beside the others."""
    await warm(Shape())
    result = Result("speed-up", {"words a point": 60})
    with ExitStack() as stack:
        setups = {
            points: Setup(
                stack.enter_context(
                    EndpointProcess(ttft=hosted.time_to_first_token, tps=hosted.tokens_per_second, points=points)
                ).base_url,
                points,
            )
            for points in POINTS
        }
        plan.steps.begin(plan.rounds * len(POINTS) * len(NAMES))
        for _ in range(plan.rounds):
            direct = [make(setup, "direct")["direct"] for setup in setups.values()]
            written = asyncio.gather(*map(first_words_seconds, direct))
            for points, setup in setups.items():
                for name, contender in make(setup, *NAMES).items():
                    plan.steps.step(f"{name}, {points} points")
                    _note(result, points, name, (await run_whole(contender)).whole)
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


SCENARIO = Scenario("speed-up", "1 to 16 points of 60 tokens", measure, 2)
