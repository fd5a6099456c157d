"""A study's findings as a page: what a reader asks first stands first, and every figure says what it rests on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sot_graph.evaluation.findings import ALL, Findings
from sot_graph.evaluation.judge import ASPECTS, PROMPT, PROMPT_VERSION
from sot_graph.evaluation.statistics import Estimate
from sot_graph.evaluation.tables import Page, Table, TableRow
from sot_graph.evaluation.text_checks import CHECKS

if TYPE_CHECKING:
    from sot_graph.evaluation.study import StudyPlan

_NOT_KNOWN = "-"
_MANY_CONFLICTS = 0.5
_RATIO_SPAN = 8.0
"""The picture of ratios goes from 1/8 to 8; what is beyond stands at its edge."""
_ESTIMATE = ("value", "95 % interval", "questions")


def study_page(found: Findings, plan: StudyPlan) -> Page:
    """The page of a study."""
    first, second = found.arms
    tables = [_times(found), *_quality(found), *_routes(found), _form(found)]
    judged_by = f" {plan.judge} compared {found.judged} pairs, each in both orders." if plan.judge else ""
    prompt = [(f"The judge's prompt, version {PROMPT_VERSION}", PROMPT)] if found.judged else []
    return Page(
        kicker=f"{plan.model}: is it worth it?",
        title=f"{second}, against {first}",
        lede=f"{found.questions} questions ({plan.source}), each answered both ways by {plan.model}.{judged_by}",
        notices=list(_notices(found, plan)),
        tables=[table for table in tables if table.rows],
        texts=prompt,
        footer="Intervals: 95 %, bootstrap by question (1,000 resamples, the same seed always).",
    )


def headline(found: Findings) -> list[str]:
    """The findings in a few lines, for a terminal."""
    first, second = found.arms
    lines = []
    if ALL in found.speed_up:
        lines.append(f"Whole answer: {second} is {_ratio_text(found.speed_up[ALL])} as fast as {first}.")
    if ALL in found.first_words:
        lines.append(f"First words: {_ratio_text(found.first_words[ALL])} as fast.")
    lines += [f"{what.capitalize()}: {_ratio_text(each)} those of {first}." for what, each in found.ratios.items()]
    if found.length_controlled is not None:
        net = found.aspects[ASPECTS[0]].net
        controlled = _points(found.length_controlled.value)
        lines.append(
            f"Net win rate: {_points(net.value)} points ({_range(net, _points)}), {controlled} at equal length."
        )
    return lines


def _notices(found: Findings, plan: StudyPlan) -> list[str]:
    notices = []
    conflicts = found.aspects[ASPECTS[0]].conflicts if found.aspects else 0.0
    if found.unjudged:
        pairs = f"{found.unjudged:,} of {found.unjudged + found.judged:,} pairs"
        notices.append(f"The judge gave no usable verdict of {pairs}. The first: {found.judge_error.rstrip('.')}.")
    if conflicts >= _MANY_CONFLICTS:
        share = "all" if conflicts == 1 else f"{100 * conflicts:.0f} % of the"
        notices.append(
            f"The judge contradicts itself: in {share} pairs its verdict changed with the order, and these count as "
            "ties. Its net win rates say little: take another judge."
        )
    if found.needed is not None:
        half = 100 * found.aspects[ASPECTS[0]].net.half_width
        notices.append(
            f"The net win rate is known to ±{half:.1f} points. ±5 points take about {found.needed:,} questions."
        )
    elif found.judged and conflicts < 1:
        notices.append("All pairs came to the same: too few to tell how well the net win rate is known.")
    elif plan.judge is None:
        notices.append("Nobody judged which answers are better. The same command with --judge does, on these answers.")
    if any(found.failed):
        failed = " and ".join(f"{times} by {arm}" for arm, times in zip(found.arms, found.failed, strict=True))
        reason = " ".join(found.reason.split()).rstrip(".")
        notices.append(f"Without an answer: {failed}. These questions are in no other figure. The first: {reason}.")
    if found.resumed:
        what = "were begun before a kill and ended after it: their times and tokens don't count"
        notices.append(f"{found.resumed} answers {what}.")
    return notices


def _times(found: Findings) -> Table:
    first, second = found.arms
    rows = [
        *_ratio_rows("whole answer", found.speed_up),
        *_ratio_rows("first words", found.first_words),
        *(_ratio_row(f"{what}, for one of {first}'s", each) for what, each in found.ratios.items()),
    ]
    note = (
        f"Times: how many times as fast {second} is; the median over questions. Above 1, {second} is faster. Tokens "
        f"and cost: all of {second}'s over all of {first}'s; above 1, {second} takes more."
    )
    return Table(title="Speed, tokens and cost", headings=_ESTIMATE, rows=rows, note=note)


def _ratio_rows(name: str, by_category: Mapping[str, Estimate]) -> list[TableRow]:
    return [
        _ratio_row(name if category == ALL else f"{name}: {category}", each) for category, each in by_category.items()
    ]


def _ratio_row(name: str, estimate: Estimate) -> TableRow:
    def place(value: float) -> float:
        return (1 + math.log(max(value, 1e-9)) / math.log(_RATIO_SPAN)) / 2

    cells = [f"{estimate.value:.2f}x", _range(estimate, "{:.2f}".format), f"{estimate.n:,}"]
    return TableRow(name=name, cells=cells, interval=_drawn(estimate, place))


def _quality(found: Findings) -> list[Table]:
    if found.length_controlled is None:
        return []
    nets: list[TableRow] = []
    for aspect, each in found.aspects.items():
        nets.append(_net_row(aspect, each.net))
        if aspect == ASPECTS[0]:
            nets.append(_net_row(f"{aspect}, at equal length", found.length_controlled))
    second = found.arms[1]
    return [
        Table(
            title="Net win rate, in points",
            headings=_ESTIMATE,
            rows=nets,
            note=f"Wins of {second} less its losses, of 100 questions. Above 0, {second} is better. At equal length: "
            "what is left when the judge's liking for length is taken out, as AlpacaEval 2 does it.",
        ),
        Table(
            title="Verdicts",
            headings=("wins", "ties", "losses", "conflicts"),
            rows=[
                TableRow(
                    name=aspect,
                    cells=[f"{each.wins:,}", f"{each.ties:,}", f"{each.losses:,}", f"{100 * each.conflicts:.0f} %"],
                )
                for aspect, each in found.aspects.items()
            ],
            note=f"Of {second}. A conflict, where the judge changed its mind with the order, counts as a tie.",
        ),
    ]


def _net_row(name: str, estimate: Estimate) -> TableRow:
    cells = [_points(estimate.value), _range(estimate, _points), f"{estimate.n:,}"]
    return TableRow(name=name, cells=cells, interval=_drawn(estimate, lambda value: (1 + value) / 2))


def _routes(found: Findings) -> list[Table]:
    rows = []
    for arm, each in found.routes.items():
        net = _NOT_KNOWN if each.net_of_direct is None else _points(each.net_of_direct.value)
        rows.append(TableRow(name=arm, cells=[_share(each.direct), _share(each.right), net]))
    note = (
        "Right: as the question set says. Net of the direct ones: the net win rate of the second arm over the "
        "questions that this arm answered directly."
    )
    headings = ("answered directly", "routed right", "net of the direct ones")
    return [Table(title="Routing", headings=headings, rows=rows, note=note)]


def _form(found: Findings) -> Table:
    first, second = found.checks
    return Table(
        title="Form, without a judge",
        headings=found.arms,
        rows=[
            TableRow(name=f"{name.replace('_', ' ')}: {what}", cells=[_share(first[name]), _share(second[name])])
            for name, what in CHECKS.items()
        ],
        note="Shares, the mean over answers. Sections are points, and a direct answer's paragraphs. Less is better, "
        "but for the language.",
    )


def _drawn(estimate: Estimate, place: Callable[[float], float]) -> tuple[float, float, float]:
    low, value, high = (min(1.0, max(0.0, place(each))) for each in (estimate.low, estimate.value, estimate.high))
    return low, value, high


def _share(value: float | None) -> str:
    return _NOT_KNOWN if value is None else f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _range(estimate: Estimate, form: Callable[[float], str]) -> str:
    return f"{form(estimate.low)} to {form(estimate.high)}"


def _ratio_text(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} times ({_range(estimate, '{:.2f}'.format)})"
