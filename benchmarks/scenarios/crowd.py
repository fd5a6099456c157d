"""Many questions at once in one process, on an endpoint in another process that answers at once."""

from __future__ import annotations

from functools import partial

from benchmarks.contenders import SCRIPTS
from benchmarks.crowding import crowd_in_a_process
from benchmarks.figures import Result
from benchmarks.rounds import interleaved
from benchmarks.scenarios.base import Plan, Scenario
from tests.support.endpoint_process import EndpointProcess

__all__ = ["SCENARIO"]

_POINTS = 8
_SIZES = (1, 100, 1000)
_QUICK_SIZES = (50,)


async def measure(plan: Plan) -> Result:
    """Each contender and size in a process of its own, interleaved."""
    sizes = _QUICK_SIZES if plan.quick else _SIZES
    names = (*SCRIPTS, "sot_graph")
    result = Result("crowd", {"points": _POINTS, "tokens a point": 60})
    with EndpointProcess(ttft=0, tps=0, points=_POINTS, tokens=60) as endpoint:
        ways = {
            f"{name}, {size} at once": partial(crowd_in_a_process, name, size, _POINTS, endpoint.base_url)
            for size in sizes
            for name in names
        }
        plan.steps.begin(len(ways) * plan.rounds)
        crowds = await interleaved(ways, plan.rounds, plan.steps)
    for size in sizes:
        for name in names:
            found = crowds[f"{name}, {size} at once"]
            rate = [crowd.questions / crowd.seconds for crowd in found]
            result.add(f"questions a second, {size} at once", name, "1/s", rate)
            result.add(f"peak memory, {size} at once", name, "MB", [crowd.peak_megabytes for crowd in found])
            result.add(f"questions answered, {size} at once", name, "", [crowd.done for crowd in found])
        rates = result.groups[f"questions a second, {size} at once"]
        for script in SCRIPTS:
            result.compare(
                f"questions a second, {size} at once: sot_graph / {script}", rates["sot_graph"], rates[script]
            )
    return result


SCENARIO = Scenario("crowd", "1, 100 and 1,000 questions at once", measure, 1, 1)
