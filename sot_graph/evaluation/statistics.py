"""What pairs of answers tell, each with its 95 % interval: net win rates, ratios of times and tokens.

A question is what was drawn, so every interval is a bootstrap by question: whatever was measured of one question goes
in or stays out together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.special import expit

Choice: TypeAlias = Literal["first", "second", "tie"]
"""Which of the two answers that it was shown a judge prefers."""

_RESAMPLES = 1000
_SEED = 20_260
_TAILS = (2.5, 97.5)
_WANTED_HALF_WIDTH = 0.05
_NEWTON_STEPS = 25
_RIDGE = 1e-3
"""Holds base and slope near 0: so small that it changes nothing, and where all lengths or outcomes are equal there
still is a fit."""
_LONGEST_STEP = 2.0
_CONVERGED = 1e-4
_BATCH = 250
"""Resamples at once: their weights are a matrix of so many rows."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """How many questions it rests on."""

    @property
    def half_width(self) -> float:
        """Half of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Preference:
    """What both orders of one pair came to, seen from the second arm."""

    outcome: int
    """1: the second arm's answer is better; -1: the first arm's; 0: a tie."""
    conflict: bool
    """Whether the judge changed its mind with the order: such a pair is a tie."""


def settle(forward: Choice, backward: Choice) -> Preference:
    """One preference from two verdicts: `forward` was shown the first arm's answer first, `backward` the second's.

    Examples:
        >>> settle("first", "first")  # it likes what it reads first
        Preference(outcome=0, conflict=True)
        >>> settle("second", "first").outcome
        1
    """
    one = {"first": -1, "tie": 0, "second": 1}[forward]
    other = {"first": 1, "tie": 0, "second": -1}[backward]
    return Preference(one if one == other else 0, conflict=one != other)


def mean(values: Sequence[float]) -> Estimate:
    """The mean, such as a net win rate of outcomes."""
    numbers = np.asarray(values, dtype=float)
    return _interval(numbers.mean(), (numbers[drawn].mean(axis=1) for drawn in _resamples(len(numbers))), len(numbers))


def median(values: Sequence[float]) -> Estimate:
    """The median, such as of speed-ups."""
    numbers = np.asarray(values, dtype=float)
    medians = (np.median(numbers[drawn], axis=1) for drawn in _resamples(len(numbers)))
    return _interval(np.median(numbers), medians, len(numbers))


def ratio_of_sums(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """One sum over another, such as the tokens of one arm over those of the other."""
    tops, bottoms = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    ratios = (tops[drawn].sum(axis=1) / bottoms[drawn].sum(axis=1) for drawn in _resamples(len(tops)))
    return _interval(tops.sum() / bottoms.sum(), ratios, len(tops))


def length_controlled_net(outcomes: Sequence[int], lengths: Sequence[tuple[int, int]]) -> Estimate:
    """The net win rate that answers of equal length would have.

    As AlpacaEval 2 controls for length (Dubois et al. 2024): a logistic regression of the preference on the difference
    of lengths, squeezed by tanh, whose prediction at no difference is the rate.

    Args:
        outcomes: 1, 0 or -1, of each question, for the second arm.
        lengths: Characters of the first and of the second arm's answer.
    """
    pairs = np.asarray(lengths, dtype=float)
    difference = pairs[:, 1] - pairs[:, 0]
    # Where all differences are the same, nothing tells what the length did.
    longer = np.tanh(difference / difference.std()) if difference.std() else np.zeros(len(pairs))
    wins = (np.asarray(outcomes, dtype=float) + 1) / 2
    each_once = np.ones((1, len(wins)))
    nets = (_net_at_equal_length(wins, longer, _weights(drawn, len(wins))) for drawn in _resamples(len(wins)))
    return _interval(_net_at_equal_length(wins, longer, each_once)[0], nets, len(wins))


def questions_needed(estimate: Estimate) -> int:
    """How many questions bring the interval down to +- 0.05: it shrinks with the root of their number."""
    return max(1, math.ceil(estimate.n * (estimate.half_width / _WANTED_HALF_WIDTH) ** 2))


def _resamples(n: int) -> Any:
    """Questions drawn with replacement, as indices, in batches. The seed is fixed: the same rows, the same report."""
    generator = np.random.default_rng(_SEED)
    for _ in range(_RESAMPLES // _BATCH):
        yield generator.integers(n, size=(_BATCH, n))


def _weights(drawn: Any, n: int) -> Any:
    """How often each question was drawn, a row a resample."""
    rows = len(drawn)
    flat = (drawn + n * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * n).reshape(rows, n).astype(float)


def _net_at_equal_length(wins: Any, longer: Any, weights: Any) -> Any:
    """What the logistic regression of every row of weights, by Newton's method, predicts at equal length."""
    features = np.stack([np.ones_like(longer), longer], axis=1)
    products = (features[:, :, None] * features[:, None, :]).reshape(-1, 4)
    coefficients = np.zeros((len(weights), 2))
    for _ in range(_NEWTON_STEPS):
        expected = expit(coefficients @ features.T)
        gradient = (weights * (wins - expected)) @ features - _RIDGE * coefficients
        curvature = ((weights * expected * (1 - expected)) @ products).reshape(-1, 2, 2) + _RIDGE * np.eye(2)
        step = np.clip(np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0], -_LONGEST_STEP, _LONGEST_STEP)
        coefficients += step
        if np.abs(step).max() < _CONVERGED:
            break
    return 2 * expit(coefficients[:, 0]) - 1


def _interval(value: Any, batches: Any, n: int) -> Estimate:
    low, high = np.percentile(np.concatenate(list(batches)), _TAILS)
    return Estimate(float(value), float(low), float(high), n)
