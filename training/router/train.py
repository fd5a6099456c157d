"""Trains the learned router, bit for bit the same each time: `python -m training.router.train`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sot_graph.routing.learned_router import SHIPPED
from sot_graph.routing.learned_training import features_of, fit_weights, weights_text
from training.router.questions import Question, read_questions

__all__ = ["train", "trained_on"]


def trained_on(questions: Sequence[Question]) -> list[Question]:
    """Those that the router learns from: neither those that are held out nor follow-ups, for which there is a rule."""
    return [one for one in questions if not (one.held_out or one.before)]


def train(questions: Sequence[Question]) -> dict[str, float]:
    """The weights. The order of the questions matters in the last bits."""
    return fit_weights(features_of([one.text for one in questions]), [one.skeleton for one in questions])


def main() -> None:
    """Writes the weights file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where to write (default: %(default)s)")
    out = parser.parse_args().out
    questions = trained_on(read_questions())
    weights = train(questions)
    text = weights_text(weights)
    out.write_text(text, encoding="ascii", newline="\n")
    print(f"{len(questions)} questions, {len(weights)} weights, {len(text)} bytes: {out}")


if __name__ == "__main__":
    main()
