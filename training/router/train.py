"""Trains the learned router, bit for bit the same each time: `python -m training.router.train`."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sot_graph.routing.features import extract
from sot_graph.routing.weights import FORMAT, SHIPPED
from training.router.optimise import Row, Vector, fit_logistic, fit_squares, score
from training.router.questions import Question, read_questions

__all__ = ["FOLDS", "Model", "train", "weights_text"]

ROUTE_PENALTY = 1.4
LENGTH_PENALTY = 6.0
LEAST_QUESTIONS = 3
"""A phrase or word in fewer questions than this gets no weight."""
FOLDS = 5
DIGITS = 3
"""Weights are rounded to these decimals: the last bits of `math.exp` differ between platforms."""


@dataclass(frozen=True)
class Model:
    """What was learned, before rounding."""

    names: list[str]
    """Feature names; the weights of `names[i]` are at `i + 1`, the biases at 0."""
    route: Vector
    length: Vector
    spread: float

    def row(self, text: str) -> Row:
        """A question's features for these weights."""
        places = {name: at for at, name in enumerate(self.names, 1)}
        return tuple((places[name], value) for name, value in extract(text).values.items() if name in places)


def train(questions: Sequence[Question], *, with_spread: bool = True) -> Model:
    """Fits both models.

    Args:
        questions: The training questions. Their order matters in the last bits.
        with_spread: Also measures the length model's error, which takes most of the time. Without it: 1.
    """
    features = [extract(question.text).values for question in questions]
    counts = Counter(name for values in features for name in values)
    names = sorted(name for name, count in counts.items() if count >= LEAST_QUESTIONS)
    places = {name: at for at, name in enumerate(names, 1)}
    rows = [tuple((places[name], values[name]) for name in sorted(values) if name in places) for values in features]
    size = len(names) + 1
    route = fit_logistic(rows, [question.skeleton for question in questions], size, ROUTE_PENALTY)
    targets = [math.log(question.tokens) for question in questions]
    length = fit_squares(rows, targets, size, LENGTH_PENALTY)
    return Model(names, route, length, _spread(rows, targets, size) if with_spread else 1.0)


def _spread(rows: Sequence[Row], targets: Sequence[float], size: int) -> float:
    """The length model's error on questions that it hasn't seen: each fold is estimated from the others."""
    squares = []
    for fold in range(FOLDS):
        kept = [at for at in range(len(rows)) if at % FOLDS != fold]
        length = fit_squares([rows[at] for at in kept], [targets[at] for at in kept], size, LENGTH_PENALTY)
        left = range(fold, len(rows), FOLDS)
        squares += [(score(rows[at], length) - targets[at]) ** 2 for at in left]
    return math.sqrt(math.fsum(squares) / len(squares))


def weights_text(model: Model) -> str:
    """The weights file: one feature a line, sorted, so that a change can be read."""
    pairs = {
        name: (round(route, DIGITS) + 0.0, round(length, DIGITS) + 0.0)
        for name, route, length in zip(model.names, model.route[1:], model.length[1:], strict=True)
    }
    lines = [f"{json.dumps(name)}: [{route}, {length}]" for name, (route, length) in pairs.items() if route or length]
    head = {
        "format": FORMAT,
        "route_bias": round(model.route[0], DIGITS),
        "length_bias": round(model.length[0], DIGITS),
        "length_spread": round(model.spread, DIGITS),
    }
    fields = [f"{json.dumps(name)}: {value}" for name, value in head.items()]
    return "{\n" + ",\n".join(fields) + ',\n"features": {\n' + ",\n".join(lines) + "\n}\n}\n"


def main() -> None:
    """Writes the weights file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where to write (default: %(default)s)")
    out = parser.parse_args().out
    questions = read_questions()
    text = weights_text(train(questions))
    out.write_text(text, encoding="ascii", newline="\n")
    print(f"{len(questions)} questions, {text.count(': [')} weights, {len(text)} bytes: {out}")


if __name__ == "__main__":
    main()
