"""`result_timeline`: a run's figures, its picture, its table and its answer, as one HTML document that fetches nothing.

The markup is in `template.html` and `picture.html`. Jinja escapes whatever is put into them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sot_graph.report.figures import RunFigures
from sot_graph.report.metrics import measure_run
from sot_graph.report.steps import Scale, legend_of, steps_of

__all__ = ["clean", "result_timeline", "seconds", "shorten", "with_bold"]

_HEADING_LENGTH = 160
_NOT_KNOWN = "–"  # noqa: RUF001 - a dash, as tables have it
_SECONDS = ((0.0005, "<1 ms"), (0.0995, "{ms:.0f} ms"), (9.995, "{s:.2f} s"), (59.95, "{s:.1f} s"))
"""Below the first number of seconds, the second is how they are written."""
_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters, and what can't be written as UTF-8: no XML holds them."""
_BIDI_CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""They turn the text around them, too. The marks that right-to-left text is spelled with stay."""
_BOLD = re.compile(r"\*\*([^\n*]+)\*\*")


def result_timeline(
    result: Mapping[str, Any], *, question: str | None = None, title: str | None = None, local: bool = False
) -> str:
    """Draw a run: a self-contained HTML page, without scripts, that fetches nothing.

    It holds the question and the answer as they are: it is as confidential as these. All text of the run is escaped.

    Args:
        result: What a graph returned: of `invoke`, or the last `values` of a stream. Any key may be missing. The times
            of first tokens are only there if the run was streamed.
        question: Instead of the text of the last human message in `messages`.
        title: The page's heading; the question, if it is left out.
        local: Whether the model ran on this machine, where parallel calls share the cores: then no speed-up is
            estimated.

    Returns:
        The document, to be written to a file as UTF-8.

    Raises:
        SotConfigError: `result` is no dict at all.

    Example:
        >>> page = result_timeline({"answer": "Sleep.", "timings": {"total": 1.5}}, question="How to rest?")
        >>> page[:15], "How to rest?" in page, "1.50 s" in page
        ('<!doctype html>', True, True)
    """
    run = measure_run(result, question=question, local=local)
    steps = steps_of(run)
    is_cut = len(run.question) > _HEADING_LENGTH or "\n" in run.question.strip()
    return _templates().get_template("template.html").render(
        run=run,
        heading=shorten(title or run.question, _HEADING_LENGTH) or "A run of sot_graph",
        question=run.question if title or is_cut else "",
        summary=_summary(run),
        steps=steps,
        legend=list(legend_of(run, steps)),
        scale=Scale(run.end),
        comparison_scale=Scale(max(run.total or 0.0, run.sequential_estimate or 0.0)),
    )  # fmt: skip


def _summary(run: RunFigures) -> str:
    if run.route == "direct":
        reason = f": {shorten(run.route_reason, 300)}" if run.route_reason else ""
        return f"Answered directly, without a skeleton{reason}."
    if run.route is None:
        return "The result names neither points nor a route."
    counts = (
        ("failed", [point.status == "failed" for point in run.points]),
        ("cut off by the deadline", [point.status == "timed_out" for point in run.points]),
        ("cut off at a token limit", [point.status == "ok" and point.truncated for point in run.points]),
        ("kept from an earlier run", [point.status == "ok" and point.span is None for point in run.points]),
    )
    points = counted(len(run.points), "point") + (", written in parallel" if len(run.points) > 1 else "")
    return "; ".join([points, *(f"{sum(which)} {what}" for what, which in counts if any(which))]) + "."


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("sot_graph.report", "."),
        autoescape=True,
        finalize=lambda value: clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for wording in (count, counted, seconds, shorten, times, with_bold):
        templates.filters[wording.__name__] = wording
    return templates


def clean(text: str) -> str:
    """The text without characters that a page can't hold, or that would turn others around."""
    return _BIDI_CONTROLS.sub("", _UNWANTED.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n")))


def shorten(text: str, length: int) -> str:
    """The text on one line, with an ellipsis if it is longer than `length` characters."""
    line = " ".join(clean(text[: 4 * length]).split())
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


def with_bold(text: str) -> Markup:
    """The text with `**bold**` as such, all else as it is written."""
    return Markup(_BOLD.sub(r"<strong>\1</strong>", str(escape(clean(text)))))


def seconds(value: float | None) -> str:
    """A time, to two or three digits: `0 s`, `34 ms`, `1.25 s`, `12.5 s`, `2 min 5 s`."""
    if not value:
        return _NOT_KNOWN if value is None else "0 s"
    for limit, form in _SECONDS:
        if value < limit:
            return form.format(s=value, ms=1000 * value)
    minutes, rest = divmod(round(value), 60)
    return f"{minutes:,} min {rest} s"


def count(value: int | None) -> str:
    """A number with its thousands apart."""
    return _NOT_KNOWN if value is None else f"{value:,}"


def counted(number: int, one: str) -> str:
    """`1 point`, `3 points`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def times(value: float | None) -> str:
    """A ratio, to one digit."""
    return _NOT_KNOWN if value is None else f"{value:.1f}×"  # noqa: RUF001 - a multiplication sign
