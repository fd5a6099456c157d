"""`measure_run`: the figures of a run, from the result that its graph returned.

The result may be incomplete, or come from a JSON file: what isn't there, or makes no sense, is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from sot_graph.errors import SotConfigError
from sot_graph.types import FRAME_PART_NAMES, FramePartName

SectionId: TypeAlias = int | FramePartName
"""A point's index, or the name of what stands around the points."""

_CLOCK_TOLERANCE = 1e-6
_LARGEST_MEASUREMENT = 1e15
"""Seconds or tokens: what is more can't be drawn or added up, and is no measurement."""
_ONE_PIECE = 0.02
"""A text that was written in less than this share of its time came in one piece: nothing was streamed."""
_STATUSES = ("ok", "failed", "timed_out")
_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "calls", "cache_hits")
"""Figures of the run that stand in its `usage` as they are."""
_EMPTY: Mapping[type, Any] = {Mapping: {}, Sequence: (), str: ""}
"""What is read where the result holds nothing of a kind; `None` of a number."""


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
    """Whatever was written in one go: a point, or a text around the points. Seconds, from the run's start."""

    id: SectionId
    title: str
    status: Literal["ok", "failed", "timed_out", "missing"]
    """The status in the result; `"missing"` where the result holds no text for the section."""
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
    """When the first word of an opening or introduction, or else of point 1, could be read; of a run that wasn't
    streamed: `total`."""
    streamed: bool
    """Whether `time_to_first_word` is that of a first token."""
    one_clock: bool
    """`False` if the times can't be of one run: a resumed run keeps the times of what the first one had finished."""
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
    cache_write_tokens: int | None
    """Those of `input_tokens` that it wrote into its prompt cache."""
    estimated: bool
    """Whether some of the tokens are estimated, since the provider told none."""
    cost: float | None
    """In dollars; `None`: not known."""
    unpriced: tuple[str, ...]
    """The models without a known price. Their calls aren't in `cost`."""
    calls: int | None
    cache_hits: int | None
    local: bool
    """Whether the model ran on this machine."""

    @property
    def points(self) -> tuple[SectionFigures, ...]:
        """The sections that are points, sorted by index."""
        return tuple(section for section in self.sections if isinstance(section.id, int))

    def section(self, id: SectionId) -> SectionFigures | None:
        """The section of this id, such as `"conclusion"`, where there is one."""
        return next((section for section in self.sections if section.id == id), None)

    @property
    def critical_points(self) -> tuple[int, ...]:
        """Indices of the points on the critical path; empty where the introduction took longer than all of them."""
        return tuple(each for each in self.critical_sections if isinstance(each, int))


def measure_run(result: Mapping[str, Any], *, question: str | None = None, local: bool = False) -> RunFigures:
    """Work out the figures of a run from what its graph returned.

    Args:
        result: The graph's output. Any key may be missing, and any value odd: it counts as not known.
        question: Instead of the last human message's text.
        local: Whether the model ran on this machine: no `sequential_estimate` and no `speed_up_estimate` then, since
            the speed of calls that share its cores says nothing about that of one alone.

    Raises:
        SotConfigError: `result` is no dict at all.

    Examples:
        >>> times = {"start": 0.5, "first_token": 1.0, "end": 3.0}
        >>> figures = measure_run({
        ...     "skeleton": [{"index": 1, "title": "A"}, {"index": 2, "title": "B"}],
        ...     "expansions": [{"index": i, "title": "", "text": "Text.", "status": "ok"} for i in (1, 2)],
        ...     "timings": {"points": [{"index": i, **times} for i in (1, 2)], "total": 3.0},
        ... })
        >>> figures.time_to_first_word, figures.sequential_estimate, figures.speed_up_estimate
        (1.0, 4.5, 1.5)
    """
    if not isinstance(result, Mapping):
        message = f"A timeline is drawn from the dict that a graph returned, not from {type(result).__name__}."
        raise SotConfigError(message)
    timings = _read(result, "timings", Mapping)
    usage = _read(_read(result, "usage", Mapping), "total", Mapping)
    cost = _read(_read(result, "usage", Mapping), "cost", Mapping)
    routing, skeleton, direct, join = (_read_span(timings, stage) for stage in ("route", "skeleton", "direct", "join"))
    sections = list(_read_sections(result, timings, skeleton))
    spans = [section.span for section in sections if section.span]
    latest = max((span.end for span in (routing, skeleton, direct, join, *spans) if span), default=None)
    total = _read(timings, "total", float)
    total = latest if total is None else total

    # If all times are of one clock, no section starts before it is ready, and none ends after the answer.
    one_clock = all(
        section.span.start >= (section.ready or 0.0) - _CLOCK_TOLERANCE
        and section.span.end <= (total or 0.0) + _CLOCK_TOLERANCE
        for section in sections
        if section.span
    )
    complete = one_clock and len(spans) == len(sections) and not _read(usage, "cache_hits", int)
    critical_path: float | None = None
    critical_sections: tuple[SectionId, ...] = ()
    if complete and latest is not None:
        # The chain of sections begins at the skeleton's start, so that it holds the skeleton's seconds.
        skeleton_start = skeleton.start if skeleton else 0.0
        critical_path, critical_sections = _longest_chain(sections, skeleton_start)
        # A skeleton that was drafted while the router decided covers the rest of the router's time.
        routing_alone = routing
        if routing and skeleton and spans:
            routing_alone = Span(routing.start, min(routing.end, skeleton_start))
        # Of the other stages, no second that two of them share counts twice.
        counted_until = 0.0
        stages = (routing_alone, None if spans else skeleton, direct, join)
        for span in sorted(filter(None, stages), key=lambda span: span.start):
            critical_path += max(0.0, span.end - max(span.start, counted_until))
            counted_until = max(counted_until, span.end)

    first_token = direct.first_token if direct and not sections else _first_readable_token(sections)
    if not any(span.first_token is not None for span in (direct, *spans) if span):
        first_token = None  # nothing was streamed, be there kept texts that could have been read at once
    if first_token is not None and routing:
        # What was begun while the router decided is held back until it has.
        first_token = max(first_token, routing.end)
    sequential, is_measured = (None, True) if local else _sequential_estimate(sections)
    is_direct = direct or result.get("route") == "direct"
    return RunFigures(
        route="skeleton" if sections and not direct else "direct" if is_direct else None,
        route_reason=_read(result, "route_reason", str),
        question=_last_question(result) if question is None else str(question),
        answer=_read(result, "answer", str),
        routing=routing,
        skeleton=skeleton,
        sections=tuple(replace(section, critical=section.id in critical_sections) for section in sections),
        direct=direct,
        join=join,
        total=total,
        end=max(total or 0.0, latest or 0.0),
        time_to_first_word=(total if first_token is None else first_token) if one_clock else None,
        streamed=first_token is not None and one_clock,
        one_clock=one_clock,
        complete=complete,
        critical_path=critical_path,
        critical_sections=critical_sections,
        sequential_estimate=sequential,
        sequential_is_upper_bound=not is_measured,
        speed_up_estimate=sequential / total if sequential and total and complete else None,
        **{name: _read(usage, name, int) for name in _COUNTS},
        estimated=usage.get("estimated") is True,
        cost=_read(cost, "total", float),
        unpriced=tuple(str(name) for name in _read(cost, "unpriced", Sequence)),
        local=local,
    )


def _read_sections(
    result: Mapping[str, Any], timings: Mapping[str, Any], skeleton: Span | None
) -> Iterator[SectionFigures]:
    """What the result tells of each section, in reading order."""
    planned: dict[SectionId, Mapping[str, Any]]
    planned, written, timed = (
        {
            item["index"]: item
            for item in _read(source, key, Sequence)
            if isinstance(item, Mapping) and type(item.get("index")) is int
        }
        for source, key in ((result, "skeleton"), (result, "expansions"), (timings, "points"))
    )
    frame = _read(result, "frame", Mapping)
    for name in FRAME_PART_NAMES:
        written[name], timed[name] = _read(frame, name, Mapping), _read(timings, name, Mapping)
    timed = {key: timing for key, timing in timed.items() if _read_span(timed, key)}
    # The tokens of the points that were written in this run are shared out by the length of their texts.
    tokens = _read(_read(_read(result, "usage", Mapping), "expansion", Mapping), "output_tokens", int)
    lengths = {key: len(_read(written[key], "text", str)) for key in written if key in timed and isinstance(key, int)}
    characters = sum(lengths.values())
    indices = sorted(key for key in {*planned, *written, *timed} if isinstance(key, int))
    keys: list[SectionId] = ["opening", "introduction", *indices, "conclusion"]
    for key in keys:
        point, text, timing = (source.get(key, {}) for source in (planned, written, timed))
        if key in FRAME_PART_NAMES and not text and not timing:
            continue
        ready, titled = skeleton.end if skeleton else None, _read(timing, "titled", float)
        if skeleton and titled is not None:
            ready = max(titled, skeleton.start)
        if key == "opening":  # written from the question, beside the skeleton
            ready = None
        status: Any = _read(text, "status", str)
        yield SectionFigures(
            id=key,
            title=key.capitalize() if isinstance(key, str) else _read(point or text, "title", str),
            status=status if status in _STATUSES else "missing",
            error=_read(text, "error", str),
            text=_read(text, "text", str),
            truncated=text.get("truncated") is True,
            span=_read_span(timed, key),
            ready=ready,
            depends_on=tuple(other for other in _read(point, "depends_on", Sequence) if type(other) is int),
            tokens_estimate=round(tokens * lengths[key] / characters)
            if tokens and characters and key in lengths
            else None,
        )


def _longest_chain(sections: Sequence[SectionFigures], begins: float) -> tuple[float, tuple[SectionId, ...]]:
    """The sections that wait for one another and together end last: the seconds until then, and their ids in order.

    Only how long a section took counts, and that it can't begin before it is ready; not when it was begun.
    """
    best: dict[SectionId, tuple[float, tuple[SectionId, ...]]] = {}
    timed = [(section.span, section) for section in sections if section.span]
    # A section starts after those it waits for have ended: by start, every chain comes in its order, and no cycle can.
    for span, section in sorted(timed, key=lambda each: (each[0].start, each[0].end)):
        needs: Iterable[SectionId] = [*best] if section.id == "conclusion" else section.depends_on
        ready = begins if section.ready is None else section.ready
        chains = [best[other] for other in needs if other in best]
        before = max([*chains, (ready - begins, ())], key=lambda chain: chain[0])
        best[section.id] = (before[0] + span.seconds, (*before[1], section.id))
    return max(best.values(), key=lambda chain: chain[0], default=(0.0, ()))


def _first_readable_token(sections: Iterable[SectionFigures]) -> float | None:
    """When the first word could be read: a text can be read once all texts before it have ended."""
    readable = 0.0
    for section in sections:
        readable = max(readable, section.ready or 0.0)
        if section.text:
            first_token = section.span.first_token if section.span else readable
            return None if first_token is None else max(readable, first_token)
        readable = max(readable, section.span.end if section.span else 0.0)
    return None


def _sequential_estimate(sections: Iterable[SectionFigures]) -> tuple[float | None, bool]:
    """The shortest wait for a first token, then all the text at the speed of those that were streamed.

    Where none was, the speed is over the texts' whole seconds, and the wait is in it: the estimate is too high.

    Returns:
        The seconds, and whether the speed is that of first to last token. `(None, True)` if there is no speed.
    """
    texts = [section for section in sections if section.text]
    timed = [(section.span, len(section.text)) for section in texts if section.span]
    streamed = [
        (span, length)
        for span, length in timed
        if span.first_token is not None and span.end - span.first_token > _ONE_PIECE * span.seconds
    ]
    written = sum(length for _, length in streamed or timed)
    seconds = sum((span.writing or 0.0) if streamed else span.seconds for span, _ in streamed or timed)
    if not written or not seconds:
        return None, True
    wait = min((span.waiting or 0.0 for span, _ in streamed), default=0.0)
    return wait + seconds * sum(len(section.text) for section in texts) / written, bool(streamed)


def _last_question(result: Mapping[str, Any]) -> str:
    """The text of the last human message, whether messages are LangChain's or dicts."""

    def field(message: object, key: str) -> Any:
        return message.get(key) if isinstance(message, Mapping) else getattr(message, key, None)

    for message in reversed(_read(result, "messages", Sequence)):
        if field(message, "type") == "human" or field(message, "role") == "user":
            data = field(message, "data")  # of `messages_to_dict`
            content = field(data if isinstance(data, Mapping) else message, "content")
            blocks = [content] if isinstance(content, str) else content if isinstance(content, Sequence) else []
            texts = [_read(block, "text", str) if isinstance(block, Mapping) else str(block) for block in blocks]
            return "\n".join(filter(None, texts))
    return ""


def _read_span(source: Mapping[Any, Any], key: SectionId | str) -> Span | None:
    """A timing with a start and an end in that order; its first token between them, or left out."""
    timing = _read(source, key, Mapping)
    start, first_token, end = (_read(timing, name, float) for name in ("start", "first_token", "end"))
    if start is None or end is None or end < start:
        return None
    return Span(start, end, first_token if first_token is not None and start <= first_token <= end else None)


def _read(source: Mapping[Any, Any], key: SectionId | str, kind: type) -> Any:
    """The value under `key`; what is empty where it isn't of this kind, or is a number that is no measurement."""
    value = source.get(key)
    is_odd = isinstance(value, bool) or (kind is Sequence and isinstance(value, str | bytes))
    if is_odd or not isinstance(value, (int, float) if kind is float else kind):
        return _EMPTY.get(kind)
    if isinstance(value, (int, float)):
        return value if 0 <= value < _LARGEST_MEASUREMENT else None
    return str(value) if kind is str else value  # a template engine's `Markup` becomes ordinary text
