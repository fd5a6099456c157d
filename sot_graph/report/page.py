"""`result_timeline`: a run's figures, its picture, its table and its answer, as one HTML document that fetches nothing.

The markup and its wording are in `template.html` and `picture.html`. Jinja escapes whatever is put into them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sot_graph.report.metrics import RunFigures, SectionFigures, Span, measure_run

_HEADING_LENGTH = 160
_LEAST_QUEUE = 0.02
"""A queue shorter than this share of the run is the graph's own step from one node to the next."""
_STATES = {"ok": "done", "failed": "failed", "timed_out": "cut off by the deadline", "missing": "not written"}
_STYLES_OF_BROKEN = {"timed_out": "late", "failed": "failed", "missing": "failed"}
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

    Examples:
        >>> page = result_timeline({"answer": "Sleep.", "timings": {"total": 1.5}}, question="How to rest?")
        >>> page[:15], "How to rest?" in page, "1.50 s" in page
        ('<!doctype html>', True, True)
    """
    run = measure_run(result, question=question, local=local)
    is_cut = len(run.question) > _HEADING_LENGTH or "\n" in run.question.strip()
    return page_templates("sot_graph.report").get_template("template.html").render(
        run=run,
        heading=shorten(title or run.question, _HEADING_LENGTH) or "A run of sot_graph",
        question=run.question if title or is_cut else "",
        steps=steps_of(run),
        scale=Scale(run.end),
        comparison_scale=Scale(max(run.total or 0.0, run.sequential_estimate or 0.0)),
    )  # fmt: skip


@cache
def page_templates(*packages: str, html: bool = True) -> Environment:
    """The templates of these packages. What is put into them is cleaned, and in HTML it is escaped."""
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(package, "") for package in packages]),
        autoescape=html,
        finalize=lambda value: clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for wording in (dollars, grouped, with_noun, seconds, shorten, with_bold, cell):
        templates.filters[wording.__name__] = wording
    return templates


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
    """A point's number, which stands before its name."""
    queued_from: float | None = None
    """Since when it waited for its turn, where that took long enough to be drawn."""
    section: SectionFigures | None = None
    """`None`: this row is a stage."""

    @property
    def status(self) -> str:
        """The section's status. That of a stage is always `ok`."""
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
    state = _STATES[section.status]
    if section.status == "ok" and section.span is None:
        state = "kept from an earlier run"
    elif section.status == "ok" and section.truncated:
        state = "done, but cut off at a token limit"
    if section.depends_on:  # "done, after 1, 2 and 3"
        *others, last = map(str, section.depends_on)
        state += f", after {', '.join(others)} and {last}" if others else f", after {last}"
    return Step(
        name=section.title,
        style=_STYLES_OF_BROKEN.get(section.status) or _style_of(section.span),
        span=section.span,
        state=state,
        number=f"{section.id}. " if isinstance(section.id, int) else "",
        queued_from=section.ready if (section.queued or 0.0) > _LEAST_QUEUE * run.end else None,
        section=section,
    )


def _style_of(span: Span | None) -> str:
    return "whole" if span is None or span.first_token is None else "write"


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
    """A label behind this share of the width ends at its tick, so that it isn't cut off."""

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


def clean(text: str) -> str:
    """The text without characters that a page can't hold, or that would turn others around."""
    return _BIDI_CONTROLS.sub("", _UNWANTED.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n")))


def shorten(text: str, length: int) -> str:
    """The text on one line, with an ellipsis if it is longer than `length` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


def cell(text: str) -> str:
    """The text as a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


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


def dollars(run: RunFigures) -> str:
    """What the run cost, and which models have no known price."""
    known = "" if run.cost is None else f"{run.cost:.4f} dollars"
    unknown = f"not known for {', '.join(run.unpriced)}" if run.unpriced else ""
    return ", ".join(filter(None, (known, unknown)))


def grouped(value: int | None) -> str:
    """A number with its thousands apart."""
    return _NOT_KNOWN if value is None else f"{value:,}"


def with_noun(number: int, one: str) -> str:
    """`1 point`, `3 points`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"
