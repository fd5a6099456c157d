"""Training the learned router, bit for bit the same on every machine, and what the training is worth."""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sot_graph.routing.learned_features import extract

WEIGHTS_FORMAT = 3
"""The layout of a weights file. Counted up when a file of before can't be read any more."""
BIAS = ""
"""The name under which the bias stands among the weights."""
FOLDS = 5
PENALTY = 3.0
"""Half of it times the squared weights is added to the loss."""
LEAST_QUESTIONS = 3
"""A phrase or word in fewer questions than this gets no weight."""
_DIGITS = 3
"""Weights are rounded to these decimals: the last bits of `math.exp` differ between platforms."""
_BINS = 10
_LARGEST_LOGIT = 30.0
_MEMORY = 10
_ROUNDS = 120
_SMALL_GRADIENT = 1e-4
_LEAST_DESCENT = 1e-4
_HALVINGS = 30

FeatureValues: TypeAlias = Mapping[str, float]
Weights: TypeAlias = Mapping[str, float]
Vector: TypeAlias = list[float]
Row: TypeAlias = tuple[tuple[int, float], ...]
"""The features of one question: index from 1 (0 is the bias), value."""


def features_of(questions: Sequence[str]) -> list[FeatureValues]:
    """The features of each question."""
    return [extract(question).values for question in questions]


def probability_of(features: FeatureValues, weights: Weights) -> float:
    """How likely a question wants a skeleton."""
    return 1.0 / (1.0 + math.exp(-max(-_LARGEST_LOGIT, min(_LARGEST_LOGIT, _logit_of(features, weights)))))


def _logit_of(features: FeatureValues, weights: Weights) -> float:
    # fsum: the same to the last bit whatever the order, so the same on every Python.
    return math.fsum([weights.get(BIAS, 0.0), *(value * weights.get(name, 0.0) for name, value in features.items())])


def fit_weights(
    features: Sequence[FeatureValues], labels: Sequence[bool], begins_with: Weights | None = None
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
    fitted = _fit_logistic(rows, labels, [_logit_of(one, before) for one in features], len(names) + 1)
    learned = dict(zip([BIAS, *names], fitted, strict=True))
    every = {name: before.get(name, 0.0) + learned.get(name, 0.0) for name in {*before, *learned}}
    return {name: round(every[name], _DIGITS) + 0.0 for name in sorted(every) if round(every[name], _DIGITS)}


def _fit_logistic(rows: Sequence[Row], labels: Sequence[bool], offsets: Sequence[float], size: int) -> Vector:
    """Logistic regression with a squared penalty on all weights but the bias, in plain Python.

    `sum()` is avoided on purpose: Python 3.12 changed how it rounds.

    Args:
        rows: The features of each question.
        labels: Whether each wants a skeleton.
        offsets: What the weights of before say of each: the new ones are what is added to it.
        size: How many weights there are, the bias at 0 included.
    """

    def evaluate(weights: Vector) -> tuple[float, Vector]:
        total = 0.0
        gradient = [0.0] * size
        for row, label, offset in zip(rows, labels, offsets, strict=True):
            score = weights[0] + offset
            for index, amount in row:
                score += amount * weights[index]
            value, slope = _logistic_loss(score, label)
            total += value
            gradient[0] += slope
            for index, amount in row:
                gradient[index] += slope * amount
        for index in range(1, size):
            weight = weights[index]
            total += 0.5 * PENALTY * weight * weight
            gradient[index] += PENALTY * weight
        return total, gradient

    return _minimise(evaluate, size)


def _logistic_loss(score: float, label: bool) -> tuple[float, float]:
    """One question's loss, and its slope by the score."""
    margin = score if label else -score
    if margin > 0:
        small = math.exp(-margin)
        value, share = math.log1p(small), small / (1.0 + small)
    else:
        small = math.exp(margin)
        value, share = math.log1p(small) - margin, 1.0 / (1.0 + small)
    return value, -share if label else share


def _minimise(objective: Callable[[Vector], tuple[float, Vector]], size: int) -> Vector:
    """L-BFGS with backtracking (Nocedal and Wright, algorithm 7.5)."""
    point = [0.0] * size
    value, gradient = objective(point)
    steps: list[tuple[Vector, Vector, float]] = []
    for _ in range(_ROUNDS):
        if _dot(gradient, gradient) < _SMALL_GRADIENT**2:
            break
        direction = _direction(gradient, steps)
        slope = _dot(gradient, direction)
        length = 1.0 if steps else 1.0 / math.sqrt(_dot(gradient, gradient))
        for _ in range(_HALVINGS):
            new_point = [old + length * step for old, step in zip(point, direction, strict=True)]
            new_value, new_gradient = objective(new_point)
            if new_value <= value + _LEAST_DESCENT * length * slope:
                break
            length /= 2
        else:
            break
        moved = [new - old for new, old in zip(new_point, point, strict=True)]
        turned = [new - old for new, old in zip(new_gradient, gradient, strict=True)]
        curvature = _dot(moved, turned)
        if curvature > 0:
            steps = [*steps[-_MEMORY + 1 :], (moved, turned, curvature)]
        point, value, gradient = new_point, new_value, new_gradient
    return point


def _direction(gradient: Vector, steps: list[tuple[Vector, Vector, float]]) -> Vector:
    direction = [-slope for slope in gradient]
    shares: list[float] = []
    for moved, turned, curvature in reversed(steps):
        share = _dot(moved, direction) / curvature
        shares.append(share)
        direction = [old - share * change for old, change in zip(direction, turned, strict=True)]
    if steps:
        _, turned, curvature = steps[-1]
        scale = curvature / _dot(turned, turned)
        direction = [scale * old for old in direction]
    for (moved, turned, curvature), share in zip(steps, reversed(shares), strict=True):
        back = share - _dot(turned, direction) / curvature
        direction = [old + back * change for old, change in zip(direction, moved, strict=True)]
    return direction


def _dot(left: Vector, right: Vector) -> float:
    total = 0.0
    for one, other in zip(left, right, strict=True):
        total += one * other
    return total


def weights_text(weights: Weights) -> str:
    """The weights file: one feature a line, sorted, so that a change can be read."""
    lines = [f"{json.dumps(name)}: {weights[name]}" for name in sorted(weights) if name != BIAS]
    head = f'{{\n"format": {WEIGHTS_FORMAT},\n"bias": {weights.get(BIAS, 0.0)},\n"features": {{\n'
    return head + ",\n".join(lines) + "\n}\n}\n"


@dataclass(frozen=True, slots=True)
class RouterFigures:
    """How well probabilities tell labelled questions apart, at a threshold."""

    accuracy: float
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
        bins = reliability(probabilities, labels, threshold)
        return cls(
            sum(one == label for one, label in zip(routed, labels, strict=True)) / max(1, len(labels)),
            2 * right / max(1, sum(routed) + sum(labels)),
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
    others = sorted(one for one, label in zip(probabilities, labels, strict=True) if not label)
    wins = sum((bisect_left(others, one) + bisect_right(others, one)) / 2 for one in lists)
    return wins / max(1, len(lists) * len(others))


def cross_validate(
    questions: Sequence[str], labels: Sequence[bool], begins_with: Weights | None = None
) -> list[Weights]:
    """Weights for each question, in their order, that were learned without it and a fifth of the others."""
    features = features_of(questions)
    held_out_weights: list[Weights] = [{}] * len(labels)
    for fold in range(FOLDS):
        kept = [at for at in range(len(labels)) if at % FOLDS != fold]
        weights = fit_weights([features[at] for at in kept], [labels[at] for at in kept], begins_with)
        for at in range(fold, len(labels), FOLDS):
            held_out_weights[at] = weights
    return held_out_weights
