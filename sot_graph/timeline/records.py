"""What the figures of a run are: plain data, from which the page is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sot_graph.timeline.reading import Span

__all__ = ["FrameFigures", "PointFigures", "PointStatus", "RunFigures"]

PointStatus: TypeAlias = Literal["ok", "failed", "timed_out", "missing"]
"""Of an expansion; `"missing"` where the result holds none for a point."""


@dataclass(frozen=True, kw_only=True)
class PointFigures:
    """One point of the skeleton. Times are in seconds from the run's start."""

    index: int
    title: str
    status: PointStatus
    error: str
    """Why it is not `ok`; empty if it is."""
    text: str
    truncated: bool
    """Whether it ends where the model ran into a token limit."""
    span: Span | None
    """`None` if it wasn't written in this run, but kept from an earlier one."""
    queued: float | None
    """Seconds between when it could have begun (the skeleton's end; pipelined, its title's) and when it did."""
    tokens_estimate: int | None
    """Output tokens: its share of the expansions' tokens, by the length of its text."""
    critical: bool
    """Whether it is on the critical path."""
    depends_on: tuple[int, ...] = ()
    """The points that it waited for."""


@dataclass(frozen=True, kw_only=True)
class FrameFigures:
    """The introduction or the conclusion."""

    status: PointStatus
    error: str
    """Why it is not `ok`; empty if it is."""
    text: str
    truncated: bool
    """Whether it ends where the model ran into a token limit."""
    span: Span | None
    """`None` if it wasn't written in this run, but kept from an earlier one."""
    critical: bool
    """Whether it is on the critical path."""


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """What a run took. Seconds, from the run's start where they are times; `None` is what the result doesn't tell."""

    route: Literal["skeleton", "direct"] | None
    route_reason: str
    question: str
    answer: str
    routing: Span | None
    skeleton: Span | None
    points: tuple[PointFigures, ...]
    """Sorted by index."""
    introduction: FrameFigures | None
    conclusion: FrameFigures | None
    direct: Span | None
    join: Span | None
    total: float | None
    """When the answer was there."""
    end: float
    """The latest time there is: where a drawing ends."""
    time_to_first_word: float | None
    """When the first word of the introduction, or else of the first point, could be read; of a run that wasn't
    streamed: `total`."""
    streamed: bool
    """Whether `time_to_first_word` is that of a first token."""
    one_clock: bool
    """`False` if times can't be of one run: it was resumed, and what was finished before has its first run's times."""
    complete: bool
    """Whether `total` covers all the texts: timed, on one clock, none from a cache."""
    critical_path: float | None
    """Seconds of routing, skeleton, longest chain of points (or the introduction, if it took longer), conclusion and
    join: what no further overlap could save."""
    critical_points: tuple[int, ...]
    """Empty where the introduction took longer than all of them."""
    sequential_estimate: float | None
    """Seconds that one ordinary answer with the same text would have taken, had it been written at the speed of this
    run's points; `None` of a local model, whose points slow each other down."""
    sequential_is_upper_bound: bool
    """Whether that estimate is too high, because nothing was streamed."""
    speed_up_estimate: float | None
    """`sequential_estimate / total`; only of a complete run."""
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    """Those of `input_tokens` that the provider read from its prompt cache."""
    calls: int | None
    cache_hits: int | None
    local: bool
    """Whether the model ran on this machine."""
