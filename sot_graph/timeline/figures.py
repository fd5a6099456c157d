"""The figures of a run, measured and estimated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sot_graph.timeline.estimating import longest_chain, sequential_estimate, share_tokens
from sot_graph.timeline.reading import Span, count_at, part, parts, question_of, seconds_at, span_of, text_at
from sot_graph.timeline.records import FrameFigures, PointFigures, PointStatus, RunFigures

__all__ = ["measure_run"]

_CLOCK_TOLERANCE = 1e-6
_FRAME = ("introduction", "conclusion")
_STATUSES: Mapping[str, PointStatus] = {"ok": "ok", "failed": "failed", "timed_out": "timed_out"}


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
    asked = question_of(result) if question is None else question
    timings = part(result, "timings")
    routing, skeleton, direct, join = (span_of(part(timings, key)) for key in ("route", "skeleton", "direct", "join"))
    spans = {index: span for index, timing in parts(timings, "points") if (span := span_of(timing))}
    frame = {name: span for name in _FRAME if (span := span_of(part(timings, name)))}
    frame_texts = {name: text_at(part(part(result, "frame"), name), "text") for name in part(result, "frame")}
    stages = [span for span in (routing, skeleton, direct, join, *spans.values(), *frame.values()) if span]
    latest = max((span.end for span in stages), default=0.0)
    total = seconds_at(timings, "total")
    if total is None and stages:
        total = latest

    usage = part(part(result, "usage"), "total")
    expansions = dict(parts(result, "expansions"))
    texts = {index: text_at(expansion, "text") for index, expansion in expansions.items()}
    depends_on = {index: _indices(point) for index, point in parts(result, "skeleton")}
    ready = _ready(timings, skeleton)
    whole = skeleton.end if skeleton else 0.0
    one_clock = _one_clock({**spans, **frame}, {**ready, **dict.fromkeys(_FRAME, whole)}, total)
    timed = spans.keys() >= {*expansions, *depends_on} and frame.keys() >= frame_texts.keys()
    complete = one_clock and timed and not count_at(usage, "cache_hits")
    begins = skeleton.start if skeleton else 0.0
    offsets = {index: ready.get(index, begins) - begins for index in spans}
    chain, critical_points = longest_chain(spans, depends_on, offsets) if complete else (0.0, ())
    introduced = whole - begins + frame["introduction"].seconds if complete and "introduction" in frame else 0.0
    if introduced > chain:
        chain, critical_points = introduced, ()
    critical_frame = {"introduction": introduced > 0 and not critical_points, "conclusion": complete}
    framed = {name: _frame_figures(result, name, frame.get(name), critical_frame[name]) for name in _FRAME}
    points = tuple(_points(result, expansions, spans, ready, texts, depends_on, critical_points))
    first_token = _first_token_of_direct(direct, routing)
    if points:
        first_token = _first_token(framed["introduction"], points, ready, whole)
    sequential = None if local else sequential_estimate({**spans, **frame}, {**texts, **frame_texts})
    before = Span(routing.start, min(routing.end, begins)) if routing and skeleton and spans else routing
    alone = (before, direct, join, frame.get("conclusion"), None if spans or introduced else skeleton)
    other_stages = _covered([span for span in alone if span])
    return RunFigures(
        route="skeleton" if points else "direct" if direct or result.get("route") == "direct" else None,
        route_reason=text_at(result, "route_reason"),
        question=asked,
        answer=text_at(result, "answer"),
        routing=routing,
        skeleton=skeleton,
        points=points,
        introduction=framed["introduction"],
        conclusion=framed["conclusion"],
        direct=direct,
        join=join,
        total=total,
        end=max(total or 0.0, latest),
        time_to_first_word=(total if first_token is None else first_token) if one_clock else None,
        streamed=first_token is not None and one_clock,
        one_clock=one_clock,
        complete=complete,
        critical_path=other_stages + chain if stages and complete else None,
        critical_points=critical_points,
        sequential_estimate=sequential.seconds if sequential else None,
        sequential_is_upper_bound=sequential is not None and not sequential.streamed,
        speed_up_estimate=sequential.seconds / total if sequential and total and complete else None,
        input_tokens=count_at(usage, "input_tokens"),
        output_tokens=count_at(usage, "output_tokens"),
        cached_tokens=count_at(usage, "cached_tokens"),
        calls=count_at(usage, "calls"),
        cache_hits=count_at(usage, "cache_hits"),
        local=local,
    )


def _ready(timings: Mapping[str, Any], skeleton: Span | None) -> dict[int, float]:
    """When each point could begin: with its own title where it was pipelined, else with the whole skeleton."""
    if skeleton is None:
        return {}
    ready: dict[int, float] = {}
    for index, timing in parts(timings, "points"):
        titled = seconds_at(timing, "titled")
        ready[index] = skeleton.end if titled is None else max(titled, skeleton.start)
    return ready


def _frame_figures(result: Mapping[str, Any], name: str, span: Span | None, critical: bool) -> FrameFigures | None:
    written = part(part(result, "frame"), name)
    if not written:
        return None
    return FrameFigures(
        status=_STATUSES.get(text_at(written, "status"), "missing"),
        error=text_at(written, "error"),
        text=text_at(written, "text"),
        truncated=written.get("truncated") is True,
        span=span,
        critical=critical and span is not None,
    )


def _indices(point: Mapping[str, Any]) -> list[int]:
    depends_on = point.get("depends_on")
    return [index for index in depends_on if type(index) is int] if isinstance(depends_on, list) else []


def _points(
    result: Mapping[str, Any],
    expansions: Mapping[int, Mapping[str, Any]],
    spans: Mapping[int, Span],
    ready: Mapping[int, float],
    texts: Mapping[int, str],
    depends_on: Mapping[int, Sequence[int]],
    critical_points: Iterable[int],
) -> Iterable[PointFigures]:
    titles = {
        index: text_at(point, "title") for key in ("expansions", "skeleton") for index, point in parts(result, key)
    }
    output_tokens = count_at(part(part(result, "usage"), "expansion"), "output_tokens")
    tokens = share_tokens({index: texts[index] for index in texts if index in spans}, output_tokens)
    for index in sorted({*titles, *spans}):
        expansion = expansions.get(index, {})
        span = spans.get(index)
        yield PointFigures(
            index=index,
            title=titles.get(index, ""),
            status=_STATUSES.get(text_at(expansion, "status"), "missing"),
            error=text_at(expansion, "error"),
            text=texts.get(index, ""),
            truncated=expansion.get("truncated") is True,
            span=span,
            queued=span.start - ready[index] if span and span.start >= ready.get(index, math.inf) else None,
            tokens_estimate=tokens.get(index),
            critical=index in critical_points,
            depends_on=tuple(depends_on.get(index, ())),
        )


def _one_clock(spans: Mapping[Any, Span], ready: Mapping[Any, float], total: float | None) -> bool:
    """Nothing can start before that from which it is written is there (`ready`), nor end after its answer."""
    return all(
        span.start >= ready.get(index, 0.0) - _CLOCK_TOLERANCE
        and (total is None or span.end <= total + _CLOCK_TOLERANCE)
        for index, span in spans.items()
    )


def _first_token(
    introduction: FrameFigures | None, points: Iterable[PointFigures], ready: Mapping[int, float], whole: float
) -> float | None:
    """In reading order: a text can be read once those before it have ended, be it without a word."""
    readable = 0.0
    if introduction:
        if introduction.text:
            return whole if introduction.span is None else introduction.span.first_token
        readable = introduction.span.end if introduction.span else 0.0
    for point in points:
        readable = max(readable, ready.get(point.index, whole))
        if point.text:
            return readable if point.span is None else _later(readable, point.span.first_token)
        readable = max(readable, point.span.end if point.span else 0.0)
    return None


def _first_token_of_direct(direct: Span | None, routing: Span | None) -> float | None:
    """An answer that was begun while the router decided is held back until it has."""
    return _later(routing.end if routing else 0.0, direct.first_token) if direct else None


def _covered(spans: Iterable[Span]) -> float:
    """The seconds in which any of these ran: what was speculated on overlaps the router."""
    covered, latest = 0.0, 0.0
    for span in sorted(spans, key=lambda span: span.start):
        covered += max(0.0, span.end - max(span.start, latest))
        latest = max(latest, span.end)
    return covered


def _later(readable: float, first_token: float | None) -> float | None:
    return None if first_token is None else max(readable, first_token)
