"""Seconds to places in a picture whose width isn't known: lengths are percentages of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sot_graph.timeline.markup import Markup, element

__all__ = ["Scale"]

_MARGIN = 1.03
"""The axis goes a little beyond the end, so that what stands there isn't cut."""
_STEPS = 6
_LATE = 0.95


class Scale:
    """From 0 to `end` seconds, and a little further."""

    def __init__(self, end: float) -> None:
        self.end = end or 1.0

    def at(self, seconds: float) -> str:
        """How far from the left edge a time is, or how long a duration."""
        return f"{100 * seconds / (self.end * _MARGIN):.3f}%"

    def axis(self, top: int, bottom: int) -> Iterator[Markup]:
        """A line for each round number of seconds, and the number above it."""
        step = _round_step(self.end / _STEPS)
        decimals = max(0, -math.floor(math.log10(step)))
        for number in range(math.floor(self.end / step + 1e-9) + 1):
            time = number * step
            at = self.at(time)
            anchor = "start" if not number else "end" if time > _LATE * self.end else "middle"
            yield element("line", class_="grid", x1=at, x2=at, y1=top, y2=bottom)
            label = f"{time:.{decimals}f} s" if number else "0 s"
            yield element("text", label, class_="tick", x=at, y=top - 8, text_anchor=anchor)


def _round_step(least: float) -> float:
    """The next larger of 1, 2 and 5 and their tenfolds."""
    magnitude: float = 10.0 ** math.floor(math.log10(least))
    return next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= least * (1 - 1e-9))
