"""`understand`: which stage of Skeleton-of-Thought a request is, whoever worded it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sot_graph.testing.requests import ChatRequest

__all__ = ["Ask", "understand"]

_NUMBERED_LIST = re.compile(r"\bnumbered (?:list|lines)\b", re.IGNORECASE)
_SKELETON = re.compile(r"\b(?:skeleton|outline)\b", re.IGNORECASE)
_LIST = re.compile(r"\b(?:list|numbered|json)\b", re.IGNORECASE)
_ONE_POINT = re.compile(
    r"(?<!\bat )(?<!\bto )\b(?:this|that|the following|only one|one and only one)(?: one| single)? point\b"
    r"|^\s*point:|</point>",
    re.IGNORECASE | re.MULTILINE,
)
_FRAME = re.compile(
    r"\bwrite the (?P<told>introduction|conclusion) of the answer\b|^(?P<begun>introduction|conclusion):\s*\Z",
    re.IGNORECASE | re.MULTILINE,
)
_POINT_NUMBER = re.compile(r"\bpoint\b(?: (?:index|number|no\.?))?\W{0,3}(\d+)", re.IGNORECASE)
_MARKED_POINT = re.compile(r"<point>[^<]*</point>|^\s*point:[^\n]*$", re.IGNORECASE | re.MULTILINE)
"""The point itself, where its prompt holds other points' texts too: those that it needs."""
_NEEDS = re.compile(r"\s*\(needs? [^()]*\)\s*\Z", re.IGNORECASE)
"""What a skeleton says of a point's needs is no part of its title."""
_LIST_START = re.compile(r"\s*1[.)]?\s*\Z|\s*1[.)]\s")


@dataclass(frozen=True)
class Ask:
    """What a request asks for."""

    stage: Literal["skeleton", "point", "introduction", "conclusion", "answer"]
    number: int | None = None
    """Of the point, from 1; `None`: not said."""
    title: str = ""
    """Of the point, where it is one of the known titles."""


def understand(request: ChatRequest, titles: Sequence[str]) -> Ask:
    """Tell a request for a skeleton from one for a point, for what frames the points, and from a plain question.

    It looks at the last user message, and for a skeleton also at the system message and at the beginning of
    the answer that the client gave.

    Args:
        request: The request.
        titles: Of the points that may be asked for, in order.
    """
    asked = request.last_user
    if frame := _FRAME.search(asked):
        is_first = (frame["told"] or frame["begun"]).lower() == "introduction"
        return Ask("introduction" if is_first else "conclusion")
    titles = [_NEEDS.sub("", title) for title in titles]
    for scope in (*(match[0] for match in _MARKED_POINT.finditer(asked)), asked)[-2:]:
        if (point := _named_point(scope, titles)) is not None:
            return point
    stated = _POINT_NUMBER.findall(asked)
    if _ONE_POINT.search(asked) or (stated and not _asks_for_list(asked)):
        return Ask("point", int(stated[-1]) if stated else None)
    if _asks_for_list(asked) or _asks_for_list(request.system) or _LIST_START.match(request.prefill):
        return Ask("skeleton")
    return Ask("answer")


def _asks_for_list(text: str) -> bool:
    return bool(_NUMBERED_LIST.search(text) or (_SKELETON.search(text) and _LIST.search(text)))


def _times(title: str, asked: str) -> int:
    """How often a title stands in a text as words of its own. There may be a thousand titles: no expression a title."""
    times = 0
    start = asked.find(title)
    while start >= 0:
        end = start + len(title)
        times += not (_is_of_word(asked[start - 1 : start]) or _is_of_word(asked[end : end + 1]))
        start = asked.find(title, end)
    return times


def _is_of_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _named_point(asked: str, titles: Sequence[str]) -> Ask | None:
    """The point whose title stands alone, or most often, or whose number is given beside a full list."""
    counts = {title: n for title in titles if (n := _times(title, asked))}
    if not counts:
        return None
    most = max(counts.values())
    leaders = [title for title, count in counts.items() if count == most]
    if len(leaders) == 1:
        return Ask("point", titles.index(leaders[0]) + 1, leaders[0])
    numbers = [int(number) for number in _POINT_NUMBER.findall(asked)]
    if numbers and 1 <= numbers[-1] <= len(titles):
        return Ask("point", numbers[-1], titles[numbers[-1] - 1])
    return None
