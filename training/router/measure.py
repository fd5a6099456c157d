"""Measures the learned router, as Markdown: `python -m training.router.measure`.

The labelled files of the paper are read from outside the repo (`--shared`) and are measured on, never trained on.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sot_graph.routing.learned_router import DEFAULT_THRESHOLD, LearnedRouter
from training.router.questions import Question, read_questions
from training.router.train import FOLDS, train, weights_text

__all__ = ["FILES", "SHARED", "Judged", "accuracy", "read_labelled"]

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
FILES = {"Vicuna": "router_vicuna.csv", "LIMA": "router_lima.csv"}
VICUNA_KINDS = (
    "generic",
    "knowledge",
    "role-play",
    "common sense",
    "Fermi",
    "counterfactual",
    "code, maths",
    "writing",
)
_KIND_SIZE = 10
_THRESHOLDS = (0.2, 0.3, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9)
_SURE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class Judged(NamedTuple):
    """One question with what it is, and how likely the router takes it for a list."""

    skeleton: bool
    probability: float


def read_labelled(file: Path) -> list[tuple[bool, str]]:
    """Reads `label;request` rows; 1 is skeleton."""
    with file.open(encoding="utf-8", newline="") as opened:
        return [(row["label"] == "1", row["request"]) for row in csv.DictReader(opened, delimiter=";")]


def accuracy(judged: Sequence[Judged], threshold: float = DEFAULT_THRESHOLD) -> float:
    """The share that is routed as labelled."""
    return sum((one.probability >= threshold) == one.skeleton for one in judged) / len(judged)


def _judged_by_others(questions: Sequence[Question], groups: Sequence[object]) -> list[Judged]:
    """Each question, in their order, judged by a model that was trained without its group."""
    judged: dict[Question, Judged] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.json"
        for group in dict.fromkeys(groups):
            kept = [one for one, its_group in zip(questions, groups, strict=True) if its_group != group]
            file.write_text(weights_text(train(kept)), encoding="ascii")
            router = LearnedRouter(weights=file)
            for one, its_group in zip(questions, groups, strict=True):
                if its_group == group:
                    judged[one] = Judged(one.skeleton, router.probability(one.text))
    return [judged[one] for one in questions]


def _left_out(questions: Sequence[Question]) -> Iterator[str]:
    judged = _judged_by_others(questions, [one.kind for one in questions])
    yield "### The project's own questions, each file judged by a model that has not seen it"
    yield ""
    yield f"All together: **{_percent(accuracy(judged))}**."
    yield ""
    kinds = list(dict.fromkeys(one.kind for one in questions))
    parts = {kind: [its for one, its in zip(questions, judged, strict=True) if one.kind == kind] for kind in kinds}
    yield from _table(
        ("file", "questions", "lists", "routed right"),
        (
            (kind, len(part), sum(one.skeleton for one in part), _percent(accuracy(part)))
            for kind, part in parts.items()
        ),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(str(cell) for cell in row) + " |"
    yield ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _routes(name: str, judged: Sequence[Judged]) -> Iterator[str]:
    lists = sum(one.skeleton for one in judged)
    yield f"### {name}"
    yield ""
    yield (
        f"{len(judged)} questions, {lists} of them lists (all-direct: {_percent(1 - lists / len(judged))}). "
        f"Accuracy at the threshold {DEFAULT_THRESHOLD}: **{_percent(accuracy(judged))}**."
    )
    yield ""
    cells = {
        (truth, routed): sum(
            one.skeleton == truth and (one.probability >= DEFAULT_THRESHOLD) == routed for one in judged
        )
        for truth in (True, False)
        for routed in (True, False)
    }
    yield from _table(
        ("labelled", "routed skeleton", "routed direct"),
        (
            ("skeleton", cells[True, True], cells[True, False]),
            ("direct", cells[False, True], cells[False, False]),
        ),
    )
    yield from _table(
        ("threshold", "accuracy", "precision", "recall", "routed skeleton"),
        (_at_threshold(judged, threshold) for threshold in _THRESHOLDS),
    )
    yield from _table(
        ("confidence from", "share of questions", "accuracy there"),
        (_at_confidence(judged, confidence) for confidence in _SURE),
    )


def _at_threshold(judged: Sequence[Judged], threshold: float) -> tuple[object, ...]:
    routed = [one for one in judged if one.probability >= threshold]
    right = sum(one.skeleton for one in routed)
    return (
        threshold,
        _percent(accuracy(judged, threshold)),
        _percent(right / max(1, len(routed))),
        _percent(right / max(1, sum(one.skeleton for one in judged))),
        _percent(len(routed) / len(judged)),
    )


def _at_confidence(judged: Sequence[Judged], confidence: float) -> tuple[object, ...]:
    sure = [one for one in judged if _confidence(one) >= confidence]
    return confidence, _percent(len(sure) / len(judged)), _percent(accuracy(sure)) if sure else "-"


def _confidence(one: Judged) -> float:
    return one.probability if one.probability >= DEFAULT_THRESHOLD else 1 - one.probability


def _vicuna_kinds(judged: Sequence[Judged]) -> Iterator[str]:
    yield from _table(
        ("Vicuna's kind", "lists", "routed right"),
        (
            (kind, sum(one.skeleton for one in part), f"{round(accuracy(part) * len(part))} of {len(part)}")
            for kind, part in (
                (kind, judged[at * _KIND_SIZE : (at + 1) * _KIND_SIZE]) for at, kind in enumerate(VICUNA_KINDS)
            )
        ),
    )


def _speed(router: LearnedRouter) -> Iterator[str]:
    sample = "I have a garden with a slope and I'd like to know what the best ways are to keep the soil. "
    texts = {"80": sample[:80], "1,000": (sample * 20)[:1000], "10,000": (sample * 200)[:10_000]}
    yield "### Time of one decision on this machine"
    yield ""
    rows = []
    for name, text in texts.items():
        router(text)
        spent = []
        for _ in range(200):
            started = time.perf_counter()
            router(text)
            spent.append(time.perf_counter() - started)
        rows.append((name, f"{1000 * sorted(spent)[100]:.2f} ms", f"{1000 * sorted(spent)[197]:.2f} ms"))
    yield from _table(("characters", "median", "99 %"), rows)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of the labelled files (%(default)s)")
    parser.add_argument("--json", action="store_true", help="only the accuracies, as JSON")
    arguments = parser.parse_args()
    router = LearnedRouter()
    files = {name: arguments.shared / file for name, file in FILES.items()}
    judged = {
        name: [Judged(label, router.probability(text)) for label, text in read_labelled(file)]
        for name, file in files.items()
        if file.is_file()
    }
    if arguments.json:
        print(json.dumps({name: round(accuracy(part), 4) for name, part in judged.items()}))
        return
    for name, file in files.items():
        if name not in judged:
            print(f"{name} is not measured: there is no {file}. Give its folder with --shared.\n")
            continue
        print("\n".join(_routes(name, judged[name])))
        if name == "Vicuna":
            print("\n".join(_vicuna_kinds(judged[name])))
    questions = read_questions()
    own = _judged_by_others(questions, [at % FOLDS for at in range(len(questions))])
    print("\n".join(_routes(f"The project's own questions, {FOLDS}-fold cross-validated", own)))
    print("\n".join(_left_out(questions)))
    print("\n".join(_speed(router)))


if __name__ == "__main__":
    main()
