"""Trains the learned router, bit for bit the same each time: `python -m training.router.train`."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sot_graph.routing.learned_features import english, extract
from sot_graph.routing.learned_router import SHIPPED, WEIGHTS_FORMAT
from training.router.optimise import Vector, fit_logistic
from training.router.questions import Question, read_questions

__all__ = ["FOLDS", "Model", "train", "weights_text"]

PENALTY = 1.4
LEAST_QUESTIONS = 3
"""A phrase or word in fewer questions than this gets no weight."""
FOLDS = 5
DIGITS = 3
"""Weights are rounded to these decimals: the last bits of `math.exp` differ between platforms."""


@dataclass(frozen=True)
class Model:
    """What was learned, before rounding."""

    names: list[str]
    """Feature names; the weight of `names[i]` is at `i + 1`, the bias at 0."""
    weights: Vector


def train(questions: Sequence[Question]) -> Model:
    """Fits the model. The order of the questions matters in the last bits."""
    features = [extract(question.text, english()).values for question in questions]
    counts = Counter(name for values in features for name in values)
    names = sorted(name for name, count in counts.items() if count >= LEAST_QUESTIONS)
    places = {name: at for at, name in enumerate(names, 1)}
    rows = [tuple((places[name], values[name]) for name in sorted(values) if name in places) for values in features]
    return Model(names, fit_logistic(rows, [question.skeleton for question in questions], len(names) + 1, PENALTY))


def weights_text(model: Model) -> str:
    """The weights file: one feature a line, sorted, so that a change can be read."""
    bias, *weights = (round(weight, DIGITS) + 0.0 for weight in model.weights)
    lines = [f"{json.dumps(name)}: {weight}" for name, weight in zip(model.names, weights, strict=True) if weight]
    return f'{{\n"format": {WEIGHTS_FORMAT},\n"bias": {bias},\n"features": {{\n' + ",\n".join(lines) + "\n}\n}\n"


def main() -> None:
    """Writes the weights file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where to write (default: %(default)s)")
    out = parser.parse_args().out
    questions = read_questions()
    model = train(questions)
    text = weights_text(model)
    out.write_text(text, encoding="ascii", newline="\n")
    print(f"{len(questions)} questions, {len(json.loads(text)['features'])} weights, {len(text)} bytes: {out}")


if __name__ == "__main__":
    main()
