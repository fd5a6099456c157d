"""Measures the learned router, and fills the tables of docs/router.md: `python -m training.router.measure`.

The labelled files of the paper are read from outside the repo (`--shared`) and are measured on, never trained on.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sot_graph.routing.learned_router import DEFAULT_THRESHOLD, LearnedRouter
from sot_graph.routing.learned_training import (
    RouterFigures,
    cross_validate,
    features_of,
    fit_weights,
    probability_of,
    reliability,
)
from training.router.questions import Question, read_questions
from training.router.train import trained_on

__all__ = ["FILES", "SHARED", "figures", "read_labelled"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "router.md"
SHARED = ROOT.parent / "shared" / "data"
FILES = {"Vicuna": "router_vicuna.csv", "LIMA": "router_lima.csv"}
_SHARES = (4, 2, 1)
_LANGUAGE = "lang_"
_OTHER_STYLE = "everyday"


def read_labelled(file: Path) -> list[tuple[bool, str]]:
    """Reads `label;request` rows; 1 is skeleton."""
    with file.open(encoding="utf-8", newline="") as opened:
        return [(row["label"] == "1", row["request"]) for row in csv.DictReader(opened, delimiter=";")]


def figures(router: LearnedRouter, labelled: Sequence[tuple[bool, str]]) -> RouterFigures:
    """What the router makes of labelled questions."""
    probabilities = [router.probability(text) for _, text in labelled]
    return RouterFigures.of(probabilities, [label for label, _ in labelled], DEFAULT_THRESHOLD)


def _labelled(questions: Iterable[Question]) -> list[tuple[bool, str]]:
    return [(one.skeleton, one.text) for one in questions]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| --- " + "| ---: " * (len(head) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(str(cell) for cell in row) + " |"


def _row(name: str, found: RouterFigures, labels: Sequence[bool]) -> tuple[object, ...]:
    shares = (found.accuracy, found.f1, found.auc, found.calibration_error)
    return (name, len(labels), sum(labels), *(f"{share:.3f}" for share in shares))


def _judged(
    features: Sequence[object], weights: Sequence[object] | dict[str, float], questions: Sequence[Question]
) -> RouterFigures:
    each = [weights] * len(questions) if isinstance(weights, dict) else weights
    probabilities = [probability_of(one, its) for one, its in zip(features, each, strict=True)]  # type: ignore[arg-type]
    return RouterFigures.of(probabilities, [one.skeleton for one in questions], DEFAULT_THRESHOLD)


def _sets(router: LearnedRouter, questions: Sequence[Question], files: dict[str, Path]) -> Iterator[tuple[object, ...]]:
    for name, file in files.items():
        if file.is_file():
            labelled = read_labelled(file)
            yield _row(name, figures(router, labelled), [label for label, _ in labelled])
    held_out = [one for one in questions if one.held_out]
    yield _row("held out", figures(router, _labelled(held_out)), [one.skeleton for one in held_out])
    kept = trained_on(questions)
    texts, labels = [one.text for one in kept], [one.skeleton for one in kept]
    features = features_of(texts)
    yield _row(f"trained on, {5}-fold", _judged(features, cross_validate(texts, labels), kept), labels)
    languages = sorted({one.kind for one in kept if one.kind.startswith(_LANGUAGE)})
    english = [at for at, one in enumerate(kept) if one.kind not in languages]
    foreign = [at for at, one in enumerate(kept) if one.kind in languages]
    weights = fit_weights([features[at] for at in english], [labels[at] for at in english])
    yield _row(
        "other languages, by a router trained on English",
        _judged([features[at] for at in foreign], weights, [kept[at] for at in foreign]),
        [labels[at] for at in foreign],
    )
    # How much questions of other styles help with one that is not trained on.
    style = [at for at in english if kept[at].kind == _OTHER_STYLE]
    others = [at for at in english if kept[at].kind != _OTHER_STYLE]
    for share in _SHARES:
        part = others[::share]
        weights = fit_weights([features[at] for at in part], [labels[at] for at in part])
        found = _judged([features[at] for at in style], weights, [kept[at] for at in style])
        name = f"`{_OTHER_STYLE}.txt`, by a router trained on {len(part):,} questions of other files"
        yield _row(name, found, [labels[at] for at in style])


def _kinds(router: LearnedRouter, questions: Sequence[Question]) -> Iterator[tuple[object, ...]]:
    held_out = [one for one in questions if one.held_out]
    for kind in dict.fromkeys(one.kind for one in held_out):
        part = [one for one in held_out if one.kind == kind]
        right = sum((router.probability(one.text) >= DEFAULT_THRESHOLD) == one.skeleton for one in part)
        yield kind.removeprefix(_LANGUAGE), len(part), sum(one.skeleton for one in part), right


def _bins(router: LearnedRouter, questions: Sequence[Question]) -> Iterator[tuple[object, ...]]:
    held_out = [one for one in questions if one.held_out]
    probabilities = [router.probability(one.text) for one in held_out]
    for count, said, right in reliability(probabilities, [one.skeleton for one in held_out], DEFAULT_THRESHOLD):
        yield f"{int(said * 10) / 10:.1f}", count, f"{said:.2f}", f"{right:.2f}", "#" * round(20 * right)


def _speed(router: LearnedRouter) -> str:
    sample = "I have a garden with a slope and I'd like to know what the best ways are to keep the soil. "
    spent = []
    for _ in range(200):
        started = time.process_time()
        router((sample * 20)[:1000])
        spent.append(time.process_time() - started)
    return f"A question of 1,000 characters takes {1000 * sorted(spent)[100]:.1f} ms of one core here."


def main() -> None:
    """Prints the figures, and puts the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of the labelled files (%(default)s)")
    parser.add_argument("--json", action="store_true", help="only the accuracies, as JSON")
    arguments = parser.parse_args()
    router = LearnedRouter()
    files = {name: arguments.shared / file for name, file in FILES.items()}
    if arguments.json:
        there = {name: figures(router, read_labelled(file)) for name, file in files.items() if file.is_file()}
        print(json.dumps({name: round(found.accuracy, 4) for name, found in there.items()}))
        return
    questions = read_questions()
    sets = ("set", "questions", "lists", "accuracy", "F1", "AUC", "calibration error")
    tables = {
        "sets": _table(sets, _sets(router, questions, files)),
        "reliability": _table(("confidence from", "decisions", "said", "right", ""), _bins(router, questions)),
        "kinds": _table(("held out of", "questions", "lists", "routed right"), _kinds(router, questions)),
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, rows in tables.items():
        text = "\n".join(rows)
        print(f"{text}\n")
        is_whole = name != "sets" or all(file.is_file() for file in files.values())
        if is_whole:
            pattern = rf"(<!-- router: {name} -->\n).*?(\n<!-- end -->)"
            page = re.sub(pattern, rf"\g<1>{text}\g<2>", page, flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")
    print(_speed(router))


if __name__ == "__main__":
    main()
