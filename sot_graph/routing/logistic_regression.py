"""Fits a linear model in plain Python: the same numbers on every machine, and nothing to install.

`sum()` is avoided on purpose: Python 3.12 changed how it rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

Vector: TypeAlias = list[float]
Row: TypeAlias = tuple[tuple[int, float], ...]
"""The features of one question: index from 1 (0 is the bias), value."""

_Objective: TypeAlias = Callable[[Vector], tuple[float, Vector]]
_MEMORY = 10
_ROUNDS = 120
_SMALL_GRADIENT = 1e-4
_LEAST_DESCENT = 1e-4
_HALVINGS = 30


def fit_logistic(
    rows: Sequence[Row], labels: Sequence[bool], size: int, penalty: float, *, scores: Sequence[float] | None = None
) -> Vector:
    """Logistic regression with a squared penalty on all weights but the bias.

    Args:
        rows: The features of each question.
        labels: What each question is.
        size: How many weights there are, the bias at 0 included.
        penalty: Half of it times the squared weights is added to the loss.
        scores: What another model says of each question: the weights are what is added to it. `None`: nothing.
    """
    given = [0.0] * len(rows) if scores is None else scores

    def evaluate(weights: Vector) -> tuple[float, Vector]:
        total = 0.0
        gradient = [0.0] * size
        for row, label, said in zip(rows, labels, given, strict=True):
            score = weights[0] + said
            for index, amount in row:
                score += amount * weights[index]
            value, slope = _logistic_loss(score, label)
            total += value
            gradient[0] += slope
            for index, amount in row:
                gradient[index] += slope * amount
        for index in range(1, size):
            weight = weights[index]
            total += 0.5 * penalty * weight * weight
            gradient[index] += penalty * weight
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


def _minimise(objective: _Objective, size: int) -> Vector:
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
