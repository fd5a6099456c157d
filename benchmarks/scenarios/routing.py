"""What a model router costs, with and without speculation: the limit is max(router, skeleton) + expansions."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import QUESTION
from benchmarks.figures import Figure, Result
from benchmarks.physics import hosted
from benchmarks.rounds import interleaved
from benchmarks.scenarios.base import Plan, Scenario
from sot_graph import ModelRouter, SotOptions, create_sot_graph
from sot_graph.testing import ChatRequest, Reply, SimulatedEndpoint, SkeletonResponder

__all__ = ["SCENARIO"]

_SPECULATIVE = "model router, speculative"
_WHOLE = "whole answer"
_write = SkeletonResponder(points=8, tokens_per_point=60)


def _respond(request: ChatRequest) -> Reply:
    """A letter for the router, a skeleton or a point for everybody else."""
    return Reply('{"kind":"A"}') if "Which letter?" in request.last_user else _write(request)


async def measure(plan: Plan) -> Result:
    """By the graph's own clock, on an endpoint in this process."""
    with SimulatedEndpoint(_respond, physics=hosted) as endpoint:
        chat = endpoint.chat_model()
        graphs = {
            "no router": create_sot_graph(chat),
            "model router": create_sot_graph(chat, router=ModelRouter()),
            _SPECULATIVE: create_sot_graph(chat, router=ModelRouter(), options=SotOptions(speculative=True)),
        }

        async def ask(graph: Any) -> Any:
            return (await graph.ainvoke({"question": QUESTION}))["timings"]

        plan.steps.begin((plan.rounds + 1) * len(graphs))
        ways = {name: (lambda graph=graph: ask(graph)) for name, graph in graphs.items()}
        timings = await interleaved(ways, plan.rounds + 1, plan.steps)
    result = Result("routing", {"points": 8, "tokens a point": 60})
    for name, runs in timings.items():
        result.add(_WHOLE, name, "s", [run["total"] for run in runs[1:]])  # the first round warms up
    limit = result.add(
        _WHOLE, "max(router, skeleton) + expansions", "s", [_limit(run) for run in timings[_SPECULATIVE][1:]]
    )
    measured: dict[str, Figure] = result.groups[_WHOLE]
    result.compare("speculative / limit", measured[_SPECULATIVE], limit)
    return result


def _limit(timings: Any) -> float:
    points = timings["points"]
    expanding = max(point["end"] for point in points) - min(point["start"] for point in points)
    return float(max(timings["route"]["end"], timings["skeleton"]["end"]) + expanding)


SCENARIO = Scenario("routing", "a model router, with and without speculation", measure, 1)
