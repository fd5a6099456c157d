"""How long a reader waits, on an endpoint with a hosted model's physics: the whole answer, and its first words."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.contenders import CONTENDERS, QUESTION, SCRIPTS, Contender, Setup, contending
from benchmarks.figures import Result
from benchmarks.physics import FIRST_CHARACTERS, Limit, hosted
from benchmarks.rounds import interleaved, settle
from benchmarks.scenarios.base import Plan, Scenario
from sot_graph.testing import count_tokens
from tests.support.endpoint_process import EndpointProcess

__all__ = ["FIRST", "SCENARIOS", "WHOLE", "Shape", "first_words_seconds", "measure", "run_whole", "warm"]

FIRST = f"first {FIRST_CHARACTERS} characters"
WHOLE = "whole answer"
_READ_BOTH_WAYS = {"even"}
"""Elsewhere a contender that streams is read so only: that takes it no longer."""
_IN_NO_TARGET = {"plain langgraph"}


@dataclass(frozen=True)
class Shape:
    """The answer that the endpoint gives, and how many of its points may be written at once."""

    points: int = 8
    tokens: str = "60"
    """Of each point; `"20-120"`: spread over the points."""
    max_concurrency: int | None = None


@dataclass(frozen=True)
class _Read:
    """When what was read could be read, in seconds from the question."""

    first: float
    whole: float
    text: str


async def warm(shape: Shape, *names: str) -> None:
    """Answer once each way at an instant endpoint: imports, schemas and clients are nobody's latency."""
    with EndpointProcess(ttft=0, tps=0, points=shape.points, tokens=shape.tokens) as endpoint:
        async with contending(Setup(endpoint.base_url, shape.points, shape.max_concurrency), *names) as contenders:
            for contender in contenders.values():
                await run_whole(contender)
                if contender.read is not None:
                    await first_words_seconds(contender)


async def run_whole(contender: Contender) -> _Read:
    """The whole answer, not streamed where there is a choice."""
    if contender.answer is None:
        return await first_words_seconds(contender)
    started = time.perf_counter()
    text = await contender.answer(QUESTION)
    seconds = time.perf_counter() - started
    return _Read(seconds, seconds, text)


async def first_words_seconds(contender: Contender) -> _Read:
    """The streamed answer; one that isn't streamed is there all at once."""
    if contender.read is None:
        return await run_whole(contender)
    started = time.perf_counter()
    text, first = "", None
    async with aclosing(contender.read(QUESTION)) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            text += piece
            if first is None and len(text) >= FIRST_CHARACTERS:
                first = time.perf_counter() - started
    seconds = time.perf_counter() - started
    return _Read(seconds if first is None else first, seconds, text)


async def measure(name: str, shape: Shape, plan: Plan) -> Result:
    """Every contender once a round; `direct`, one lonely stream, runs beside the others."""
    names = [name for name in CONTENDERS if not plan.quick or name not in _IN_NO_TARGET]
    await warm(shape, *names)
    result = Result(name, {"points": shape.points, "tokens a point": shape.tokens, **_physics_settings()})
    if shape.max_concurrency:
        result.settings["points at once"] = shape.max_concurrency
    with _hosted_endpoint(shape) as endpoint:
        async with contending(Setup(endpoint.base_url, shape.points, shape.max_concurrency), *names) as contenders:
            reads = await _reads(contenders, plan, unstreamed_too=name in _READ_BOTH_WAYS)
            limit = await _limit(contenders["sot_graph"], shape)
    for each in contenders:
        result.add(WHOLE, each, "s", [read.whole for read in reads[each]])
        streamed = reads.get(f"{each}, streamed", reads[each])
        result.add(FIRST, each, "s", [read.first for read in streamed])
        if streamed is not reads[each]:
            result.add(f"{WHOLE}, streamed", each, "s", [read.whole for read in streamed])
        _check_alike(each, [read.text for read in (*reads[each], *streamed)], shape)
    _add_limit(result, limit, plan.rounds)
    _compare(result)
    return result


def _hosted_endpoint(shape: Shape) -> EndpointProcess:
    return EndpointProcess(
        ttft=hosted.time_to_first_token, tps=hosted.tokens_per_second, points=shape.points, tokens=shape.tokens
    )


async def _reads(contenders: dict[str, Contender], plan: Plan, *, unstreamed_too: bool) -> dict[str, list[_Read]]:
    """What was read, by contender; with `unstreamed_too`, what was streamed is beside that, as `"..., streamed"`."""
    ways: dict[str, Any] = {}
    for name, contender in contenders.items():
        if name == "direct":
            continue
        streamed = partial(first_words_seconds, contender)
        if contender.read is None or unstreamed_too:
            ways[name] = partial(run_whole, contender)
        if contender.read is not None:
            ways[f"{name}, streamed" if unstreamed_too else name] = streamed
    plan.steps.begin(len(ways) * plan.rounds)
    settle()

    async def direct_rounds() -> list[_Read]:
        return [await run_whole(contenders["direct"]) for _ in range(plan.rounds)]

    direct, reads = await asyncio.gather(direct_rounds(), interleaved(ways, plan.rounds, plan.steps))
    return {"direct": direct, **reads}


def _physics_settings() -> dict[str, float]:
    return {
        "seconds to first token": hosted.time_to_first_token,
        "tokens a second": hosted.tokens_per_second,
    }


async def _limit(chosen: Contender, shape: Shape) -> Limit:
    """The limit for what this endpoint really writes."""
    assert chosen.answer is not None
    sections = (await chosen.answer(QUESTION)).split("\n\n")
    titles = [head.strip("*").split(". ", 1)[1] for head in sections[::2]]
    return Limit(titles, [count_tokens(text) for text in sections[1::2]], hosted, shape.max_concurrency)


def _check_alike(name: str, texts: list[str], shape: Shape) -> None:
    """All contenders wrote the same amount, or the comparison is worth nothing."""
    low, _, high = shape.tokens.partition("-")
    fewest = 0.9 * shape.points * (int(low) + int(high or low)) / 2
    for text in texts:
        if count_tokens(text) < fewest:
            message = f"{name} wrote {count_tokens(text)} tokens where {fewest:.0f} were to be had: {text[:200]!r}"
            raise RuntimeError(message)


def _add_limit(result: Result, limit: Limit, rounds: int) -> None:
    result.settings["skeleton tokens of the limit"] = limit.skeleton_tokens
    result.add(WHOLE, "limit", "s", [limit.whole] * rounds)
    result.add(FIRST, "limit", "s", [limit.first_words] * rounds)
    result.add(FIRST, "limit pipelined", "s", [limit.first_words_pipelined] * rounds)


def _compare(result: Result) -> None:
    whole, first = result.groups[WHOLE], result.groups[FIRST]
    for each in ("sot_graph", "sot_graph pipelined"):
        result.compare(f"direct / {each}", whole["direct"], whole[each])
        result.compare(f"limit / {each}", whole["limit"], whole[each])
        for script in SCRIPTS:
            result.compare(f"{each} / {script}", whole[each], whole[script])
            result.compare(f"{each}, {FIRST} / {script}", first[each], whole[script])
    for script in SCRIPTS:
        for limit in ("limit", "limit pipelined"):
            result.compare(f"{limit}, {FIRST} / {script}", first[limit], whole[script])


def _scenario(name: str, title: str, shape: Shape, rounds: int, quick_rounds: int = 0) -> Scenario:
    return Scenario(name, title, lambda plan: measure(name, shape, plan), rounds, quick_rounds)


SCENARIOS = [
    _scenario("even", "8 points of 60 tokens", Shape(), 2, 1),
    _scenario("uneven", "8 points of 20 to 120 tokens", Shape(tokens="20-120"), 1),
    _scenario("long", "8 points of 400 tokens", Shape(tokens="400"), 1),
    _scenario("four-at-once", "8 points of 60 tokens, four at once", Shape(max_concurrency=4), 1),
]
