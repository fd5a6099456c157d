"""`LearnedRouter`: a small linear model says whether a question gains from a skeleton."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sot_graph.errors import SotConfigError
from sot_graph.routing.decision import RouteDecision
from sot_graph.routing.features import Features, extract, shortened
from sot_graph.routing.languages import is_english
from sot_graph.routing.lengths import LONGEST, stated_tokens, within_hints
from sot_graph.routing.mixins import RoutesEdges
from sot_graph.routing.reasons import reason_for
from sot_graph.routing.weights import read_weights, shipped_weights

if TYPE_CHECKING:
    from os import PathLike

    from sot_graph.types import ChatTurn

__all__ = ["DEFAULT_THRESHOLD", "LearnedRouter"]

DEFAULT_THRESHOLD = 0.45
"""On the flat top of the curve that cross-validation on the project's own questions gives. See docs/router.md."""
_STATED_SPREAD = 0.25
_LARGEST_LOGIT = 30.0


class LearnedRouter(RoutesEdges):
    """Routes by how a question is worded, without a model call: well under 2 ms on one core.

    The trained router of the paper (Ning et al. 2024, section 4.2), as a linear model over phrases that ships
    with the package. It reads English; a question in another language goes `"direct"` without a confidence. The
    history is not read: a follow-up such as "and the second one?" is judged by its own words.

    An instance keeps nothing between calls, so threads can share it.

    Args:
        threshold: The least probability, from 0 to 1, with which a question takes the skeleton.
        min_expected_tokens: A question whose answer is estimated shorter than this, in tokens, goes `"direct"`
            however list-like it is. None: no such rule.
        weights: A weights file to use in place of the shipped one.

    Raises:
        SotConfigError: An argument is out of range, or the weights file isn't one.

    Example:
        >>> from sot_graph.routing import LearnedRouter
        >>> router = LearnedRouter()
        >>> router("What are the main benefits of learning a second language?").route
        'skeleton'
        >>> router("What is 17 * 23?").route
        'direct'
    """

    is_instant = True
    """Needs no thread of its own to be asked from an event loop."""

    def __init__(
        self,
        threshold: float = DEFAULT_THRESHOLD,
        min_expected_tokens: int | None = None,
        *,
        weights: str | PathLike[str] | None = None,
    ) -> None:
        _check(threshold, min_expected_tokens)
        self.threshold = float(threshold)
        self.min_expected_tokens = min_expected_tokens
        self._weights = shipped_weights() if weights is None else read_weights(weights)
        self._route = {name: pair[0] for name, pair in self._weights.features.items()}
        self._length = {name: pair[1] for name, pair in self._weights.features.items()}

    def __call__(self, question: str, history: Sequence[ChatTurn] = ()) -> RouteDecision:
        """Decides how a question is answered. The history is not read."""
        _check_question(question)
        if not question.strip():
            return RouteDecision("direct", "there is no question", 1.0)
        if not is_english(question):
            return RouteDecision("direct", "not in English, which is all that this router reads", None)
        features = extract(question)
        short = self._too_short(question, features)
        if short is not None:
            return short
        probability = self._probability(features)
        skeleton = probability >= self.threshold
        reason = reason_for(skeleton=skeleton, values=features.values, phrases=features.phrases, weights=self._route)
        if skeleton:
            return RouteDecision("skeleton", reason, round(probability, 4))
        return RouteDecision("direct", reason, round(1.0 - probability, 4))

    def probability(self, question: str) -> float:
        """How likely a question gains from a skeleton, from 0 to 1."""
        _check_question(question)
        return self._probability(extract(question))

    def expected_tokens(self, question: str) -> int:
        """About how many tokens the answer will have. Right to a factor of two or so.

        What the question says itself ("in 100 words") counts first.
        """
        _check_question(question)
        return self._expected(question, extract(question))[0]

    def _probability(self, features: Features) -> float:
        logit = _dot(self._weights.route_bias, features, self._route)
        return 1.0 / (1.0 + math.exp(-max(-_LARGEST_LOGIT, min(_LARGEST_LOGIT, logit))))

    def _expected(self, question: str, features: Features) -> tuple[int, float]:
        """The estimate, and its error's standard deviation in natural logarithms."""
        text = shortened(question)
        stated = stated_tokens(text)
        if stated is not None:
            return stated, _STATED_SPREAD
        logarithm = _dot(self._weights.length_bias, features, self._length)
        tokens = within_hints(text, math.exp(max(0.0, min(math.log(LONGEST), logarithm))))
        return round(tokens), self._weights.length_spread

    def _too_short(self, question: str, features: Features) -> RouteDecision | None:
        if self.min_expected_tokens is None:
            return None
        tokens, spread = self._expected(question, features)
        if tokens >= self.min_expected_tokens:
            return None
        distance = math.log(self.min_expected_tokens / max(1, tokens)) / spread
        confidence = 0.5 * (1.0 + math.erf(distance / math.sqrt(2.0)))
        reason = f"a short answer: about {tokens} tokens, below min_expected_tokens={self.min_expected_tokens}"
        return RouteDecision("direct", reason, round(confidence, 4))


def _dot(bias: float, features: Features, weights: dict[str, float]) -> float:
    # fsum: the same to the last bit whatever the order, so the same on every Python.
    return math.fsum([bias, *(value * weights[name] for name, value in features.values.items() if name in weights)])


def _check(threshold: Any, min_expected_tokens: Any) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        msg = f"LearnedRouter: threshold must be a number from 0 to 1, not {threshold!r}"
        raise SotConfigError(msg)
    if min_expected_tokens is None:
        return
    if isinstance(min_expected_tokens, bool) or not isinstance(min_expected_tokens, int) or min_expected_tokens < 1:
        msg = f"LearnedRouter: min_expected_tokens must be None or a whole number above 0, not {min_expected_tokens!r}"
        raise SotConfigError(msg)


def _check_question(question: Any) -> None:
    if not isinstance(question, str):
        msg = f"LearnedRouter: the question must be a text, not {type(question).__name__}"
        raise SotConfigError(msg)
