"""The pictures: SVG whose lengths are percentages and whose rows are pixels, so that text keeps its size on a phone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sot_graph.timeline import wording
from sot_graph.timeline.legend import CROSS, CUT, DIAMOND, patterns, queue_is_seen, text_style
from sot_graph.timeline.markup import Markup, element, shorten
from sot_graph.timeline.reading import Span
from sot_graph.timeline.records import FrameFigures, PointFigures, RunFigures
from sot_graph.timeline.scale import Scale

__all__ = ["draw_comparison", "draw_timeline"]

_TOP = 22
_ROW = 40
_BAR_TOP = 21
_BAR = 12
_TITLE_LENGTH = 100
_NOTES = {"timed_out": ("timed out · ", "note is-late"), "failed": ("failed · ", "note is-failed")}


def draw_timeline(run: RunFigures) -> Markup:
    """When each stage and point waited and was written."""
    scale = Scale(run.end)
    rows = list(_rows(run, scale))
    height = _TOP + _ROW * len(rows)
    behind = [*scale.axis(_TOP, height)]
    if run.streamed and run.time_to_first_word is not None:
        at = scale.at(run.time_to_first_word)
        behind.append(element("line", class_="first-word", x1=at, x2=at, y1=_TOP, y2=height))
    title = "When each stage and point ran"
    return _picture("timeline", title, _described(run), height, [patterns(), *behind, *_placed(rows, _TOP)])


def draw_comparison(run: RunFigures) -> Markup:
    """This run beside one sequential answer; nothing if there is no such estimate."""
    if run.total is None or run.sequential_estimate is None or not run.complete:
        return Markup()
    at_most = "at most " if run.sequential_is_upper_bound else ""
    bars = [
        ("This run", run.total, "", "bar write"),
        ("One sequential answer (estimate)", run.sequential_estimate, at_most, "bar guess"),
    ]
    scale = Scale(max(length for _, length, _, _ in bars))
    rows = [
        element(
            "g",
            *_labels(name, note + wording.seconds(length)),
            element("rect", class_=style, x=0, y=_BAR_TOP, width=scale.at(length), height=_BAR),
        )
        for name, length, note, style in bars
    ]
    described = " ".join(f"{name}: {note}{wording.seconds(length)}." for name, length, note, _ in bars)
    title = "This run beside one sequential answer"
    return _picture("comparison", title, described, _ROW * len(rows), _placed(rows, 0))


def _picture(name: str, title: str, described: str, height: int, drawn: Sequence[Markup]) -> Markup:
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", described, id=f"{name}-desc"),
        *drawn,
        xmlns="http://www.w3.org/2000/svg",
        class_="timeline",
        width="100%",
        height=height,
        role="img",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-desc",
    )


def _placed(rows: Sequence[Markup], top: int) -> list[Markup]:
    return [
        element("svg", row, y=top + _ROW * number, width="100%", height=_ROW, overflow="visible")
        for number, row in enumerate(rows)
    ]


def _rows(run: RunFigures, scale: Scale) -> Iterator[Markup]:
    if run.routing:
        yield _stage("Routing", run.routing, "routing", scale)
    if run.skeleton:
        yield _stage("Skeleton", run.skeleton, "skeleton", scale)
    if run.introduction:
        yield _framing("Introduction", run.introduction, scale)
    for point in run.points:
        yield _point(run, point, scale)
    if run.conclusion:
        yield _framing("Conclusion", run.conclusion, scale)
    if run.direct:
        yield _stage("Direct answer", run.direct, "whole" if run.direct.first_token is None else "write", scale)
    if run.join:
        mark = _mark(DIAMOND, "diamond", run.join.end, scale)
        yield element("g", *_labels("Join", wording.seconds(run.join.seconds)), mark)


def _stage(name: str, span: Span, style: str, scale: Scale) -> Markup:
    return element("g", *_labels(name, wording.seconds(span.seconds)), *_phases(span, style, scale))


def _framing(name: str, part: FrameFigures, scale: Scale) -> Markup:
    if part.span is None:
        return element("g", *_labels(name, wording.state(part)))
    return element("g", *_text(name, part, part.span, scale))


def _point(run: RunFigures, point: PointFigures, scale: Scale) -> Markup:
    title = f"{point.index}. {shorten(point.title, _TITLE_LENGTH)}"
    tooltip = element("title", f"{title} ({wording.state(point)}{wording.waiting(point)})")
    if point.span is None:
        return element("g", tooltip, *_labels(title, wording.state(point)))
    drawn = [tooltip]
    if run.skeleton and queue_is_seen(point, run):
        ends = {"x1": scale.at(run.skeleton.end), "x2": scale.at(point.span.start)}
        middle = _BAR_TOP + _BAR // 2
        drawn.append(element("line", class_="queue", y1=middle, y2=middle, **ends))
    return element("g", *drawn, *_text(title, point, point.span, scale))


def _text(name: str, text: PointFigures | FrameFigures, span: Span, scale: Scale) -> Iterator[Markup]:
    note, note_style = _NOTES.get(text.status, ("", "note"))
    yield from _labels(name, note + wording.seconds(span.seconds), note_style)
    style = text_style(text)
    yield from _phases(span, style, scale)
    if style == "failed":
        yield _mark(CROSS, "cross", span.end, scale)
    elif style == "late":
        yield _mark(CUT, "cut", span.end, scale)


def _phases(span: Span, style: str, scale: Scale) -> Iterator[Markup]:
    written_from = span.start if span.first_token is None else span.first_token
    if written_from > span.start:
        yield _bar("waiting", span.start, written_from, scale)
    yield _bar(style, written_from, span.end, scale)
    # However short the bar is, a line shows where it is.
    at = scale.at(written_from)
    yield element("line", class_=f"edge edge-{style}", x1=at, x2=at, y1=_BAR_TOP, y2=_BAR_TOP + _BAR)


def _bar(style: str, start: float, end: float, scale: Scale) -> Markup:
    width = scale.at(end - start)
    return element("rect", class_=f"bar {style}", x=scale.at(start), y=_BAR_TOP, width=width, height=_BAR)


def _mark(path: str, style: str, at: float, scale: Scale) -> Markup:
    shape = element("path", class_=style, d=path)
    return element("svg", shape, x=scale.at(at), y=_BAR_TOP + _BAR // 2, overflow="visible")


def _labels(left: str, right: str, right_style: str = "note") -> tuple[Markup, Markup]:
    return (
        # A picture of its own cuts off a long title at the right edge.
        element("svg", element("text", left, class_="label", y=14), width="100%", height=_BAR_TOP - 2),
        element("text", right, class_=right_style, x="100%", y=14, text_anchor="end"),
    )


def _described(run: RunFigures) -> str:
    sentences = [f"The axis goes from 0 to {wording.seconds(run.end)}."]
    if run.skeleton and run.points:
        sentences.append(f"The skeleton was there after {wording.seconds(run.skeleton.end)}.")
    timed = [point.span for point in run.points if point.span]
    if timed:
        first, last = min(span.start for span in timed), max(span.end for span in timed)
        points = wording.counted(len(timed), "point")
        sentences.append(f"{points} ran between {wording.seconds(first)} and {wording.seconds(last)}.")
    broken = [str(point.index) for point in run.points if point.status in _NOTES]
    if broken:
        sentences.append(f"Failed or cut off: {', '.join(broken)}.")
    if run.time_to_first_word is not None:
        sentences.append(f"The first word could be read after {wording.seconds(run.time_to_first_word)}.")
    return " ".join([*sentences, "The table below holds the same times."])
