"""What pipelined dispatch gives, by the skeleton's format.

    python benchmarks/pipelining.py

Physics of a hosted model: 0.4 s to the first token, 60 tokens/s for each call.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from sot_graph import SotOptions, astream_answer, create_sot_graph
from sot_graph.testing import Physics, SimulatedEndpoint, SkeletonResponder

ROUNDS = 5
FIRST_CHARACTERS = 40
QUESTION = {"question": "How do plants grow?"}
SHAPES = {"8 points of 60 tokens": [60] * 8, "three of 150, then five of 60": [150] * 3 + [60] * 5}
WAYS: dict[str, SotOptions] = {
    "`send`": SotOptions(),
    "`pipelined`": SotOptions(dispatch="pipelined"),
    "`pipelined`, the skeleton as a list": SotOptions(dispatch="pipelined", skeleton_format="list"),
}


async def read(graph: Any) -> tuple[float, float]:
    """Seconds to the first characters, and to the whole answer."""
    started, first, characters = time.monotonic(), 0.0, 0
    async for text in astream_answer(graph, QUESTION):
        characters += len(text)
        if characters >= FIRST_CHARACTERS:
            first = first or time.monotonic() - started
    return first, time.monotonic() - started


async def main() -> None:
    """Measure all ways by turns, and print the medians."""
    for title, tokens in SHAPES.items():
        lengths = [0, *tokens]
        responder = SkeletonResponder(points=len(tokens), tokens_per_point=lengths.__getitem__)
        physics = Physics(time_to_first_token=0.4, tokens_per_second=60)
        with SimulatedEndpoint(physics=physics, responder=responder) as endpoint:
            model = ChatOpenAI(model="simulated", base_url=endpoint.base_url, api_key=SecretStr("any"))
            graphs = {name: create_sot_graph(model, options=options) for name, options in WAYS.items()}
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
            for number in range(ROUNDS + 1):
                for name, graph in graphs.items():
                    seconds = await read(graph)
                    if number:  # the first loads and connects
                        taken[name].append(seconds)
        print(f"| {title} | first {FIRST_CHARACTERS} characters, s | whole answer, s |\n|---|---|---|")
        for name, both in taken.items():
            first, whole = (statistics.median(values) for values in zip(*both, strict=True))
            print(f"| {name} | {first:.2f} | {whole:.2f} |")


if __name__ == "__main__":
    asyncio.run(main())
