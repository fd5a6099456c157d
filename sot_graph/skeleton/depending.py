"""From raw titles to points, one by one: cleaned, numbered, and with what they say of the points that they need."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from sot_graph.skeleton.parsing import TitleSieve
from sot_graph.types import SkeletonPoint

__all__ = ["PointSieve", "split_needs"]

logger = logging.getLogger("sot_graph")

_NEEDS = re.compile(
    r"\s*[(\[]\s*(?:needs?|depends?\s+on|requires?|after)\b[:\s]*(?:points?\s+)?"
    r"(?P<list>(?:#?\d{1,4}|and|&|none|nothing|[,;/\s])*)[)\]][\s.]*$",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d{1,4}")


def split_needs(raw: str) -> tuple[str, list[int]]:
    """A raw title without its `(needs 1, 2)`, and these numbers.

    Example:
        >>> split_needs("Compare the two (needs 1, 2)")
        ('Compare the two', [1, 2])
    """
    match = _NEEDS.search(raw[-200:])
    if match is None:
        return raw, []
    return raw[: len(raw) - len(match[0])], [int(number) for number in _NUMBER.findall(match["list"])]


class PointSieve:
    """Takes a model's raw titles in their order, and gives back the points that are clean and new.

    A model's numbers are the places in its own list. What a point needs must be a point that stands before it: that
    leaves out, with a line in the log, itself, what comes later and what there isn't, and so every cycle.

    Args:
        max_words: As for `TitleSieve`.
        drop_similar: As for `TitleSieve`.
        depends: Whether a title may say what it needs: `"Compare the two (needs 1, 2)"`.
        known: Points that there are already.
    """

    def __init__(
        self,
        *,
        max_words: int | None = None,
        drop_similar: bool = False,
        depends: bool = False,
        known: Sequence[SkeletonPoint] = (),
    ) -> None:
        self.points: list[SkeletonPoint] = []
        self._titles = TitleSieve(max_words=max_words, drop_similar=drop_similar)
        self._depends = depends
        for point in known:
            self._titles.take(point["title"])
            self.points.append(point)
        self._places: dict[int, int] = {}
        self.begin_list()

    def begin_list(self) -> None:
        """A new list begins, which goes on from the points that there are."""
        self._places = {point["index"]: point["index"] for point in self.points}
        self._place = len(self.points)

    def take(self, raw: str) -> SkeletonPoint | None:
        """The point of the next raw title; `None`: there is nothing in it, or nothing new."""
        self._place += 1
        text, needs = split_needs(raw) if self._depends else (raw, [])
        title = self._titles.take(text)
        if title is None:
            return None
        index = len(self.points) + 1
        point = SkeletonPoint(index=index, title=title, depends_on=self._indices(needs, index, title))
        self._places[self._place] = index
        self.points.append(point)
        return point

    def _indices(self, needs: Sequence[int], index: int, title: str) -> list[int]:
        found = sorted({self._places[place] for place in needs if place in self._places})
        lost = [place for place in needs if place not in self._places]
        if lost:
            logger.warning(
                "skeleton: point %d (%s) says that it needs %s, which is no point before it: left out.",
                index,
                title,
                ", ".join(map(str, lost)),
            )
        return found
