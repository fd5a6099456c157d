"""What the picture of a run and the table below it show, row for row, and how seconds become places in a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sot_graph.report.figures import RunFigures, SectionFigures, Span

__all__ = ["Scale", "Step", "Tick", "legend_of", "steps_of"]

_SEEN = 0.02
"""A queue shorter than this share of the run is the graph's own step from one node to the next."""
_STATES = {"ok": "done", "failed": "failed", "timed_out": "cut off by the deadline", "missing": "not written"}
_BROKEN = {"timed_out": "late", "failed": "failed", "missing": "failed"}
_BARS = {
    "write": "Writing",
    "whole": "Model call, not streamed",
    "failed": "Failed",
    "late": "Cut off by the deadline",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage of the run, or a section: a row of the picture, and one of the table."""

    name: str
    style: str
    """Of its bar: `routing`, `skeleton`, `join`, or as a text was written: `write`, `whole` (not streamed), `late` or
    `failed`. No two are told apart by their colour alone."""
    span: Span | None
    state: str = "done"
    number: str = ""
    """Before the name of a point."""
    queued_from: float | None = None
    """Since when it waited for its turn, where that took long enough to be drawn."""
    section: SectionFigures | None = None
    """Not of a stage."""

    @property
    def status(self) -> str:
        """Of the section; a stage is `ok`."""
        return self.section.status if self.section else "ok"


def steps_of(run: RunFigures) -> list[Step]:
    """The rows, from top to bottom."""
    steps = [
        Step(name="Routing", style="routing", span=run.routing),
        Step(name="Skeleton", style="skeleton", span=run.skeleton, state="done" if run.points else "none"),
        *(_step_of(section, run) for section in run.sections),
        Step(name="Direct answer", style=_style_of(run.direct), span=run.direct),
        Step(name="Join", style="join", span=run.join),
    ]
    return [step for step in steps if step.span or step.section]


def _step_of(section: SectionFigures, run: RunFigures) -> Step:
    return Step(
        name=section.title,
        style=_BROKEN.get(section.status) or _style_of(section.span),
        span=section.span,
        state=_state(section),
        number=f"{section.id}. " if isinstance(section.id, int) else "",
        queued_from=section.ready if (section.queued or 0.0) > _SEEN * run.end else None,
        section=section,
    )


def _style_of(span: Span | None) -> str:
    return "whole" if span is None or span.first_token is None else "write"


def _state(section: SectionFigures) -> str:
    """What became of a section, and what it waited for: `done, after 1, 2 and 3`."""
    state = _STATES[section.status]
    if section.status == "ok" and section.span is None:
        state = "kept from an earlier run"
    elif section.status == "ok" and section.truncated:
        state = "done, but cut off at a token limit"
    *others, last = map(str, section.depends_on or ("",))
    waiting = f"{', '.join(others)} and {last}" if others else last
    return f"{state}, after {waiting}" if waiting else state


def legend_of(run: RunFigures, steps: Sequence[Step]) -> Iterator[tuple[str, str]]:
    """The styles that are in the picture, and nothing else, each with what it means."""
    drawn = [step for step in steps if step.span]
    styles = {step.style for step in drawn}
    yield from ((style, style.capitalize()) for style in ("routing", "skeleton") if style in styles)
    if any(step.queued_from is not None for step in drawn):
        yield "queue", "Waiting for its turn"
    if any(step.span.first_token is not None for step in drawn if step.span):
        yield "waiting", "Waiting for the first token"
    yield from ((style, words) for style, words in _BARS.items() if style in styles)
    if run.join:
        yield "diamond", "Join"
    if run.streamed:
        yield "first-word", "First word to read"


class Tick(NamedTuple):
    """A round number of seconds on the axis."""

    at: str
    label: str
    anchor: str
    """`text-anchor` of the label, such that it isn't cut off."""


class Scale:
    """Seconds to places in a picture whose width isn't known: from 0 to `end`, as percentages of the width."""

    _MARGIN = 1.03
    """The axis goes a little beyond the end, so that what stands there isn't cut."""
    _STEPS = 6
    _LATE = 0.95

    def __init__(self, end: float) -> None:
        self.end = end or 1.0

    def at(self, seconds: float) -> str:
        """How far from the left edge a time is, or how long a duration."""
        return f"{100 * seconds / (self.end * self._MARGIN):.3f}%"

    def ticks(self) -> Iterator[Tick]:
        """Two to seven, from 0 on: 1, 2 or 5 seconds apart, or tenfolds of these."""
        least = self.end / self._STEPS
        magnitude: float = 10.0 ** math.floor(math.log10(least))
        step = next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= least * (1 - 1e-9))
        decimals = max(0, -math.floor(math.log10(step)))
        for number in range(math.floor(self.end / step + 1e-9) + 1):
            time = number * step
            anchor = "start" if not number else "end" if time > self._LATE * self.end else "middle"
            yield Tick(self.at(time), f"{time:.{decimals}f} s" if number else "0 s", anchor)
