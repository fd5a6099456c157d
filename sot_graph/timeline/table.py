"""The table beside the picture: the same times, for those who don't see it, and for those who want to know exactly."""

from __future__ import annotations

from collections.abc import Iterator

from sot_graph.timeline import wording
from sot_graph.timeline.markup import Markup, element, shorten
from sot_graph.timeline.reading import Span
from sot_graph.timeline.records import FrameFigures, PointFigures, RunFigures

__all__ = ["table_of"]

_TITLE_LENGTH = 300
_STYLES = {"failed": "words is-failed", "timed_out": "words is-late"}


def table_of(run: RunFigures) -> Markup:
    """Every stage and point of the run, a row each."""
    columns = ["Started", "First token", "Ended", "Took"]
    if run.points:
        columns.append("Tokens (estimate)")
    head = element(
        "tr",
        element("th", "Step", scope="col", class_="words step"),
        element("th", "State", scope="col", class_="words state"),
        *(element("th", name, scope="col") for name in columns),
    )
    caption = "Times from the run's start."
    framed = any(part.critical for part in (run.introduction, run.conclusion) if part)
    if run.critical_points or framed:
        caption += f" ● marks the {'texts' if framed else 'points'} on the critical path."
    return element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", *_rows(run)),
    )


def _rows(run: RunFigures) -> Iterator[Markup]:
    tokens = [element("td", wording.NOT_KNOWN)] if run.points else []
    if run.routing:
        yield _row("Routing", element("td", "done", class_="words"), run.routing, *tokens)
    if run.skeleton:
        state = "done" if run.points else "none"
        yield _row("Skeleton", element("td", state, class_="words"), run.skeleton, *tokens)
    if run.introduction:
        yield _row(_framing("Introduction", run.introduction), _state(run.introduction), run.introduction.span, *tokens)
    for point in run.points:
        count = element("td", wording.count(point.tokens_estimate))
        yield _row(_title(point), _state(point, wording.waiting(point)), point.span, count)
    if run.conclusion:
        yield _row(_framing("Conclusion", run.conclusion), _state(run.conclusion), run.conclusion.span, *tokens)
    for name, span in (("Direct answer", run.direct), ("Join", run.join)):
        if span:
            yield _row(name, element("td", "done", class_="words"), span, *tokens)


def _row(name: str | Markup, state: Markup, span: Span | None, *more: Markup) -> Markup:
    times = (span.start, span.first_token, span.end, span.seconds) if span else (None,) * 4
    return element(
        "tr",
        element("th", name, scope="row", class_="words"),
        state,
        *(element("td", wording.seconds(time)) for time in times),
        *more,
    )


def _title(point: PointFigures) -> Markup:
    title = element("bdi", shorten(point.title, _TITLE_LENGTH))
    return element("span", f"{point.index}. ", title, _mark(point))


def _framing(name: str, part: FrameFigures) -> Markup:
    return element("span", name, _mark(part))


def _mark(text: PointFigures | FrameFigures) -> Markup | str:
    return element("span", " ●", title="on the critical path") if text.critical else ""


def _state(text: PointFigures | FrameFigures, waiting: str = "") -> Markup:
    error = element("span", element("bdi", shorten(text.error, _TITLE_LENGTH)), class_="error") if text.error else ""
    return element("td", wording.state(text) + waiting, error, class_=_STYLES.get(text.status, "words"))
