"""What a model router costs, with and without speculation.

    uv run python benchmarks/speculation.py [--rounds 3]

On a simulated endpoint in this process (0.4 s to the first token, 60 tokens/s, 8 points of 60 tokens), whose router
replies A, a list. Medians of interleaved rounds; the limit is max(router, skeleton) + expansions, by the same timings.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics

from sot_graph import ModelRouter, SotOptions, create_sot_graph
from sot_graph.testing import ChatRequest, Physics, Reply, SimulatedEndpoint, SkeletonResponder

QUESTION = {"question": "What are the most effective ways to deal with stress?"}
write = SkeletonResponder(points=8, words_per_point=60)


def respond(request: ChatRequest) -> Reply:
    """A letter for the router, a skeleton or a point for everybody else."""
    return Reply('{"kind":"A"}') if "Which letter?" in request.last_user else write(request)


async def measure(endpoint: SimulatedEndpoint, rounds: int) -> dict[str, float]:
    """Seconds to the whole answer, and the limit."""
    chat = endpoint.chat_model()
    graphs = {
        "no router": create_sot_graph(chat),
        "model router": create_sot_graph(chat, router=ModelRouter()),
        "model router, speculative": create_sot_graph(chat, router=ModelRouter(), options=SotOptions(speculative=True)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in graphs}
    limits: list[float] = []
    for _ in range(rounds + 1):
        for name, graph in graphs.items():
            timings = (await graph.ainvoke(QUESTION))["timings"]
            seconds[name].append(timings["total"])
            if name.endswith("speculative"):
                points = timings["points"]
                expanding = max(point["end"] for point in points) - min(point["start"] for point in points)
                limits.append(max(timings["route"]["end"], timings["skeleton"]["end"]) + expanding)
    figures = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    figures["max(router, skeleton) + expansions"] = statistics.median(limits[1:])
    figures["speculative / limit"] = figures["model router, speculative"] / statistics.median(limits[1:])
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with SimulatedEndpoint(respond, physics=Physics()) as endpoint:
        for name, value in asyncio.run(measure(endpoint, rounds)).items():
            print(f"{name:40} {value:7.3f}")


if __name__ == "__main__":
    main()
