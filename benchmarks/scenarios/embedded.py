"""The embedded model on this CPU: a sequential answer against Skeleton-of-Thought, with equal numbers of tokens.

A CPU of a few cores is busy with one stream already: what eight at once gain is what batching saves. So tokens are
forced (the end of the text is no end), and time is shown by token too.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from langchain_openai import ChatOpenAI

from benchmarks.figures import Result
from benchmarks.scenarios.base import Plan, Scenario
from sot_graph import SotPrompts, create_sot_graph, local_model
from sot_graph.testing import SkeletonResponder

__all__ = ["SCENARIO"]

QUESTIONS = (
    "What are the most effective ways to deal with stress?",
    "How can I improve my time management skills?",
    "What caused the fall of the Roman Empire?",
    "How does a car engine work?",
    "What should I see on a weekend in Paris?",
    "How can a small business find more customers?",
    "What are the effects of climate change?",
    "How do I learn a new language quickly?",
    "Why do people dream?",
    "What makes a good leader?",
)
_TITLES = SkeletonResponder(points=8).titles
_TOKENS = 60
_FORCED: dict[str, Any] = {"temperature": 0.0, "extra_body": {"ignore_eos": True}}


@dataclass(frozen=True)
class _Pair:
    """One question, both ways."""

    direct: float
    skeleton: float
    expansion: float
    direct_tokens: int
    expansion_tokens: int
    prompt_tokens: int
    cached_tokens: int


def _forced(tokens: int) -> SotPrompts:
    """Prompts by which every point has so many tokens."""
    return replace(SotPrompts.small(), expansion_settings={**_FORCED, "max_tokens": tokens})


async def _warm(chat: ChatOpenAI) -> None:
    """What a first question does for those after it: the beginnings of its prompts are in every slot's cache."""
    graph = create_sot_graph(chat, prompts=_forced(1))
    await graph.ainvoke({"question": QUESTIONS[-1], "given_skeleton": _TITLES})


async def _both(chat: ChatOpenAI, question: str) -> _Pair:
    tokens = _TOKENS * len(_TITLES)

    started = time.perf_counter()
    message = await chat.bind(**_FORCED, max_tokens=tokens).ainvoke(question)
    direct = time.perf_counter() - started

    drafted = await create_sot_graph(chat, prompts=SotPrompts.small()).ainvoke({"question": question})
    started = time.perf_counter()
    written = await create_sot_graph(chat, prompts=_forced(_TOKENS)).ainvoke(
        {"question": question, "given_skeleton": _TITLES}
    )
    expansion = time.perf_counter() - started
    used = written["usage"]["expansion"]
    return _Pair(
        direct,
        drafted["timings"]["skeleton"]["end"],
        expansion,
        (getattr(message, "usage_metadata", None) or {}).get("output_tokens", 0),
        used["output_tokens"],
        used["input_tokens"],
        used["cached_tokens"],
    )


async def measure(plan: Plan) -> Result:
    """One value a question: these are the rounds here. Where there is time for one only, it isn't the first."""
    questions = QUESTIONS[: 1 if plan.quick else None]
    plan.steps.begin(len(questions) + 1)
    pairs = []
    with ExitStack() as stack:
        log = logging.getLogger("sot_graph")
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)  # that texts are cut off is what was asked for
        plan.steps.step("loading")
        chat = stack.enter_context(local_model(threads=os.cpu_count()))  # nothing else runs meanwhile
        if plan.quick:
            await _warm(chat)
        for question in questions:
            plan.steps.step(question)
            pairs.append(await _both(chat, question))
    result = Result("embedded", {"points": len(_TITLES), "tokens a point": _TOKENS, "questions": len(questions)})
    direct = result.add("seconds", "direct", "s", [pair.direct for pair in pairs])
    result.add("seconds", "skeleton", "s", [pair.skeleton for pair in pairs])
    expansion = result.add("seconds", "expansion", "s", [pair.expansion for pair in pairs])
    whole = result.add("seconds", "skeleton and expansion", "s", [pair.skeleton + pair.expansion for pair in pairs])
    result.add("tokens", "direct", "", [pair.direct_tokens for pair in pairs])
    result.add("tokens", "expansion", "", [pair.expansion_tokens for pair in pairs])
    result.add("tokens a second", "direct", "1/s", [pair.direct_tokens / pair.direct for pair in pairs])
    result.add("tokens a second", "expansion", "1/s", [pair.expansion_tokens / pair.expansion for pair in pairs])
    cached = [pair.cached_tokens / pair.prompt_tokens for pair in pairs]
    result.add("share of prompt tokens that were cached", "expansion", "", cached)
    result.compare("direct / skeleton and expansion", direct, whole)
    result.compare("direct / expansion", direct, expansion)
    return result


SCENARIO = Scenario("embedded", "the embedded model on this CPU", measure, 1, 1)
