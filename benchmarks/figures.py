"""`Figure`: what was measured, round by round, with its median and its spread; and what a scenario makes of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["Figure", "Result", "rounded"]

_DIGITS = 4


@dataclass(frozen=True)
class Figure:
    """One quantity, measured once a round.

    Args:
        unit: `"s"`, `"ms"`, `"MB"`, ...; `"x"` is a ratio.
        values: In the order of the rounds.
    """

    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one of the values."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    def over(self, other: Figure) -> Figure:
        """How many times the other it is, round by round: what slowed a whole round down cancels out."""
        return Figure("x", tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))

    def as_json(self) -> dict[str, Any]:
        """Plain values. Median and spread are in there for those who only read the file."""
        return {
            "unit": self.unit,
            "median": rounded(self.median),
            "low": rounded(self.low),
            "high": rounded(self.high),
            "values": [rounded(value) for value in self.values],
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """The figure of `as_json`."""
        return cls(plain["unit"], tuple(plain["values"]))


@dataclass
class Result:
    """What one scenario measured.

    Args:
        scenario: Its name.
        settings: What it was measured with, for the reader of the file.
        groups: Group, such as `"whole answer"`, then what was measured, such as a contender.
    """

    scenario: str
    settings: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, dict[str, Figure]] = field(default_factory=dict)

    def add(self, group: str, name: str, unit: str, values: Sequence[float]) -> Figure:
        """Put in what was measured."""
        figure = self.groups.setdefault(group, {})[name] = Figure(unit, tuple(values))
        return figure

    def compare(self, name: str, figure: Figure, other: Figure) -> None:
        """Put in a ratio, under `"ratios"`."""
        self.groups.setdefault("ratios", {})[name] = figure.over(other)

    def find(self, group: str, name: str) -> Figure | None:
        """A figure, or `None` where this run didn't measure it."""
        return self.groups.get(group, {}).get(name)


def rounded(value: float) -> float:
    """To four digits behind the point, or to as many in all where the number is smaller than one."""
    return round(value, _DIGITS) if abs(value) >= 1 else float(f"{value:.{_DIGITS}g}")
