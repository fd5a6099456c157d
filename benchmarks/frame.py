"""What an introduction and a conclusion cost, in time and tokens.

    uv run python benchmarks/frame.py [--rounds 5]

On a simulated endpoint in its own process: 0.4 s to the first token, 60 tokens/s, 8 points of 60 tokens, 40 tokens an
introduction or a conclusion. Streamed, in both ways of dispatch. Medians over interleaved rounds; each ratio is to
`frame="none"` of the same dispatch.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import aclosing
from typing import Any, Literal

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from sot_graph import AnswerReader, SotOptions, create_sot_graph
from tests.support.endpoint_process import EndpointProcess

QUESTION = "What are the most effective ways to deal with stress?"
FRAMES: tuple[Literal["none", "intro", "intro+conclusion"], ...] = ("none", "intro", "intro+conclusion")
FIGURES = {
    "first word": "s",
    "whole answer": "s",
    "calls": "",
    "tokens in": "",
    "tokens out": "",
}


def chat_at(base_url: str) -> ChatOpenAI:
    """The model under test."""
    return ChatOpenAI(
        model="simulated",
        base_url=base_url,
        api_key=SecretStr("any"),
        stream_usage=True,
        use_responses_api=False,
        max_retries=0,
    )


async def measure(graph: Any) -> dict[str, float]:
    """One streamed run: when its first word and its answer are there, in seconds, and what it takes."""
    reader = AnswerReader()
    figures: dict[str, float] = {}
    started = time.monotonic()
    text = ""
    async with aclosing(graph.astream({"question": QUESTION}, stream_mode=["custom", "values"])) as stream:
        async for mode, value in stream:
            if mode == "values":
                result = value
                continue
            text += reader.feed(value)
            if text and not text.endswith("**\n\n"):
                figures.setdefault("first word", time.monotonic() - started)
    figures["whole answer"] = time.monotonic() - started
    total = result["usage"]["total"]
    return {
        **figures,
        "calls": total["calls"],
        "tokens in": total["input_tokens"],
        "tokens out": total["output_tokens"],
    }


async def compare(base_url: str, rounds: int) -> dict[tuple[str, str], dict[str, float]]:
    """The medians of every dispatch and frame."""
    ways = {
        (dispatch, frame): create_sot_graph(chat_at(base_url), options=SotOptions(dispatch=dispatch, frame=frame))
        for dispatch in ("send", "pipelined")
        for frame in FRAMES
    }
    runs: dict[tuple[str, str], list[dict[str, float]]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, graph in ways.items():
            figures = await measure(graph)
            if number:  # the first round warms up
                runs[way].append(figures)
    return {way: {name: statistics.median(run[name] for run in runs[way]) for name in FIGURES} for way in ways}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with EndpointProcess(ttft=0.4, tps=60, points=8, tokens=60) as endpoint:
        medians = asyncio.run(compare(endpoint.base_url, rounds))
    print(f"{'dispatch':10} {'frame':17}" + "".join(f"{name:>22}" for name in FIGURES))
    for (dispatch, frame), figures in medians.items():
        bare = medians[dispatch, "none"]
        cells = (f"{figures[name]:.2f} ({figures[name] / bare[name]:.2f} x)" for name in FIGURES)
        print(f"{dispatch:10} {frame:17}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
