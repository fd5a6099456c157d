"""What is aimed at, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.figures import Figure, Result
from benchmarks.physics import FIRST_CHARACTERS

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """One aim.

    Args:
        title: What is compared with what.
        bound: What it may be at most, or has to be at least.
        at_least: Which of the two.
        scenario: Where it was measured.
        group: In which group.
        name: Under which name.
        allowed: What the physics allow at best, as a name in the same group; empty: nothing is computed.
        instead: What is measured in its place where a minute has to do.
    """

    title: str
    bound: float
    at_least: bool
    scenario: str
    group: str
    name: str
    allowed: str = ""
    instead: Target | None = None

    def find(self, results: Mapping[str, Result]) -> Figure | None:
        """The figure, or `None` where it wasn't measured."""
        result = results.get(self.scenario)
        return None if result is None else result.find(self.group, self.name)

    def measured(self, results: Mapping[str, Result]) -> tuple[Target, Figure] | None:
        """This target or what stands in for it, with its figure; `None` where neither was measured."""
        for target in (self, self.instead):
            if target is not None and (figure := target.find(results)) is not None:
                return target, figure
        return None

    def met_by(self, figure: Figure) -> bool:
        """Whether the median is good enough."""
        return figure.median >= self.bound if self.at_least else figure.median <= self.bound


_FIRST = f"first {FIRST_CHARACTERS} characters"


def _ratio(title: str, bound: float, scenario: str, name: str, *, at_least: bool = False, allowed: str = "") -> Target:
    return Target(title, bound, at_least, scenario, "ratios", name, allowed)


def _crowded(size: int) -> list[Target]:
    at_once = f"questions a second, {size} at once"
    return [
        _ratio(
            f"questions a second, {size:,} at once / `plain gather`",
            1.5,
            "crowd",
            f"{at_once}: sot_graph / plain gather",
            at_least=True,
        ),
        Target(
            f"peak memory of {size:,} questions at once, MB",
            350,
            False,
            "crowd",
            f"peak memory, {size} at once",
            "sot_graph",
        ),
    ]


TARGETS = [
    _ratio("whole answer / `instructor+gather`", 0.76, "even", "sot_graph / instructor+gather"),
    _ratio("whole answer / `plain gather`", 1.03, "even", "sot_graph / plain gather"),
    _ratio(
        f"{_FIRST} / `plain gather`'s whole answer",
        0.62,
        "even",
        f"sot_graph, {_FIRST} / plain gather",
        allowed=f"limit, {_FIRST} / plain gather",
    ),
    _ratio(
        f"{_FIRST}, pipelined / `plain gather`'s whole answer",
        0.42,
        "even",
        f"sot_graph pipelined, {_FIRST} / plain gather",
        allowed=f"limit pipelined, {_FIRST} / plain gather",
    ),
    _ratio(f"{_FIRST} with an opening / those of `direct`", 1.1, "opening", f"with an opening, {_FIRST} / direct"),
    _ratio("whole answer with an opening / without", 1.02, "opening", "with an opening, whole answer / sot_graph"),
    _ratio("`direct` / whole answer", 3.2, "even", "direct / sot_graph", at_least=True),
    _ratio("computed limit / whole answer", 0.97, "even", "limit / sot_graph", at_least=True),
    _ratio("CPU a question / `plain gather`, not streaming", 0.75, "cost", "sot_graph / plain gather"),
    _ratio(
        "CPU of streaming every token / bare `chat.astream`",
        0.75,
        "cost",
        "astream_answer / bare chat.astream in gather",
    ),
    _ratio("CPU a point, 1,000 points / 10 points", 1.5, "overhead", "sot_graph, 1000 points / 10 points"),
    _ratio("seconds of 1,000 points / those of 1,000 bare calls", 1.2, "thousand", "sot_graph / bare calls"),
    *(replace(most, instead=fewer) for most, fewer in zip(_crowded(1000), _crowded(50), strict=True)),
    _ratio(
        "embedded model, 8 points of equal forced tokens: `direct` / whole answer",
        1.2,
        "embedded",
        "direct / skeleton and expansion",
        at_least=True,
    ),
    _ratio("the same: `direct` / its expansion phase", 1.4, "embedded", "direct / expansion", at_least=True),
]
