"""Reading a skeleton while it is written: which titles are whole already."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sot_graph.skeleton.parser import numbered_item, title_of

if TYPE_CHECKING:
    from sot_graph.skeleton.parser import PointSieve
    from sot_graph.types import SkeletonPoint

_MOST_PREFACE = 2000
"""Characters before the list: a reply that hasn't come to it by then is read when it is whole."""
_LONGEST_ITEM = 2000
_MOST_REPEATS = 20
"""Titles in a row that say nothing new: a model that is caught in a loop doesn't come out of it."""
_LONGEST_END = 200
"""Characters that may stand behind the last title: brackets, a fence, a friendly word."""
_BETWEEN_ITEMS = " \t\r\n,"
_OPENING = re.compile(r"[{\[]")
_POINTS = re.compile(r'"points"\s*:\s*\[')
_COLON = re.compile(r"\s*:\s*")
_COMMA = re.compile(r"\s*,")
_decode = json.JSONDecoder().raw_decode


class TitleScanner:
    """Takes a reply piece by piece, and gives back each raw title once it is whole.

    JSON is read item by item, be they strings or objects: the list that is the whole reply, or that of its `"points"`,
    whatever stands before it. Anything else is read as numbered lines, without those that are indented below the first.
    A reply that turns out to be something else is for the whole reply's reader.

    Example:
        >>> scanner = TitleScanner()
        >>> scanner.feed('{"points":["Light", "Wa')
        ['Light']
        >>> scanner.feed('ter"]}')
        ['Water']
    """

    def __init__(self) -> None:
        self._rest = ""
        """What has come and isn't read yet."""
        self._is_json: bool | None = None
        self._in_object = False
        self._in_list = False
        self._outermost: int | None = None
        self._is_over = False

    def feed(self, piece: str) -> list[str]:
        """Take the next piece of the reply."""
        if self._is_over:
            return []
        self._rest += piece
        if self._is_json is None:
            self._rest = self._rest.lstrip()
            if not self._rest:
                return []
            self._is_json = self._rest[0] in "{[`"
        titles = self._items() if self._is_json else self._lines()
        if len(self._rest) > (_LONGEST_ITEM if self._in_list else _MOST_PREFACE):
            self._is_over = True
        return titles

    def _items(self) -> list[str]:
        if not (self._in_list or self._find_list()):
            return []
        titles: list[str] = []
        while rest := self._rest.lstrip(_BETWEEN_ITEMS):
            if rest[0] not in '"{':  # the list's end, or nothing that has a title
                self._is_over = True
                break
            try:
                item, end = _decode(rest)
            except (ValueError, RecursionError):  # not whole yet, or never
                break
            self._rest = rest[end:]
            if (title := title_of(item)) is not None:
                titles.append(title)
        return titles

    def _find_list(self) -> bool:
        """Come to the list, past all that a model says of itself before: `{"thoughts": ["..."], "points": [`."""
        if not self._in_object:
            opening = _OPENING.search(self._rest)
            if opening is None:
                return False
            self._rest = self._rest[opening.end() :]
            self._in_object, self._in_list = opening[0] == "{", opening[0] == "["
        while self._in_object and not self._in_list:
            self._rest = self._rest.lstrip(_BETWEEN_ITEMS)
            points = _POINTS.match(self._rest)
            end = points.end() if points else _entry_end(self._rest)
            if end is None:
                return False
            self._in_list, self._rest = points is not None, self._rest[end:]
        return True

    def _lines(self) -> list[str]:
        *lines, self._rest = self._rest.split("\n")
        titles: list[str] = []
        for line in lines:
            item = numbered_item(line)
            if item is None:
                continue
            indentation, title = item
            if self._outermost is None:
                self._in_list, self._outermost = True, indentation
            if indentation <= self._outermost + 1:
                titles.append(title)
        return titles


def _entry_end(text: str) -> int | None:
    """Where an object's next entry ends, with the comma behind it; `None`: it isn't there yet, or it is none."""
    try:
        _, end = _decode(text)
        colon = _COLON.match(text, end)
        _, end = _decode(text, colon.end() if colon else len(text))
    except (ValueError, RecursionError):
        return None
    comma = _COMMA.match(text, end)
    return comma.end() if comma else None


class EnoughError(Exception):
    """Ends a stream that goes on though nothing more of it is wanted."""


class EarlyPoints:
    """Gives out a skeleton's points, each as soon as its title is whole. One reply or several may bring them.

    Args:
        new_sieve: Makes the sieve for a reply's titles, given the points that there are (`known`).
        most: How many points there may be.
        on_point: Gets each point.
        known: Points that were given out before.
    """

    def __init__(
        self,
        new_sieve: Callable[..., PointSieve],
        most: int,
        on_point: Callable[[SkeletonPoint], None],
        known: Sequence[SkeletonPoint],
    ) -> None:
        self.points = list(known)
        self.is_over = False
        """Whether there were more points than may be."""
        self._new_sieve = new_sieve
        self._most = most
        self._on_point = on_point

    def begin_reply(self, prefill: str) -> None:
        """A reply begins, whose list goes on from the points that there are.

        Args:
            prefill: What was put into the model's mouth.
        """
        self._sieve = self._new_sieve(known=self.points)
        self._scanner = TitleScanner()
        self._titles: list[str] = []
        self._prefill = prefill
        self._held = ""
        self._behind = 0
        self._repeats = 0

    def feed(self, piece: str) -> None:
        """Take the next piece of the reply.

        Raises:
            EnoughError: No more of the reply is wanted.
        """
        if self._prefill:  # some servers repeat what was put into the model's mouth
            self._held += piece
            start = self._held.lstrip()
            if len(start) < len(self._prefill):
                return
            piece = self._held if start.startswith(self._prefill) else f"{self._prefill} {start}"
            self._prefill = ""
        titles = self._scanner.feed(piece)
        self._titles += titles
        for title in titles:
            self._take(title)
        self._behind = 0 if titles else self._behind + len(piece)
        is_full = len(self.points) == self._most
        if self.is_over or (is_full and self._behind > _LONGEST_END) or self._repeats > _MOST_REPEATS:
            raise EnoughError

    def finish_reply(self, titles: Sequence[str]) -> None:
        """Take the titles of the whole reply: those that weren't seen yet are new."""
        seen = len(self._titles)
        for title in titles[seen:] if list(titles[:seen]) == self._titles else titles:
            self._take(title)

    def take_over(self, points: Sequence[SkeletonPoint]) -> bool:
        """Give out the rest of a whole skeleton. `False`: it isn't the one of which points were given out."""
        if list(points[: len(self.points)]) != self.points:
            return False
        for point in points[len(self.points) :]:
            self._on_point(point)
        return True

    def _take(self, title: str) -> None:
        if len(self.points) == self._most:
            self.is_over = True
            return
        point = self._sieve.take(title)
        self._repeats = self._repeats + 1 if point is None else 0
        if point is not None:
            self.points.append(point)
            self._on_point(point)
