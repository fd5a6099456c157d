"""The figures of a run: plain data, from which the page is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["RunFigures", "SectionFigures", "SectionId", "SectionStatus", "Span"]

SectionId: TypeAlias = int | Literal["introduction", "conclusion"]
"""A point's index, or the name of what stands around the points."""

SectionStatus: TypeAlias = Literal["ok", "failed", "timed_out", "missing"]
"""The status in the result; `"missing"` where the result holds no text for a section."""


@dataclass(frozen=True)
class Span:
    """When something ran. In seconds from the run's start; a time that wasn't measured is `None`."""

    start: float
    end: float
    first_token: float | None = None
    """Only where the model's answer was streamed."""

    @property
    def seconds(self) -> float:
        """From start to end."""
        return self.end - self.start

    @property
    def waiting(self) -> float | None:
        """Seconds from the start to the first token."""
        return None if self.first_token is None else self.first_token - self.start

    @property
    def writing(self) -> float | None:
        """Seconds from the first token to the end."""
        return None if self.first_token is None else self.end - self.first_token


@dataclass(frozen=True, kw_only=True)
class SectionFigures:
    """Whatever was written in one go: a point, the introduction, the conclusion. Seconds, from the run's start."""

    id: SectionId
    title: str
    status: SectionStatus
    error: str
    """Why it is not `ok`; empty if it is."""
    text: str
    truncated: bool
    """Whether the text ends where the model ran into a token limit."""
    span: Span | None
    """`None` if it wasn't written in this run, but kept from an earlier one."""
    ready: float | None
    """When it could have begun: at the skeleton's end, or, of a pipelined point, with its title."""
    depends_on: tuple[int, ...] = ()
    """The points that it waited for. A conclusion waits for all of them, which is not listed here."""
    tokens_estimate: int | None = None
    """Output tokens of a point: its share of the expansions' tokens, by the length of its text."""
    critical: bool = False
    """Whether it is on the critical path."""

    @property
    def queued(self) -> float | None:
        """Seconds between when it could have begun and when it did."""
        if self.span is None or self.ready is None or self.span.start < self.ready:
            return None
        return self.span.start - self.ready


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """What a run took. Seconds, from the run's start where they are times; `None` is what the result doesn't tell."""

    route: Literal["skeleton", "direct"] | None
    route_reason: str
    question: str
    answer: str
    routing: Span | None
    skeleton: Span | None
    sections: tuple[SectionFigures, ...]
    """In reading order."""
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
    critical_sections: tuple[SectionId, ...]
    """Those of the critical path, in the order in which they waited for one another."""
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

    @property
    def points(self) -> tuple[SectionFigures, ...]:
        """The sections that are points, sorted by index."""
        return tuple(section for section in self.sections if isinstance(section.id, int))

    @property
    def introduction(self) -> SectionFigures | None:
        """The introduction, where there is one."""
        return next((section for section in self.sections if section.id == "introduction"), None)

    @property
    def conclusion(self) -> SectionFigures | None:
        """The conclusion, where there is one."""
        return next((section for section in self.sections if section.id == "conclusion"), None)

    @property
    def critical_points(self) -> tuple[int, ...]:
        """Indices of the points on the critical path; empty where the introduction took longer than all of them."""
        return tuple(each for each in self.critical_sections if isinstance(each, int))
