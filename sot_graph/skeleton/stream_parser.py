"""Reading a skeleton while it is written: which titles are whole already."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydantic_core import from_json

from sot_graph.skeleton.json_titles import title_of
from sot_graph.skeleton.parser import PointSieve, numbered_item
from sot_graph.types import SkeletonPoint

_MOST_UNREAD = 2000
"""Characters without a title, before the list or in it: what comes then is read when the reply is whole."""
_MOST_REPEATS = 20
"""Titles in a row that say nothing new: a model that is caught in a loop doesn't come out of it."""
_LONGEST_END = 200
"""Characters that may stand behind the last title: brackets, a fence, a friendly word."""
_OPENING = re.compile(r"[{\[]")


class TitleScanner:
    """Takes a reply piece by piece, and gives back each raw title once it is whole.

    Of JSON it reads the list that is the whole reply, or that of its `"points"`, be its items strings or objects.
    Anything else is read as numbered lines, without those that are indented below the first. A reply that turns out to
    be something else is for the whole reply's reader.

    Examples:
        >>> scanner = TitleScanner()
        >>> scanner.feed('{"points":["Light", "Wa')
        ['Light']
        >>> scanner.feed('ter"]}')
        ['Water']
    """

    def __init__(self) -> None:
        self.unread = 0
        """Characters that have come since the last title."""
        self._text = ""
        """Of a reply in JSON all that has come, of one in lines the last one, which isn't whole yet."""
        self._is_json: bool | None = None
        self._titles = 0
        self._outermost: int | None = None

    def feed(self, piece: str) -> list[str]:
        """Take the next piece of the reply."""
        titles: list[str] = []
        if self.unread <= _MOST_UNREAD:
            self._text += piece
            if self._is_json is None and (start := self._text.lstrip()):
                self._is_json = start[0] in "{[`"
            titles = self._items(piece) if self._is_json else self._lines()
        self.unread = 0 if titles else self.unread + len(piece)
        return titles

    def _items(self, piece: str) -> list[str]:
        opening = _OPENING.search(self._text)
        if opening is None or not ('"' in piece or "}" in piece):  # an item ends with one of these
            return []
        try:
            value = from_json(self._text[opening.start() :], allow_partial=True)
        except ValueError:
            return []
        items = value.get("points") if isinstance(value, dict) else value
        if not isinstance(items, list):
            return []
        if items and isinstance(items[-1], dict) and not self._text.rstrip(" \t\r\n,]`").endswith("}"):
            items.pop()  # its title may still come
        titles = [title for item in items if (title := title_of(item)) is not None]
        new, self._titles = titles[self._titles :], len(titles)
        return new

    def _lines(self) -> list[str]:
        *lines, self._text = self._text.split("\n")
        titles: list[str] = []
        for item in filter(None, map(numbered_item, lines)):
            indentation, title = item
            if self._outermost is None:
                self._outermost = indentation
            if indentation <= self._outermost + 1:
                titles.append(title)
        return titles


class EnoughError(Exception):
    """Ends a stream that goes on though nothing more of it is wanted."""


@dataclass
class EarlyPoints:
    """Gives out a skeleton's points, each as soon as its title is whole. One reply or several may bring them."""

    new_sieve: Callable[..., PointSieve]
    """Makes the sieve for a reply's titles, given the points that there are (`known`)."""
    most: int
    """How many points there may be."""
    on_point: Callable[[SkeletonPoint], None]
    """Gets each point."""
    points: list[SkeletonPoint]
    """Those that were given out."""
    has_too_many: bool = False
    """Whether there were more points than may be."""

    def begin_reply(self, prefill: str) -> None:
        """A reply begins after `prefill`. Its list goes on from the points that there are."""
        self._sieve = self.new_sieve(known=self.points)
        self._scanner = TitleScanner()
        self._titles: list[str] = []
        self._prefill = prefill
        self._start = ""
        self._repeats = 0

    def feed(self, piece: str) -> None:
        """Take the next piece of the reply; raise `EnoughError` if no more of it is wanted."""
        if self._prefill:  # some servers repeat what was put into the model's mouth
            self._start = (self._start + piece).lstrip()
            if len(self._start) < len(self._prefill):
                return
            piece = self._start if self._start.startswith(self._prefill) else f"{self._prefill} {self._start}"
            self._prefill = ""
        titles = self._scanner.feed(piece)
        self._titles += titles
        for title in titles:
            self._take(title)
        is_full = len(self.points) == self.most
        if self.has_too_many or (is_full and self._scanner.unread > _LONGEST_END) or self._repeats > _MOST_REPEATS:
            raise EnoughError

    def glimpse(self, piece: str) -> None:
        """The same of a reply that only counts once it is whole."""
        with suppress(EnoughError):
            self.feed(piece)

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
            self.on_point(point)
        return True

    def _take(self, title: str) -> None:
        if len(self.points) == self.most:
            self.has_too_many = True
            return
        point = self._sieve.take(title)
        self._repeats = self._repeats + 1 if point is None else 0
        if point is not None:
            self.points.append(point)
            self.on_point(point)
