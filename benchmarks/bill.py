"""What N + 1 prompts cost, and what prompt caches make of it.

    python -m benchmarks.bill          prints the table
    python -m benchmarks.bill --page   puts it into docs/cost.md

The input of a cold run with 8 points, in tokens at the full price, beside that of one direct answer to the
same question. Nothing is timed. What is asked is real, and the simulated endpoint meters it by the documented rules
(`sot_graph.testing.CacheMeter`). No provider was measured.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from sot_graph import SotOptions, create_sot_graph
from sot_graph.testing import CacheName, ChatRequest, Physics, SimulatedEndpoint, SkeletonResponder

__all__ = ["HISTORIES", "ROWS", "Row", "bill"]

POINTS = 8
HISTORIES = (500, 4_000, 32_000)
"""Tokens."""
PAGE = Path(__file__).parents[1] / "docs" / "cost.md"
_BLOCK = re.compile(r"(<!-- bill: begin -->\n).*?(<!-- bill: end -->)", re.DOTALL)
_QUESTION = "And what would you plant on a balcony that faces north?"
_TURN_TOKENS = 250


@dataclass(frozen=True, slots=True)
class Row:
    """One way to ask, at one provider."""

    title: str
    cache: CacheName | None
    """`None`: none of the tokens are read from one."""
    model: str
    options: SotOptions
    bound: Mapping[str, Any] | None = None
    """What is bound to the model."""


_SCHEMA = SotOptions(structured_mode="json_schema", prompt_cache="off")

_AUTOMATIC = {"cache_control": {"type": "ephemeral"}}
ROWS = (
    Row("no cache", None, "simulated", SotOptions()),
    Row("OpenAI up to 5.5, with a schema", "openai", "gpt-5", _SCHEMA),
    Row("OpenAI up to 5.5", "openai", "gpt-5", SotOptions()),
    Row("GPT-5.6, with a schema", "openai-5.6", "gpt-5.6", _SCHEMA),
    Row("GPT-5.6", "openai-5.6", "gpt-5.6", SotOptions()),
    Row("Sonnet 5, with a schema, no marks", "anthropic", "claude-sonnet-5", _SCHEMA),
    Row("Sonnet 5, with a schema, `.bind(cache_control=...)`", "anthropic", "claude-sonnet-5", _SCHEMA, _AUTOMATIC),
    Row("Sonnet 5, `.bind(cache_control=...)`", "anthropic", "claude-sonnet-5", SotOptions(), _AUTOMATIC),
    Row("Sonnet 5", "anthropic", "claude-sonnet-5", SotOptions()),
    Row("Opus 5", "anthropic", "claude-opus-5", SotOptions()),
    Row("Gemini 2.5, if it hits", "gemini", "gemini-2.5-pro", SotOptions()),
    Row("DeepSeek", "deepseek", "deepseek-chat", SotOptions()),
    Row('no cache, `point_context="question"`', None, "simulated", SotOptions(point_context="question")),
)


def conversation(tokens: int) -> list[BaseMessage]:
    """A history of so many tokens, and the question behind it."""
    turns = [
        (HumanMessage if number % 2 == 0 else AIMessage)(
            (f"Turn {number}. " + _TURN_TOKENS * "word ")[: 4 * _TURN_TOKENS]
        )
        for number in range(tokens // _TURN_TOKENS)
    ]
    return [*turns, HumanMessage(_QUESTION)]


async def bill(row: Row, history: int) -> float:
    """The input of one cold run, with one direct answer as 1."""
    asked: Any = {"messages": conversation(history)}
    with SimulatedEndpoint(
        SkeletonResponder(points=POINTS), physics=Physics.instant(), cache=row.cache or "openai"
    ) as endpoint:
        model: Any = endpoint.chat_model(model=row.model)
        await create_sot_graph(model, router=lambda _question, _history: "direct").ainvoke(asked)
        direct = _cost(endpoint, cached=row.cache is not None)
        endpoint.reset()
        if row.bound:
            model = model.bind(extra_body=row.bound)
        with endpoint.hold(POINTS, _is_point):  # none of them can count on another's entry
            await create_sot_graph(model, options=row.options).ainvoke(asked)
        assert len(endpoint.requests) == POINTS + 1
        return _cost(endpoint, cached=row.cache is not None) / direct


def _is_point(request: ChatRequest) -> bool:
    return "<point>" in request.last_user


def _cost(endpoint: SimulatedEndpoint, *, cached: bool) -> float:
    bills = [entry.prompt for entry in endpoint.requests if entry.prompt is not None]
    return sum(each.cost if cached else each.tokens for each in bills)


async def table() -> str:
    """In Markdown."""
    head = [f"{tokens / 1000:g}k" for tokens in HISTORIES]
    lines = [f"| history, tokens | {' | '.join(head)} |", "|---" + "|---:" * len(head) + "|"]
    for row in ROWS:
        cells = [f"{await bill(row, history):.1f}" for history in HISTORIES]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(print_line: Callable[[str], None] = print) -> None:
    """Print the table, or put it into the page."""
    made = asyncio.run(table())
    if "--page" in sys.argv[1:]:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(_BLOCK.sub(lambda found: f"{found[1]}{made}\n{found[2]}", page), encoding="utf-8")
    else:
        print_line(made)


if __name__ == "__main__":
    main()
