"""Training the learned router, bit for bit the same on every machine, and what the training is worth."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sot_graph.routing.learned_features import english, extract
from sot_graph.routing.logistic_regression import fit_logistic

WEIGHTS_FORMAT = 3
"""The layout of a weights file. Counted up when a file of before can't be read any more."""
BIAS = ""
"""The name under which the bias stands among the weights."""
FOLDS = 5
PENALTY = 3.0
LEAST_QUESTIONS = 3
"""A phrase or word in fewer questions than this gets no weight."""
_DIGITS = 3
"""Weights are rounded to these decimals: the last bits of `math.exp` differ between platforms."""
_BINS = 10
_LARGEST_LOGIT = 30.0

FeatureValues = Mapping[str, float]


def features_of(questions: Sequence[str]) -> list[FeatureValues]:
    """The features of each question."""
    vocabulary = english()
    return [extract(question, vocabulary).values for question in questions]


def probability_of(features: FeatureValues, weights: Mapping[str, float]) -> float:
    """How likely a question wants a skeleton."""
    # fsum: the same to the last bit whatever the order, so the same on every Python.
    logit = math.fsum([weights.get(BIAS, 0.0), *(value * weights.get(name, 0.0) for name, value in features.items())])
    return 1.0 / (1.0 + math.exp(-max(-_LARGEST_LOGIT, min(_LARGEST_LOGIT, logit))))


def fit_weights(
    features: Sequence[FeatureValues], labels: Sequence[bool], begins_with: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The weights that tell these questions apart.

    Args:
        features: Of each question. Their order matters in the last bits.
        labels: Whether each wants a skeleton.
        begins_with: Weights that were learned before. The less there is to learn from, the less is changed of them.
    """
    counts = Counter(name for one in features for name in one)
    names = sorted(name for name, count in counts.items() if count >= LEAST_QUESTIONS)
    places = {name: at for at, name in enumerate(names, 1)}
    rows = [tuple((places[name], one[name]) for name in sorted(one) if name in places) for one in features]
    before = begins_with or {}
    scores = [
        math.fsum([before.get(BIAS, 0.0), *(v * before.get(name, 0.0) for name, v in one.items())]) for one in features
    ]
    fitted = fit_logistic(rows, labels, len(names) + 1, PENALTY, scores=scores)
    learned = dict(zip([BIAS, *names], fitted, strict=True))
    every = {name: before.get(name, 0.0) + learned.get(name, 0.0) for name in {*before, *learned}}
    return {name: round(every[name], _DIGITS) + 0.0 for name in sorted(every) if round(every[name], _DIGITS)}


def weights_text(weights: Mapping[str, float]) -> str:
    """The weights file: one feature a line, sorted, so that a change can be read."""
    lines = [f"{json.dumps(name)}: {weights[name]}" for name in sorted(weights) if name != BIAS]
    head = f'{{\n"format": {WEIGHTS_FORMAT},\n"bias": {weights.get(BIAS, 0.0)},\n"features": {{\n'
    return head + ",\n".join(lines) + "\n}\n}\n"


@dataclass(frozen=True, slots=True)
class RouterFigures:
    """How well probabilities tell labelled questions apart, at a threshold."""

    questions: int
    skeletons: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float
    """How likely a skeleton question has a higher probability than a direct one."""
    calibration_error: float
    """By how much confidence and accuracy differ, on average (expected calibration error, ten bins)."""

    @classmethod
    def of(cls, probabilities: Sequence[float], labels: Sequence[bool], threshold: float) -> RouterFigures:
        """Measure."""
        routed = [probability >= threshold for probability in probabilities]
        right = sum(one and label for one, label in zip(routed, labels, strict=True))
        precision, recall = right / max(1, sum(routed)), right / max(1, sum(labels))
        bins = reliability(probabilities, labels, threshold)
        return cls(
            len(labels),
            sum(labels),
            sum(one == label for one, label in zip(routed, labels, strict=True)) / max(1, len(labels)),
            precision,
            recall,
            2 * precision * recall / max(precision + recall, 1e-9),
            _auc(probabilities, labels),
            sum(count * abs(said - true) for count, said, true in bins) / max(1, len(labels)),
        )


def reliability(
    probabilities: Sequence[float], labels: Sequence[bool], threshold: float
) -> list[tuple[int, float, float]]:
    """For each tenth of confidence: how many decisions have it, what it says on average, and what is right."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for probability, label in zip(probabilities, labels, strict=True):
        routed = probability >= threshold
        confidence = probability if routed else 1 - probability
        bins.setdefault(min(int(confidence * _BINS), _BINS - 1), []).append((confidence, routed == label))
    return [
        (len(part), sum(said for said, _ in part) / len(part), sum(true for _, true in part) / len(part))
        for _, part in sorted(bins.items())
    ]


def _auc(probabilities: Sequence[float], labels: Sequence[bool]) -> float:
    lists = [one for one, label in zip(probabilities, labels, strict=True) if label]
    others = [one for one, label in zip(probabilities, labels, strict=True) if not label]
    wins = sum((one > other) + (one == other) / 2 for one in lists for other in others)
    return wins / max(1, len(lists) * len(others))


def cross_validate(
    questions: Sequence[str], labels: Sequence[bool], begins_with: Mapping[str, float] | None = None
) -> list[FeatureValues]:
    """Weights for each question, in their order, that were learned without it and a fifth of the others."""
    features = features_of(questions)
    held_out_weights: list[FeatureValues] = [{}] * len(labels)
    for fold in range(FOLDS):
        kept = [at for at in range(len(labels)) if at % FOLDS != fold]
        weights = fit_weights([features[at] for at in kept], [labels[at] for at in kept], begins_with)
        for at in range(fold, len(labels), FOLDS):
            held_out_weights[at] = weights
    return held_out_weights
