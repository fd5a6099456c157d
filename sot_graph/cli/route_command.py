"""`sot-graph route`: what a router says of questions, and training it with your own."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sot_graph.cli.ask_command import check_output
from sot_graph.cli.process import asked_questions, opened_model, print_json, question_lines
from sot_graph.errors import SotConfigError
from sot_graph.evaluation.arms import check_router, make_router
from sot_graph.routing.learned_router import LearnedRouter, checked_labels, shipped_weights
from sot_graph.routing.learned_training import RouterFigures, cross_validate, features_of, probability_of
from sot_graph.routing.protocol import RouteDecision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LABELS = dict.fromkeys(("skeleton", "1", "true"), "skeleton") | dict.fromkeys(("direct", "0", "false"), "direct")


def route_or_train(
    *, train: Path | None, label_with: str | None, save: Path | None, base_url: str | None, **asked: Any
) -> None:
    """Train the learned router, or say what a router makes of questions. The arguments are those of the command."""
    if train is not None:
        # A --model may be of the environment: it is no mistake.
        if asked["router"] != "learned" or any(asked[name] for name in ("question", "file", "weights", "as_json")):
            message = "A question, --file, --router, --weights and --json don't belong to --train."
            raise SotConfigError(message)
        _train(train, label_with, base_url, save)
        return
    if save is not None or label_with is not None:
        message = "--save and --label-with belong to --train."
        raise SotConfigError(message)
    _route(base_url=base_url, **asked)


def _route(
    *,
    question: str | None,
    file: Path | None,
    router: str,
    weights: Path | None,
    model: str | None,
    base_url: str | None,
    as_json: bool,
) -> None:
    """Print what a router says of one question, or of a file's."""
    check_router(router)
    questions = asked_questions(question, file)

    def show(each: str, decision: RouteDecision) -> None:
        if as_json:
            print_json({"question": each, **asdict(decision)})
            return
        sure = "" if decision.confidence is None else f" {decision.confidence:.2f}"
        about = f"\t{each}" if file is not None else ""
        sys.stdout.write(f"{decision.route}{sure}\t{decision.reason}{about}\n")

    if weights is not None:
        if router != "learned":
            message = "--weights belongs to --router learned."
            raise SotConfigError(message)
        router = f"learned:{weights}"
    if router.partition(":")[0] == "learned":  # without a model, seconds of imports are spared
        learned = make_router(router)
        for each in questions:
            show(each, learned(each))
        return
    with opened_model(model, base_url) as (chat, _):
        _ask_model(questions, router, chat, show)


def _ask_model(questions: Sequence[str], router: str, chat: Any, show: Callable[[str, RouteDecision], None]) -> None:
    import asyncio

    from sot_graph.options import SotOptions
    from sot_graph.routing.protocol import ask_router
    from sot_graph.run import open_run

    async def ask() -> None:
        chosen = make_router(router, chat)
        for each in questions:
            if router == "draft":
                show(each, await _draft_decision(each, chat))
                continue
            with open_run({}, SotOptions()) as opened:
                show(each, await ask_router(chosen, each, (), run=opened, model=None))

    asyncio.run(ask())


async def _draft_decision(question: str, model: Any) -> RouteDecision:
    """What the drafting call makes of a question. It is ended as soon as that is known, before any point is written."""
    from sot_graph.graph import create_sot_graph

    events: Any = create_sot_graph(model, router="draft").astream({"question": question}, stream_mode="custom")
    async with aclosing(events):
        async for event in events:
            if event["type"] == "sot.route":
                break
    return RouteDecision(event["route"], event["reason"])


def _train(file: Path, label_with: str | None, base_url: str | None, save: Path | None) -> None:
    """Train the learned router with a file's questions, and print what it makes of those that it hasn't seen."""
    if save is not None:
        check_output(save, "--save")
    questions, labels = _labelled(file, needs_labels=label_with is None)
    if label_with is not None:
        labels = []
        with opened_model(label_with, base_url) as (chat, _):
            _ask_model(questions, "model", chat, lambda _, decision: labels.append(decision.route))
    wanted = checked_labels(questions, labels)
    threshold = LearnedRouter().threshold
    features = features_of(questions)
    shipped = [probability_of(one, shipped_weights()) for one in features]
    held_out_weights = cross_validate(questions, wanted, shipped_weights())
    trained = [probability_of(one, weights) for one, weights in zip(features, held_out_weights, strict=True)]
    sys.stdout.write(f"{len(wanted)} questions, {sum(wanted)} for a skeleton\n")
    sys.stdout.write("on questions that it has not seen  accuracy  F1    AUC   calibration error\n")
    for name, probabilities in (("the shipped router", shipped), ("trained (5-fold)", trained)):
        found = RouterFigures.of(probabilities, wanted, threshold)
        sys.stdout.write(
            f"{name:<34} {found.accuracy:.3f}     {found.f1:.3f} {found.auc:.3f} {found.calibration_error:.3f}\n"
        )
    if save is not None:
        LearnedRouter.train(questions, wanted).save(save)
        in_python = f"LearnedRouter(weights={str(save)!r})"
        sys.stdout.write(f"Wrote {save}: use it by --router learned:{save}, in Python by {in_python}.\n")


def _labelled(file: Path, *, needs_labels: bool) -> tuple[list[str], list[str]]:
    """The questions of a CSV file with their labels; without labels, also those of a file with one a line."""
    lines = question_lines(file, "--train")
    if lines[0].lstrip().startswith("{"):
        return _measured(file, lines)
    from sot_graph.batch.question_file import separator_of  # a question alone is spared what a batch needs

    with file.open(encoding="utf-8-sig", newline="") as opened:  # a question may have several lines
        rows = list(csv.DictReader(opened, delimiter=separator_of(lines[0]), restval=""))
    columns = set(rows[0]) if rows else set()
    if not needs_labels and "question" not in columns:
        return lines, []
    missing = [name for name in ("question", "label") if needs_labels and name not in columns]
    if missing:
        message = (
            f"--train {file} has no column {missing[0]!r}: its first line is to be question,label (a label is skeleton "
            "or direct). With --label-with MODEL it needs no labels."
        )
        raise SotConfigError(message)
    labels = [str(row.get("label") or "").strip().lower() for row in rows] if needs_labels else []
    unknown = [label for label in labels if label not in _LABELS]
    if unknown:
        message = f"--train {file}: a label is skeleton or direct, not {unknown[0]!r}."
        raise SotConfigError(message)
    questions = [str(row["question"]) for row in rows]
    if empty := [number for number, question in enumerate(questions, start=1) if not question.strip()]:
        message = f"--train {file}: row {empty[0]} has no question."
        raise SotConfigError(message)
    return questions, [_LABELS[label] for label in labels]


def _measured(file: Path, lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """The questions that `evaluate` or `compare` answered both ways, with the way that was better for each.

    That is the skeleton where its answer was there sooner, and no judge preferred the direct one. Where a time isn't
    known, a question teaches nothing.
    """
    questions: list[str] = []
    labels: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            direct, skeleton, preference = _both_ways(row)
            if direct is not None and skeleton is not None:
                labels.append("skeleton" if skeleton < direct and preference >= 0 else "direct")
                questions.append(str(row["question"]))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            message = (
                f"--train {file}: line {number} is no row of rows.jsonl, as sot-graph evaluate writes it with the arms "
                "direct and skeleton, and none of sot-graph compare --json."
            )
            raise SotConfigError(message) from error
    return questions, labels


def _both_ways(row: Mapping[str, Any]) -> tuple[float | None, float | None, int]:
    """The seconds of both ways, direct first, and what a judge made of the skeleton: 1 better, 0 a tie, -1 worse."""
    arms = row.get("arms") or [{"arm": way, **row[way]} for way in ("direct", "skeleton")]
    ways = [arm["arm"].partition(",")[0] for arm in arms]
    seconds: dict[str, float | None] = {}
    for way, arm in zip(ways, arms, strict=True):
        # What was sent direct took no skeleton's time.
        is_odd = arm.get("resumed") or (way == "skeleton" and arm.get("route") == "direct")
        seconds[way] = None if is_odd else arm.get("seconds")
    outcome = row["preferences"]["general"]["outcome"] if row.get("preferences") else 0
    return seconds["direct"], seconds["skeleton"], outcome if ways[1] == "skeleton" else -outcome
