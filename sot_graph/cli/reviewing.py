"""Reviewing a skeleton on the terminal: one line a change, until it is approved or rejected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sot_graph.types import SkeletonPoint

__all__ = ["ReviewAbandonedError", "review_on_terminal"]

_HELP = (
    "Enter: write it   e 2 New title: rename   a Title: add   d 2: delete   m 4 1: move 4 to 1   "
    "r why: have another drafted   q: quit"
)


class ReviewAbandonedError(Exception):
    """The reviewer left, or standard input ended."""


def review_on_terminal(
    points: Sequence[SkeletonPoint], *, read: Callable[[str], str], show: Callable[[str], None]
) -> Any:
    """Ask until there is a verdict.

    Args:
        points: The skeleton.
        read: Asks for a line; raises `EOFError` at the end of input.
        show: Shows a text.

    Returns:
        What `Command(resume=...)` takes: `True`, the titles as they are to be, or a rejection.

    Raises:
        ReviewAbandonedError: The reviewer left.
    """
    titles = [point["title"] for point in points]
    show(_HELP)
    while True:
        show("\n".join(f"{number}. {title}" for number, title in enumerate(titles, start=1)))
        try:
            line = read("> ").strip()
        except EOFError:
            raise ReviewAbandonedError from None
        command, _, rest = line.partition(" ")
        if command in {"", "y", "yes", "ok"}:
            return True if titles == [point["title"] for point in points] else titles
        if command == "q":
            raise ReviewAbandonedError
        if command == "r" and rest.strip():
            return {"reject": rest.strip()}
        changed = _changed(titles, command, rest.strip())
        if changed is None:
            show(f"That was not understood: {line!r}. {_HELP}")
        else:
            titles = changed


def _changed(titles: list[str], command: str, rest: str) -> list[str] | None:
    """The titles after one command; `None`: no such command, or nothing would be left."""
    if command == "a" and rest:
        return [*titles, rest]
    words = rest.split(maxsplit=1)
    position = _position(words[0], titles) if words else None
    if position is None:
        return None
    others = titles[:position] + titles[position + 1 :]
    if command == "d" and others:
        return others
    if command == "e" and len(words) > 1:
        return [*titles[:position], words[1], *titles[position + 1 :]]
    to = _position(words[1], titles) if len(words) > 1 else None
    if command == "m" and to is not None:
        return [*others[:to], titles[position], *others[to:]]
    return None


def _position(number: str, titles: list[str]) -> int | None:
    return int(number) - 1 if number.isdecimal() and 1 <= int(number) <= len(titles) else None
