"""What thoughts cost with a skeleton and without: 300 tokens of thought before a reply, on a simulated endpoint.

uv run python -m benchmarks.thinking
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sot_graph import SotOptions, SotPrompts, astream_answer, create_sot_graph
from sot_graph.testing import ChatRequest, Physics, Reply, SimulatedEndpoint, SkeletonResponder
from sot_graph.types import ChatTurn, RouteName

PHYSICS = Physics(time_to_first_token=0.4, tokens_per_second=60.0)
THOUGHT = f"<think>{'hm, ' * 296}</think>\n"  # 300 tokens
write = SkeletonResponder(points=8, tokens_per_point=60)
ASK = {"question": "How do plants grow?"}
MUCH, LITTLE = {"reasoning_effort": "high"}, {"reasoning_effort": "minimal"}


@dataclass(frozen=True)
class Way:
    """A way to answer, and where its model thinks."""

    name: str
    direct: bool
    prompts: SotPrompts


WAYS = [
    Way("direct, thinking", True, SotPrompts(direct_settings=MUCH)),
    Way("direct, not thinking", True, SotPrompts(direct_settings=LITTLE)),
    Way("skeleton, thinking everywhere", False, SotPrompts(skeleton_settings=MUCH, expansion_settings=MUCH)),
    Way(
        "skeleton, thinking for the skeleton only", False, SotPrompts(skeleton_settings=MUCH, expansion_settings=LITTLE)
    ),
    Way("skeleton, thinking nowhere", False, SotPrompts(skeleton_settings=LITTLE, expansion_settings=LITTLE)),
]


def respond(request: ChatRequest) -> Reply:
    """Eight points of sixty tokens; the request's `reasoning_effort` says whether a thought goes before."""
    reply = write(request)
    return Reply(THOUGHT + reply.text) if request.raw.get("reasoning_effort") == "high" else reply


def directly(_question: str, _history: Sequence[ChatTurn]) -> RouteName:
    """A router that never takes the skeleton."""
    return "direct"


async def measure(way: Way) -> str:
    """A row of the table."""
    with SimulatedEndpoint(respond, physics=PHYSICS) as endpoint:
        options = SotOptions(dispatch="send" if way.direct else "pipelined")
        router = directly if way.direct else None
        graph = create_sot_graph(endpoint.chat_model(), router=router, prompts=way.prompts, options=options)
        begun, first = time.monotonic(), None
        async for _ in astream_answer(graph, ASK):
            first = first or time.monotonic() - begun
        whole = time.monotonic() - begun
        tokens = sum(entry.tokens_sent for entry in endpoint.requests)
    return f"| {way.name} | {first or 0:.1f} s | {whole:.1f} s | {tokens:,} |"


async def main() -> None:
    """Print the table."""
    print("| | first word | whole answer | tokens written |\n|---|---|---|---|")
    for row in await asyncio.gather(*map(measure, WAYS)):
        print(row)


if __name__ == "__main__":
    asyncio.run(main())
