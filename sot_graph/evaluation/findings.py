"""From a study's rows to its findings: every figure of the report, with its interval where it has one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sot_graph.evaluation.judge import ASPECTS
from sot_graph.evaluation.statistics import (
    Estimate,
    length_controlled_net,
    mean,
    median,
    questions_needed,
    ratio_of_sums,
)
from sot_graph.evaluation.text_checks import average

Row: TypeAlias = Mapping[str, Any]

_FEWEST = 2
"""Of one question there is no interval."""
_FEWEST_OF_A_CATEGORY = 8
"""Below, an interval says more about the few than about the category."""


@dataclass(frozen=True, kw_only=True)
class AspectFindings:
    """What the judge made of one aspect, seen from the second arm."""

    wins: int
    ties: int
    losses: int
    conflicts: float
    """The share of pairs where the judge changed its mind with the order. They are among the ties."""
    net: Estimate


@dataclass(frozen=True, kw_only=True)
class RouteFindings:
    """What an arm's router did."""

    direct: float
    """The share of questions that were answered directly."""
    right: float | None
    """The share that went the way that the question set says is right; `None`: it doesn't say."""
    net_of_direct: Estimate | None
    """The judge's net win rate of the second arm over those that it answered directly; `None`: too few, or no judge."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All figures of a study. A ratio over 1 speaks for the second arm in times, and against it in tokens and cost."""

    arms: tuple[str, str]
    questions: int
    failed: tuple[int, int]
    """Questions without an answer, of each arm."""
    reason: str
    """Why the first of these has none."""
    resumed: int
    """Answers whose times and tokens don't count, since they were begun before a kill and finished after it."""
    judged: int
    unjudged: int
    """Pairs of which the judge gave no verdict."""
    judge_error: str
    """Why it gave none of the first of these."""
    aspects: Mapping[str, AspectFindings]
    length_controlled: Estimate | None
    """The net win rate of the first aspect, had the answers been of equal length."""
    needed: int | None
    """How many questions would bring the first aspect's interval to +-5 points; `None`: all pairs came to the same,
    and how far they might differ can't be told."""
    speed_up: Mapping[str, Estimate]
    """Of the whole answer: the median of the first arm's seconds over the second's, for all and by category."""
    first_words: Mapping[str, Estimate]
    """The same for the first word of the answer."""
    ratios: Mapping[str, Estimate]
    """The second arm's tokens and cost over the first arm's."""
    routes: Mapping[str, RouteFindings]
    """By arm; of those that have something to decide."""
    checks: tuple[Mapping[str, float | None], Mapping[str, float | None]]


ALL = "all"
"""The category that every question is in."""


def findings_of(rows: Sequence[Row]) -> Findings:
    """Work out the findings of one row or more, as `rows.jsonl` has them."""
    names = tuple(each["arm"] for each in rows[0]["arms"])
    errors = [[error for row in rows if (error := row["arms"][at]["error"])] for at in (0, 1)]
    whole = [row for row in rows if not any(each["error"] for each in row["arms"])]
    timed = [row for row in whole if not any(each["resumed"] for each in row["arms"])]
    judged = [row for row in whole if row["preferences"]]
    unjudged = [error for row in whole if (error := row.get("judge_error"))]
    headline = _outcomes(judged, ASPECTS[0])
    enough = len(judged) >= _FEWEST
    aspects = {aspect: _aspect(judged, aspect) for aspect in ASPECTS} if enough else {}
    lengths = [(len(row["arms"][0]["answer"]), len(row["arms"][1]["answer"])) for row in judged]
    return Findings(
        arms=(names[0], names[1]),
        questions=len(rows),
        failed=(len(errors[0]), len(errors[1])),
        reason=next((error for of_arm in errors for error in of_arm), ""),
        resumed=sum(bool(each.get("resumed")) for row in rows for each in row["arms"]),
        judged=len(judged),
        unjudged=len(unjudged),
        judge_error=next(iter(unjudged), ""),
        aspects=aspects,
        length_controlled=length_controlled_net(headline, lengths) if enough else None,
        needed=questions_needed(aspects[ASPECTS[0]].net) if len(set(headline)) > 1 else None,
        speed_up=_speed_ups(timed, "seconds"),
        first_words=_speed_ups(timed, "first_word"),
        ratios={
            what: ratio
            for what, key in (("tokens out", "output_tokens"), ("tokens in", "input_tokens"), ("cost", "cost"))
            if (ratio := _ratio(timed, key)) is not None
        },
        routes={name: found for at, name in enumerate(names) if (found := _route(whole, at)) is not None},
        checks=(average(row["arms"][0]["checks"] for row in whole), average(row["arms"][1]["checks"] for row in whole)),
    )


def _outcomes(judged: Sequence[Row], aspect: str) -> list[int]:
    return [row["preferences"][aspect]["outcome"] for row in judged]


def _aspect(judged: Sequence[Row], aspect: str) -> AspectFindings:
    outcomes = _outcomes(judged, aspect)
    conflicts = sum(row["preferences"][aspect]["conflict"] for row in judged)
    return AspectFindings(
        wins=outcomes.count(1),
        ties=outcomes.count(0),
        losses=outcomes.count(-1),
        conflicts=conflicts / len(judged),
        net=mean(outcomes),
    )


def _speed_ups(rows: Sequence[Row], key: str) -> dict[str, Estimate]:
    groups: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        first, second = (each.get(key) for each in row["arms"])
        if first and second:
            for category in (ALL, row["category"]):
                if category:
                    groups[category].append(first / second)
    return {
        category: median(each)
        for category, each in sorted(groups.items(), key=lambda group: (group[0] != ALL, group[0]))
        if len(each) >= (_FEWEST if category == ALL else _FEWEST_OF_A_CATEGORY)
    }


def _ratio(rows: Sequence[Row], key: str) -> Estimate | None:
    known = [pair for row in rows if all(pair := (row["arms"][0].get(key), row["arms"][1].get(key)))]
    if len(known) < _FEWEST:
        return None
    firsts, seconds = zip(*known, strict=True)
    return ratio_of_sums(seconds, firsts)


def _route(rows: Sequence[Row], at: int) -> RouteFindings | None:
    """Of an arm that took both routes: the others have no router, or one that has nothing to decide."""
    routed = [row for row in rows if row["arms"][at]["route"]]
    direct = [row for row in routed if row["arms"][at]["route"] == "direct"]
    if not direct or len(direct) == len(routed):
        return None
    known = [row for row in routed if row["expected_route"]]
    right = [row for row in known if row["arms"][at]["route"] == row["expected_route"]]
    judged = [row for row in direct if row["preferences"]]
    return RouteFindings(
        direct=len(direct) / len(routed),
        right=len(right) / len(known) if known else None,
        net_of_direct=mean(_outcomes(judged, ASPECTS[0])) if len(judged) >= _FEWEST else None,
    )
