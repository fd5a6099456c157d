"""What streaming in reading order gives, and what it costs.

    uv run python benchmarks/streaming.py [--rounds 7]

First words: on a simulated endpoint in its own process (0.4 s to the first token, 60 tokens/s, 8 points of 60).
Cost: CPU milliseconds of this process, on an endpoint that answers at once, for ten points of 60 streamed tokens,
beside a bare `chat.astream` of the same ten prompts in `asyncio.gather`. Medians over interleaved rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from sot_graph import astream_answer, create_sot_graph
from sot_graph.testing import EndpointProcess

QUESTION = "What are the most effective ways to deal with stress?"
TITLES = [f"Way number {number}" for number in range(1, 11)]
TOKENS = 60


def chat_at(base_url: str) -> ChatOpenAI:
    """The model under test."""
    return ChatOpenAI(
        model="simulated", base_url=base_url, api_key="any", stream_usage=True, use_responses_api=False, max_retries=0
    )


async def first_words(chat: ChatOpenAI) -> dict[str, float]:
    """When the parts of an answer are there, in seconds, as ratios of what the physics allow."""
    graph = create_sot_graph(chat)
    await graph.ainvoke({"question": QUESTION})  # imports and connections
    figures: dict[str, float] = {}
    started = time.monotonic()
    text = ""
    async with aclosing(astream_answer(graph, {"question": QUESTION})) as chunks:
        async for chunk in chunks:
            text += chunk
            figures.setdefault("first title", time.monotonic() - started)
            if not text.endswith("**\n\n"):
                figures.setdefault("first word of point 1", time.monotonic() - started)
    figures["whole answer, streamed"] = time.monotonic() - started
    result = await graph.ainvoke({"question": QUESTION})
    figures["whole answer, ainvoke"] = result["timings"]["total"]
    skeleton = result["timings"]["skeleton"]["end"]
    figures["first word of point 1 / (skeleton + time to first token)"] = figures["first word of point 1"] / (
        skeleton + 0.4
    )
    return figures


async def cost(chat: ChatOpenAI, rounds: int) -> dict[str, float]:
    """CPU time of streaming, beside that of a bare stream of the same tokens."""
    graph = create_sot_graph(chat)
    given = {"question": QUESTION, "given_skeleton": TITLES}

    async def bare() -> None:
        async def one(number: int, title: str) -> None:
            async for _ in chat.astream([HumanMessage(f"Write this one point:\n<point>{number}. {title}</point>")]):
                pass

        await asyncio.gather(*(one(number, title) for number, title in enumerate(TITLES, start=1)))

    async def streamed() -> None:
        async for _ in astream_answer(graph, given):
            pass

    async def whole() -> None:
        await graph.ainvoke(given)

    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "bare chat.astream in gather": bare,
        "astream_answer": streamed,
        "ainvoke (nobody listens)": whole,
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            before = time.process_time()
            await way()
            spent[name].append((time.process_time() - before) * 1000)
    medians = {name: statistics.median(times[1:]) for name, times in spent.items()}  # the first round warms up
    tokens = len(TITLES) * TOKENS
    return {
        **{f"{name}, CPU ms": value for name, value in medians.items()},
        "astream_answer, CPU ms a token": medians["astream_answer"] / tokens,
        "bare, CPU ms a token": medians["bare chat.astream in gather"] / tokens,
        "astream_answer / bare": medians["astream_answer"] / medians["bare chat.astream in gather"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with EndpointProcess(ttft=0.4, tps=60, points=8, words=TOKENS) as endpoint:
        figures = asyncio.run(first_words(chat_at(endpoint.base_url)))
    with EndpointProcess(ttft=0, tps=0, points=10, words=TOKENS) as endpoint:
        figures |= asyncio.run(cost(chat_at(endpoint.base_url), rounds))
    for name, value in figures.items():
        print(f"{name:60} {value:8.3f}")


if __name__ == "__main__":
    main()
