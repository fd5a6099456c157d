"""`CacheMeter`: what a provider's prompt cache reads and writes of each request, by the documented rules.

A token is four characters, whatever they say. A schema and tools stand before all messages, as they do at the
providers. What a request writes can be read by those that arrive once its answer has begun.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from sot_graph.testing.openai_wire import TOKEN_CHARACTERS, ChatRequest

CacheName: TypeAlias = Literal["openai", "openai-5.6", "anthropic", "gemini", "deepseek"]

_LOOKBACK = 20
"""Blocks before a mark at which Anthropic looks for something that was written."""
_MOST_MARKS = 4


@dataclass(frozen=True, slots=True)
class _Rules:
    """How one provider caches. Written apart from `llm/prompt_cache.py` on purpose: one checks the other."""

    minimum: int
    write: float = 1.0
    """What a token costs that is written, beside 1 for one that isn't cached."""
    read: float = 0.1
    step: int | None = None
    """Tokens from one place to the next at which a prefix is kept; `None`: it is kept where blocks end."""


_RULES: Mapping[CacheName, _Rules] = {
    "openai": _Rules(1024, step=128),
    "openai-5.6": _Rules(1024, write=1.25),
    "anthropic": _Rules(1024, write=1.25),
    "gemini": _Rules(2048, step=32),  # where it hits, which nobody promises
    "deepseek": _Rules(64),
}
_MINIMUMS: Mapping[str, int] = {"haiku": 4096, "opus-5": 512, "gemini-3": 4096}
"""The minimums of models whose names hold this."""


@dataclass(frozen=True, slots=True)
class PromptBill:
    """What one request's prompt costs."""

    tokens: int
    cached: int
    """Those that were read from the cache."""
    written: int
    """Those that were written into it for a fee."""
    cost: float
    """In tokens at the full price."""
    keeps: frozenset[int]
    """The prefixes that it leaves in the cache."""


class _PrefixEnd(NamedTuple):
    tokens: int
    digest: int


class CacheMeter:
    """The prompt cache of the provider of this name."""

    def __init__(self, name: CacheName) -> None:
        self._name = name
        self._rules = _RULES[name]
        self._kept: set[int] = set()

    def bill(self, request: ChatRequest) -> PromptBill:
        """What a request that has just arrived reads and writes."""
        least = next((value for part, value in _MINIMUMS.items() if part in request.model), self._rules.minimum)
        ends, marks = _prompt_ends(request, self._rules.step)
        looked_at, written_at = self._places(request, ends, marks)
        tokens = ends[-1].tokens
        cached = max((ends[at].tokens for at in looked_at if ends[at].digest in self._kept), default=0)
        cached = cached if cached >= least else 0
        keeps = {at for at in written_at if ends[at].tokens >= least}
        has_fee = self._rules.write > 1
        written = max([*(ends[at].tokens for at in keeps), cached]) - cached if has_fee else 0
        cost = tokens - cached - written + self._rules.write * written + self._rules.read * cached
        return PromptBill(tokens, cached, written, cost, frozenset(ends[at].digest for at in keeps))

    def keep(self, bill: PromptBill) -> None:
        """A request's answer has begun: what it wrote can be read."""
        self._kept |= bill.keeps

    def _places(self, request: ChatRequest, ends: list[_PrefixEnd], marks: list[int]) -> tuple[set[int], set[int]]:
        """Where a request looks for what is kept, and where it keeps something: indices of `ends`, as `marks` are."""
        everywhere, last, step = set(range(len(ends))), len(ends) - 1, self._rules.step
        if step is not None:
            whole = {at for at in everywhere if ends[at].tokens % step == 0}
            return whole, whole
        if self._name == "deepseek":
            return everywhere, {last}
        own = set(marks[:_MOST_MARKS])
        if self._name == "openai-5.6":
            options = request.raw.get("prompt_cache_options") or {}
            return (own, own) if options.get("mode") == "explicit" else (own | {last}, own | {last})
        own |= {last} if request.raw.get("cache_control") else set()
        return {at for at in everywhere if any(mark - _LOOKBACK <= at <= mark for mark in own)}, own


def _prompt_ends(request: ChatRequest, step: int | None) -> tuple[list[_PrefixEnd], list[int]]:
    """Where a prefix of the prompt may end, and which of these places are marked."""
    ends: list[_PrefixEnd] = []
    marks: list[int] = []
    characters, digest, rest = 0, 0, ""
    for text, is_marked in _blocks(request):
        rest += text
        # With steps, text is held until a step is full; without, each block is one piece.
        piece_size = (len(rest) if step is None else step * TOKEN_CHARACTERS) or 1  # 1: the block is empty
        whole = len(rest) - len(rest) % piece_size
        for start in range(0, whole, piece_size):
            characters, digest = characters + piece_size, hash((digest, rest[start : start + piece_size]))
            ends.append(_PrefixEnd(characters // TOKEN_CHARACTERS, digest))
        rest = rest[whole:]
        if is_marked:
            marks.append(len(ends) - 1)
    if rest or not ends:
        ends.append(_PrefixEnd((characters + len(rest)) // TOKEN_CHARACTERS, hash((digest, rest))))
    return ends, marks


def _blocks(request: ChatRequest) -> Iterator[tuple[str, bool]]:
    """The prompt's parts, and which of them are marked: by `cache_control` or `prompt_cache_breakpoint`."""
    before: list[Any] = [each for each in (request.tools, request.response_format) if each]
    if before:
        yield json.dumps(before), False
    for message in request.messages:
        content = message.get("content") or ""
        role = f"\n{message.get('role')}: "
        for block in [{"text": content}] if isinstance(content, str) else content:
            is_marked = "cache_control" in block or "prompt_cache_breakpoint" in block
            yield role + str(block.get("text") or ""), is_marked
            role = ""
