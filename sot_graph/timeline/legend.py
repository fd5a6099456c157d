"""The patterns that a picture is drawn with, none of them told by its colour alone, and the list of what they mean."""

from __future__ import annotations

from collections.abc import Iterator

from sot_graph.timeline import wording
from sot_graph.timeline.markup import Markup, element
from sot_graph.timeline.records import FrameFigures, PointFigures, RunFigures

__all__ = ["CROSS", "CUT", "DIAMOND", "draw_legend", "patterns", "queue_is_seen", "text_style"]

CROSS = "M-5-5L5 5M5-5L-5 5"
CUT = "M0-10V10"
DIAMOND = "M0-7L6 0L0 7L-6 0Z"

_SEEN = 0.02
"""A queue shorter than this share of the run is the graph's own step from one node to the next."""
_STYLES = {"timed_out": "late", "failed": "failed", "missing": "failed"}


def text_style(text: PointFigures | FrameFigures) -> str:
    """The pattern of a text: `write`, `whole` (not streamed), `late` or `failed`."""
    streamed = text.span is not None and text.span.first_token is not None
    return _STYLES.get(text.status, "write" if streamed else "whole")


def queue_is_seen(point: PointFigures, run: RunFigures) -> bool:
    """Whether a point waited for others long enough to be drawn."""
    return (point.queued or 0.0) > _SEEN * run.end


def patterns() -> Markup:
    """The definitions that the style sheet's `url(#...)` refer to."""

    def pattern(name: str, width: int, height: int, *shapes: Markup, turned: str | None = None) -> Markup:
        return element(
            "pattern", *shapes, id=name, width=width, height=height, patternUnits="userSpaceOnUse",
            patternTransform=turned,
        )  # fmt: skip

    def rect(style: str, width: float, height: float, y: float | None = None) -> Markup:
        return element("rect", class_=style, width=width, height=height, y=y)

    crossed = element("path", class_="fail-line", d="M0 0L7 7M7 0L0 7")
    return element(
        "defs",
        pattern("waiting", 6, 6, rect("wait-back", 6, 6), rect("wait-line", 2.2, 6), turned="rotate(45)"),
        pattern("whole", 5, 4, rect("write", 5, 4), rect("gap", 5, 1, 1.5)),
        pattern("failed", 7, 7, rect("fail-back", 7, 7), crossed),
        pattern("late", 5, 5, rect("late-back", 5, 5), rect("late-line", 2, 5)),
    )


def draw_legend(run: RunFigures) -> Markup:
    """What this run's picture is made of: what is in it, and nothing else."""
    return element(
        "ul",
        *(element("li", _picture(shape), element("span", words)) for shape, words in _entries(run)),
        class_="legend",
    )


def _entries(run: RunFigures) -> Iterator[tuple[Markup, str]]:
    timed = [point for point in run.points if point.span]
    texts: list[PointFigures | FrameFigures] = [
        *timed,
        *(part for part in (run.introduction, run.conclusion) if part and part.span),
    ]
    styles = {text_style(text) for text in texts}
    spans = [run.skeleton, run.direct, *(text.span for text in texts)]
    if run.direct:
        styles.add("write" if run.direct.first_token is not None else "whole")
    if run.routing:
        yield _bar("routing"), "Routing"
    if run.skeleton:
        yield _bar("skeleton"), "Skeleton"
    if any(queue_is_seen(point, run) for point in timed):
        yield element("line", class_="queue", x1=1, x2=27, y1=8, y2=8), "Waiting for its turn"
    if any(span.first_token is not None for span in spans if span):
        yield _bar("waiting"), "Waiting for the first token"
    for style, words in (
        ("write", "Writing"),
        ("whole", "Model call, not streamed"),
        ("failed", "Failed"),
        ("late", "Cut off by the deadline"),
    ):
        if style in styles:
            yield _bar(style), words
    if run.join:
        yield element("path", class_="diamond", d=DIAMOND, transform="translate(14 8)"), "Join"
    if run.streamed:
        words = f"First word to read: {wording.seconds(run.time_to_first_word)}"
        yield element("line", class_="first-word", x1=14, x2=14, y1=0, y2=16), words


def _bar(style: str) -> Markup:
    return element("rect", class_=f"bar {style}", x=0.5, y=2.5, width=27, height=11)


def _picture(shape: Markup) -> Markup:
    return element("svg", shape, width=28, height=16, aria_hidden="true", focusable="false")
