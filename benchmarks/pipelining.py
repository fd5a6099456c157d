"""What pipelined dispatch gives, by the skeleton's format and by what later points wait for.

    python benchmarks/pipelining.py

Physics of a hosted model: 0.4 s to the first token, 60 tokens/s for each call.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from sot_graph import SotOptions, astream_answer, create_sot_graph
from sot_graph.nodes import pipelined_dispatch
from sot_graph.testing import Physics, SimulatedEndpoint, SkeletonResponder

ROUNDS = 5
FIRST_CHARACTERS = 40
QUESTION = {"question": "How do plants grow?"}
SHAPES = {"8 points of 60 tokens": [60] * 8, "three of 150, then five of 60": [150] * 3 + [60] * 5}
WAYS: dict[str, tuple[SotOptions, bool]] = {
    "`send`": (SotOptions(), False),
    "`pipelined`": (SotOptions(dispatch="pipelined"), False),
    "`pipelined`, the skeleton as a list": (SotOptions(dispatch="pipelined", skeleton_format="list"), False),
    "`pipelined`, but only point 1 before the whole skeleton": (SotOptions(dispatch="pipelined"), True),
}


class _OnlyTheFirst(pipelined_dispatch._Pipeline):
    """The choice that was not made: later points wait for the whole skeleton."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_whole = asyncio.Event()

    async def draft(self) -> Any:
        step = await super().draft()
        self._is_whole.set()
        return step

    def _begin(self, point: Any) -> Awaitable[Any]:
        begin = super()._begin

        async def later() -> Any:
            await self._is_whole.wait()
            return await begin(point)

        return begin(point) if point["index"] == 1 else later()


@contextmanager
def waiting_for_the_whole(wanted: bool) -> Iterator[None]:
    """The variant, for the length of the block."""
    usual = pipelined_dispatch._Pipeline
    pipelined_dispatch._Pipeline = _OnlyTheFirst if wanted else usual  # type: ignore[misc]
    try:
        yield
    finally:
        pipelined_dispatch._Pipeline = usual  # type: ignore[misc]


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
    for title, words in SHAPES.items():
        lengths = [0, *words]
        responder = SkeletonResponder(points=len(words), words_per_point=lengths.__getitem__)
        physics = Physics(time_to_first_token=0.4, tokens_per_second=60)
        with SimulatedEndpoint(physics=physics, responder=responder) as endpoint:
            model = ChatOpenAI(model="simulated", base_url=endpoint.base_url, api_key=SecretStr("any"))
            graphs = {name: create_sot_graph(model, options=options) for name, (options, _) in WAYS.items()}
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
            for number in range(ROUNDS + 1):
                for name, graph in graphs.items():
                    with waiting_for_the_whole(WAYS[name][1]):
                        seconds = await read(graph)
                    if number:  # the first loads and connects
                        taken[name].append(seconds)
        print(f"| {title} | first {FIRST_CHARACTERS} characters, s | whole answer, s |\n|---|---|---|")
        for name, both in taken.items():
            first, whole = (statistics.median(values) for values in zip(*both, strict=True))
            print(f"| {name} | {first:.2f} | {whole:.2f} |")


if __name__ == "__main__":
    asyncio.run(main())
