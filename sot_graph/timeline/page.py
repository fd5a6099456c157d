"""The page: a run's figures, its picture, its table and its answer, as one HTML document that fetches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from sot_graph.timeline import wording
from sot_graph.timeline.drawing import draw_comparison, draw_timeline
from sot_graph.timeline.figures import measure_run
from sot_graph.timeline.legend import draw_legend
from sot_graph.timeline.markup import Markup, element, shorten, with_bold
from sot_graph.timeline.records import RunFigures
from sot_graph.timeline.table import table_of

__all__ = ["result_timeline"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_HEADING_LENGTH = 160


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
    heading = shorten(title or run.question, _HEADING_LENGTH) or "A run of sot_graph"
    head = element(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'),
        element("title", heading),
        element("style", _style_sheet()),
    )
    body = element("body", _header(run, heading, titled=bool(title)), element("main", *_sections(run)), _footer(run))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


@cache
def _style_sheet() -> Markup:
    return Markup(files("sot_graph.timeline").joinpath("style.css").read_text(encoding="utf-8"))


def _header(run: RunFigures, heading: str, *, titled: bool) -> Markup:
    question: str = ""
    if titled or len(run.question) > _HEADING_LENGTH or "\n" in run.question.strip():
        words = element("p", run.question, class_="answer", dir="auto")
        question = element("details", element("summary", "The question"), words) if run.question else ""
    return element(
        "header",
        element("p", "Skeleton-of-Thought, one run", class_="kicker"),
        element("h1", heading, dir="auto"),
        element("p", _summary(run), class_="lede"),
        question,
        *(element("p", notice, class_="notice") for notice in _notices(run)),
    )


def _summary(run: RunFigures) -> str:
    if run.route == "direct":
        reason = f": {shorten(run.route_reason, 300)}" if run.route_reason else ""
        return f"Answered directly, without a skeleton{reason}."
    if run.route is None:
        return "The result names neither points nor a route."
    words = [wording.counted(len(run.points), "point") + (", written in parallel" if len(run.points) > 1 else "")]
    for status, what in (("failed", "failed"), ("timed_out", "cut off by the deadline")):
        number = sum(point.status == status for point in run.points)
        if number:
            words.append(f"{number} {what}")
    truncated = sum(point.status == "ok" and point.truncated for point in run.points)
    if truncated:
        words.append(f"{truncated} cut off at a token limit")
    kept = sum(point.status == "ok" and point.span is None for point in run.points)
    if kept:
        words.append(f"{kept} kept from an earlier run")
    return "; ".join(words) + "."


def _notices(run: RunFigures) -> Iterator[str]:
    if not run.one_clock:
        yield (
            "This run was resumed: what had been finished before has the times of the first run's clock. The picture "
            "shows both, each from its own start."
        )
    if run.total is None:
        yield "The result holds no timings: there is nothing to draw."
    if run.local and len(run.points) > 1:
        yield (
            "The model ran on this machine, where points that are written side by side share its cores. How long one "
            "sequential answer would have taken can't be told from this run; sot-graph compare measures it."
        )
    if run.cache_hits:
        yield f"{wording.counted(run.cache_hits, 'result')} came from the cache: the times don't show what was saved."


def _sections(run: RunFigures) -> Iterator[Markup]:
    yield element("section", element("dl", *_figures(run), class_="figures"), aria_label="Figures")
    if run.total is not None:
        heading = element("h2", "Timeline", id="timeline-heading")
        yield element("section", heading, draw_legend(run), draw_timeline(run), aria_labelledby="timeline-heading")
        comparison = draw_comparison(run)
        if comparison:
            yield _compared(run, comparison)
        heading = element("h2", "The same in figures", id="table-heading")
        table = element(
            "div", table_of(run), class_="scroll", tabindex=0, role="region", aria_labelledby="table-heading"
        )
        yield element("section", heading, table)
    if run.answer:
        heading = element("h2", "Answer", id="answer-heading")
        text = element("div", with_bold(run.answer), class_="answer", dir="auto")
        yield element("section", heading, text, aria_labelledby="answer-heading")


def _compared(run: RunFigures, comparison: Markup) -> Markup:
    how = "the same text, had one call written it alone at the speed that this run's points were written at"
    if run.sequential_is_upper_bound:
        how += "; since nothing was streamed, each call's wait is counted, and the estimate is too high"
    note = (
        f"The estimate is of {how}. A server that slows down under parallel calls, a model on your own machine above "
        "all, would have written a single one faster: then the gain is smaller, or there is none. To measure it: "
        "sot-graph compare."
    )
    heading = element("h2", "Beside one sequential answer", id="comparison-heading")
    words = element("p", note, class_="small")
    return element("section", heading, comparison, words, aria_labelledby="comparison-heading")


def _figures(run: RunFigures) -> Iterator[Markup]:
    first = "of the answer, in reading order" if run.streamed else "not streamed: the whole answer"
    if run.time_to_first_word is None:
        first = "of the answer: not known"
    yield _figure("Time to first word", wording.seconds(run.time_to_first_word), first)
    yield _figure("Answer complete", wording.seconds(run.total), "from the run's start")
    if run.points:
        at_most = element("span", "at most ", class_="at-most") if run.sequential_is_upper_bound else ""
        if not run.local:
            gain = wording.times(run.speed_up_estimate)
            yield _figure("Speed-up", gain, "over one call that writes alone as fast", at_most, tag=True)
            sequential = wording.seconds(run.sequential_estimate)
            yield _figure("Sequential answer", sequential, "the same text and speed", at_most, tag=True)
        yield _figure("Critical path", wording.seconds(run.critical_path), _path(run))
    yield _figure("Model calls", wording.count(run.calls), "repeats and failures included")
    cached = (
        f"{wording.count(run.cached_tokens)} of them cached" if run.cached_tokens is not None else "cached: not known"
    )
    yield _figure("Tokens in", wording.count(run.input_tokens), cached)
    yield _figure("Tokens out", wording.count(run.output_tokens), "skeleton included" if run.points else "in total")


def _path(run: RunFigures) -> str:
    if run.critical_path is None:
        return "of this run alone: not known"
    many = "points" if len(run.critical_points) > 1 else "point"
    chain = f"{many} {', '.join(map(str, run.critical_points))}" if run.critical_points else "introduction"
    conclusion = ", conclusion" if run.conclusion and run.conclusion.critical else ""
    return f"skeleton, {chain}{conclusion}, join"


def _figure(name: str, value: str, what: str, before: str = "", *, tag: bool = False) -> Markup:
    estimate = element("span", "estimate", class_="tag") if tag else ""
    return element(
        "div",
        element("dt", name, estimate),
        element("dd", element("div", before, value, class_="value"), element("div", what, class_="what")),
    )


def _footer(run: RunFigures) -> Markup:
    words = "Times are from the run's own clock, in seconds from its start."
    if run.points:
        words += (
            " A point's wait for its first token includes queueing for a free call. Tokens of a point: its share of"
            " the expansions' output tokens, by the length of its text."
        )
        if not run.local:
            words += (
                " One sequential answer: the shortest wait for a first token, and all points' characters over the speed"
                " of those that were streamed."
            )
        words += " Critical path: what no further overlap could save."
    return element("footer", element("p", words))
