"""The moving picture of README: one question answered directly and with a skeleton, side by side.

    uv run python -m benchmarks.race

It asks the simulated endpoint (0.4 s to the first token, 60 tokens/s, 8 points of 60 tokens) both ways, one after the
other, and draws the quickest of five rounds of each into docs/images/race.svg.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from sot_graph import SotOptions
from sot_graph.play.playground import DIRECT, SKELETON, race
from sot_graph.testing import Physics, SimulatedEndpoint, SkeletonResponder

QUESTION = "What are the most effective ways to deal with stress?"
TITLES = (
    *("Sleep and rest", "Regular exercise", "Breathing slowly", "Time with friends"),
    *("Fewer tasks", "Time outdoors", "Writing it down", "Asking for help"),
)
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "race.svg"
TEMPLATE = Path(__file__).with_name("race.svg.jinja")
ROUNDS = 5
HOLD = 2.5
"""Seconds that the finished answers stand before it begins again."""


async def measure(model: Any) -> dict[str, Any]:
    """One race: for each way, when it ended, and when each of its texts began and ended."""
    ways: dict[str, Any] = {name: {"sections": {}} for name in (DIRECT, SKELETON)}
    async for news in race(model, QUESTION, SotOptions(), in_turn=True):
        way, event, at = ways[news["way"]], news.get("event", {}), news["at"]
        if news["what"] == "done":
            way["end"], way["first_word"] = news["seconds"], news["first_word"]
        elif event.get("type") == "sot.skeleton":
            way["skeleton"] = at
        elif event.get("text"):
            begun, _ = way["sections"].setdefault(event.get("index", 0), (at, at))
            way["sections"][event.get("index", 0)] = (begun, at)
    return ways


async def run() -> dict[str, Any]:
    """The quickest of the rounds, for each way: another program on this machine only ever adds to a time."""
    responder = SkeletonResponder(titles=TITLES, tokens_per_point=60)
    with SimulatedEndpoint(responder, physics=Physics(time_to_first_token=0.4, tokens_per_second=60)) as endpoint:
        rounds = [await measure(endpoint.chat_model()) for _ in range(ROUNDS)]
    return {name: min((each[name] for each in rounds), key=lambda way: way["end"]) for name in (DIRECT, SKELETON)}


def draw(ways: dict[str, Any]) -> str:
    """The picture, as SVG that moves by itself."""
    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    length = max(way["end"] for way in ways.values()) + HOLD
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        titles=TITLES, direct=ways[DIRECT], skeleton=ways[SKELETON], length=length
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(asyncio.run(run())), encoding="utf-8")
    print(f"Wrote {PICTURE}.")
