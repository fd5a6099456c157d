"""`measure_run`: the figures of a run, from the result that its graph returned.

The result may be incomplete, or come from a JSON file: what isn't there, or makes no sense, is not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from sot_graph.errors import SotConfigError
from sot_graph.report.figures import RunFigures, SectionFigures, SectionId, SectionStatus, Span

__all__ = ["measure_run"]

_CLOCK_TOLERANCE = 1e-6
_LONGEST = 1e15
"""Seconds or tokens: what is more can't be drawn or added up, and is no measurement."""
_FRAME: tuple[Literal["introduction", "conclusion"], ...] = ("introduction", "conclusion")
_ONE_PIECE = 0.02
"""A text that was written in less than this share of its time came in one piece: nothing was streamed."""
_STATUSES: Mapping[str, SectionStatus] = {"ok": "ok", "failed": "failed", "timed_out": "timed_out"}


def measure_run(result: Mapping[str, Any], *, question: str | None = None, local: bool = False) -> RunFigures:
    """Work out the figures of a run from what its graph returned.

    Args:
        result: The graph's output. Any key may be missing, and any value odd: it counts as not known.
        question: Instead of the last human message's text.
        local: Whether the model ran on this machine: no `sequential_estimate` and no `speed_up_estimate` then, since
            the speed of calls that share its cores says nothing about that of one alone.

    Raises:
        SotConfigError: `result` is no dict at all.

    Example:
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
    timings = _mapping(result, "timings")
    usage = _mapping(_mapping(result, "usage"), "total")
    routing, skeleton, direct, join = (
        _span(_mapping(timings, stage)) for stage in ("route", "skeleton", "direct", "join")
    )
    sections = list(_sections(result, skeleton))
    spans = [section.span for section in sections if section.span]
    latest = max((span.end for span in (routing, skeleton, direct, join, *spans) if span), default=None)
    total = _number(timings, "total")
    total = latest if total is None else total

    one_clock = all(_is_of_one_clock(section, total) for section in sections)
    complete = one_clock and len(spans) == len(sections) and not _count(usage, "cache_hits")
    critical_path: float | None = None
    critical_sections: tuple[SectionId, ...] = ()
    if complete and latest is not None:
        begins = skeleton.start if skeleton else 0.0
        chain, critical_sections = _longest_chain(sections, begins)
        # A skeleton that was drafted while the router decided covers the rest of the router's time.
        before = Span(routing.start, min(routing.end, begins)) if routing and skeleton and spans else routing
        critical_path = _covered([before, None if spans else skeleton, direct, join]) + chain

    first_token = _first_token(sections)
    if not sections and direct and direct.first_token is not None:
        # An answer that was begun while the router decided is held back until it has.
        first_token = max(direct.first_token, routing.end if routing else 0.0)
    sequential, streamed = (None, True) if local else _sequential_estimate(sections)
    return RunFigures(
        route="skeleton" if sections else "direct" if direct or result.get("route") == "direct" else None,
        route_reason=_text(result, "route_reason"),
        question=_question(result) if question is None else str(question),
        answer=_text(result, "answer"),
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
        sequential_is_upper_bound=not streamed,
        speed_up_estimate=sequential / total if sequential and total and complete else None,
        input_tokens=_count(usage, "input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        cached_tokens=_count(usage, "cached_tokens"),
        calls=_count(usage, "calls"),
        cache_hits=_count(usage, "cache_hits"),
        local=local,
    )


def _sections(result: Mapping[str, Any], skeleton: Span | None) -> Iterator[SectionFigures]:
    """What the result tells of each section, in reading order."""
    frame, timings = _mapping(result, "frame"), _mapping(result, "timings")
    planned = _by_index(result, "skeleton")
    written, timed = _by_index(result, "expansions"), _by_index(timings, "points")
    for name in _FRAME:
        written[name], timed[name] = _mapping(frame, name), _mapping(timings, name)
    timed = {key: timing for key, timing in timed.items() if _span(timing)}
    tokens = _shares(
        _count(_mapping(_mapping(result, "usage"), "expansion"), "output_tokens"),
        {key: len(_text(written[key], "text")) for key in written if key in timed and key not in _FRAME},
    )
    indices = sorted(key for key in {*planned, *written, *timed} if isinstance(key, int))
    keys: list[SectionId] = ["introduction", *indices, "conclusion"]
    for key in keys:
        point, text, timing = (source.get(key, {}) for source in (planned, written, timed))
        if key in _FRAME and not text and not timing:
            continue
        ready, titled = skeleton.end if skeleton else None, _number(timing, "titled")
        if skeleton and titled is not None:
            ready = max(titled, skeleton.start)
        yield SectionFigures(
            id=key,
            title=key.capitalize() if isinstance(key, str) else _text(point or text, "title"),
            status=_STATUSES.get(_text(text, "status"), "missing"),
            error=_text(text, "error"),
            text=_text(text, "text"),
            truncated=text.get("truncated") is True,
            span=_span(timing),
            ready=ready,
            depends_on=tuple(other for other in _items(point, "depends_on") if type(other) is int),
            tokens_estimate=tokens.get(key),
        )


def _shares(output_tokens: int | None, lengths: Mapping[SectionId, int]) -> dict[SectionId, int]:
    """Tokens shared out by the length of the texts in characters; nothing, if there are none of either."""
    characters = sum(lengths.values())
    if not characters or not output_tokens:
        return {}
    return {index: round(output_tokens * length / characters) for index, length in lengths.items()}


def _is_of_one_clock(section: SectionFigures, total: float | None) -> bool:
    """Nothing can start before that from which it is written is there, nor end after its answer."""
    span, ready = section.span, section.ready or 0.0
    latest = math.inf if total is None else total
    return span is None or (span.start >= ready - _CLOCK_TOLERANCE and span.end <= latest + _CLOCK_TOLERANCE)


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


def _covered(spans: Iterable[Span | None]) -> float:
    """The seconds in which any of these ran: what was speculated on overlaps the router."""
    covered, latest = 0.0, 0.0
    for span in sorted(filter(None, spans), key=lambda span: span.start):
        covered += max(0.0, span.end - max(span.start, latest))
        latest = max(latest, span.end)
    return covered


def _first_token(sections: Iterable[SectionFigures]) -> float | None:
    """In reading order: a text can be read once those before it have ended, be it without a word."""
    readable = 0.0
    for section in sections:
        readable = max(readable, section.ready or 0.0)
        if section.text:
            first_token = section.span.first_token if section.span else readable
            return None if first_token is None else max(readable, first_token)
        readable = max(readable, section.span.end if section.span else 0.0)
    return None


def _sequential_estimate(sections: Iterable[SectionFigures]) -> tuple[float | None, bool]:
    """One wait for a first token, then all the text, one character after the other, at this run's speed.

    Streamed: `shortest wait + characters / speed`, where `speed` is the characters of all streamed texts over the
    sum of their writing seconds. If all were streamed, that is the shortest wait plus the sum of their writing
    seconds. Not streamed: the speed is over the texts' whole seconds, and the wait is in it: the estimate is too high.

    Returns:
        The seconds, and whether the speed is that of first to last token. `(None, True)` if there is no speed.
    """
    texts = [section for section in sections if section.text]
    timed = [(section.span, len(section.text)) for section in texts if section.span]
    streamed = [(span, length) for span, length in timed if (span.writing or 0.0) > _ONE_PIECE * span.seconds]
    written = sum(length for _, length in streamed or timed)
    seconds = sum((span.writing or 0.0) if streamed else span.seconds for span, _ in streamed or timed)
    if not written or not seconds:
        return None, True
    wait = min((span.waiting or 0.0 for span, _ in streamed), default=0.0)
    return wait + seconds * sum(len(section.text) for section in texts) / written, bool(streamed)


def _question(result: Mapping[str, Any]) -> str:
    """The text of the last human message, whether messages are LangChain's or dicts."""
    for message in reversed(_items(result, "messages")):
        if _field(message, "type") == "human" or _field(message, "role") == "user":
            data = _field(message, "data")  # of `messages_to_dict`
            content = _field(data if isinstance(data, Mapping) else message, "content")
            blocks = [content] if isinstance(content, str) else content if isinstance(content, Sequence) else []
            texts = [_text(block, "text") if isinstance(block, Mapping) else str(block) for block in blocks]
            return "\n".join(filter(None, texts))
    return ""


def _field(message: object, key: str) -> object:
    return message.get(key) if isinstance(message, Mapping) else getattr(message, key, None)


def _span(timing: Mapping[str, Any]) -> Span | None:
    """A timing with a start and an end in that order; its first token between them, or left out."""
    start, first_token, end = (_number(timing, key) for key in ("start", "first_token", "end"))
    if start is None or end is None or end < start:
        return None
    return Span(start, end, first_token if first_token is not None and start <= first_token <= end else None)


def _mapping(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = source.get(key)
    return value if isinstance(value, Mapping) else {}


def _items(source: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = source.get(key)
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _by_index(source: Mapping[str, Any], key: str) -> dict[SectionId, Mapping[str, Any]]:
    """The mappings of the list under `key` that have an index, by it."""
    items = [item for item in _items(source, key) if isinstance(item, Mapping)]
    return {item["index"]: item for item in items if type(item.get("index")) is int}


def _text(source: Mapping[str, Any], key: str) -> str:
    value = source.get(key)
    return str(value) if isinstance(value, str) else ""  # a template engine's `Markup` becomes ordinary text, too


def _number(source: Mapping[str, Any], key: str) -> float | None:
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LONGEST:
        return None
    return float(value)


def _count(source: Mapping[str, Any], key: str) -> int | None:
    value = source.get(key)
    return value if type(value) is int and 0 <= value < _LONGEST else None
