"""`LearnedRouter`: a small linear model says whether a question gains from a skeleton."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from sot_graph.errors import SotConfigError
from sot_graph.routing.glossary import leans_on_the_last
from sot_graph.routing.learned_features import Features, english, extract
from sot_graph.routing.learned_training import (
    BIAS,
    WEIGHTS_FORMAT,
    Weights,
    features_of,
    fit_weights,
    probability_of,
    weights_text,
)
from sot_graph.routing.protocol import BaseRouter, RouteDecision, is_probability
from sot_graph.types import ChatTurn

DEFAULT_THRESHOLD = 0.45
"""On the flat top of the curve that cross-validation on the project's own questions gives. See docs/router.md."""
MAX_BYTES = 5_000_000
SHIPPED = Path(__file__).with_name("learned_weights.json")

_LARGEST_WEIGHT = 1e6
_WORTH_NAMING = 0.15
"""A feature that moves the logit by less is no reason."""
_MOST_QUOTES = 2
_FEWEST_QUESTIONS = 20
_LABELS: Mapping[bool | str, bool] = {True: True, False: False, "skeleton": True, "direct": False}
_WITHOUT_A_MARK = {
    True: "worded like questions with several independent points",
    False: "worded like one-piece answers",
}


class LearnedRouter(BaseRouter):
    """Routes by how a question is worded, without a model call: well under 2 ms on one core.

    The trained router of the paper (Ning et al. 2024, section 4.2), as a linear model over phrases that ships
    with the package. It reads English, German, French, Spanish, Portuguese, Italian, Russian, Hindi, Arabic, Chinese
    and Japanese; a question in another language goes `"direct"` without a confidence. A follow-up that leans on the
    history, such as "And in winter?", is judged by itself or by a question before it, whichever wants a skeleton more.

    An instance keeps nothing between calls, so threads can share it.

    Args:
        threshold: The least probability, from 0 to 1, with which a question takes the skeleton.
        weights: A weights file to use in place of the shipped one.

    Raises:
        SotConfigError: The threshold is out of range, or the weights file isn't one.

    Examples:
        >>> from sot_graph import LearnedRouter
        >>> router = LearnedRouter()
        >>> router("What are the main benefits of learning a second language?").route
        'skeleton'
        >>> router("What is 17 * 23?").route
        'direct'
    """

    is_instant = True

    def __init__(self, threshold: float = DEFAULT_THRESHOLD, *, weights: str | PathLike[str] | None = None) -> None:
        if not is_probability(threshold):
            message = f"LearnedRouter: threshold must be a number from 0 to 1, not {threshold!r}"
            raise SotConfigError(message)
        self.threshold = float(threshold)
        self._weights = shipped_weights() if weights is None else _read_weights(weights)
        english()  # read now, and not at the first question

    @classmethod
    def train(
        cls, questions: Sequence[str], labels: Sequence[bool | str], threshold: float = DEFAULT_THRESHOLD
    ) -> LearnedRouter:
        """A router that has learned from your own questions, beginning with what the shipped one knows.

        The fewer there are, the less it departs from the shipped one. `sot-graph route --train` also tells what it is
        worth, by cross-validation.

        Args:
            questions: At least twenty, of both kinds.
            labels: Of each: `"skeleton"` or `True`, `"direct"` or `False`.
            threshold: As of the constructor.

        Raises:
            SotConfigError: There are too few questions, of one kind only, or another number of labels.

        Examples:
            >>> questions = [f"{ask} {thing}?" for thing in "abcde" for ask in ("Ways to", "Why", "Who is", "Tips on")]
            >>> router = LearnedRouter.train(questions, ["skeleton", "direct", "direct", "skeleton"] * 5)
            >>> router("Tips on e?").route
            'skeleton'
        """
        router = cls(threshold)
        wanted = checked_labels(questions, labels)
        router._weights = fit_weights(features_of(questions), wanted, shipped_weights())
        return router

    def save(self, path: str | PathLike[str]) -> None:
        """Write the weights to a file, for `LearnedRouter(weights=path)`."""
        Path(path).write_text(weights_text(self._weights), encoding="ascii", newline="\n")

    def __call__(self, question: str, history: Sequence[ChatTurn] = ()) -> RouteDecision:
        """Decides how a question is answered."""
        _check_question(question)
        if not question.strip():
            return RouteDecision("direct", "there is no question", 1.0)
        features = extract(question)
        probability = probability_of(features.values, self._weights)
        earlier = [turn["content"] for turn in history if turn["role"] == "user" and isinstance(turn["content"], str)]
        while earlier and leans_on_the_last(question):
            question = earlier.pop()
            before = extract(question)
            likely = probability_of(before.values, self._weights)
            if before.is_readable and likely > probability:
                features, probability = before, likely
        if not features.is_readable:
            return RouteDecision("direct", "not in a language that this router reads", None)
        if probability >= self.threshold:
            return RouteDecision("skeleton", self._reason(features, skeleton=True), round(probability, 4))
        return RouteDecision("direct", self._reason(features, skeleton=False), round(1.0 - probability, 4))

    def probability(self, question: str) -> float:
        """How likely a question gains from a skeleton, from 0 to 1."""
        _check_question(question)
        return probability_of(extract(question).values, self._weights)

    def _reason(self, features: Features, *, skeleton: bool) -> str:
        """The strongest features on the chosen side, such as `asks for several points: "ways to"`."""
        # A reason goes into traces and logs, so only words of the vocabulary are quoted, and none of the topic's.
        sign = 1.0 if skeleton else -1.0
        pulls = {name: sign * value * self._weights.get(name, 0.0) for name, value in features.values.items()}
        strongest = sorted(
            (name for name in pulls if pulls[name] >= _WORTH_NAMING), key=lambda name: (-pulls[name], name)
        )
        descriptions = english().descriptions
        said = next((descriptions[name] for name in strongest if name in descriptions), _WITHOUT_A_MARK[skeleton])
        quotes: list[str] = []
        for name in strongest:
            phrase = features.phrases.get(name, "").removesuffix(" ...")
            if not _means_something_alone(name) or any(set(phrase.split()) & set(other.split()) for other in quotes):
                continue
            quotes.append(phrase)
            if len(quotes) == _MOST_QUOTES:
                break
        quoted = ", ".join(f'"{phrase}"' for phrase in quotes)
        return f"{said}: {quoted}" if quoted else said


def _means_something_alone(name: str) -> bool:
    """Whether a person learns something from a feature's words: from "ways to", but not from "of the".

    A phrase says something if a class of words, which has capitals, is in it, or if it begins the question with "how".
    """
    if name.startswith("w:"):
        return True
    words = name.removeprefix("n:").split()
    if not name.startswith("n:") or len(words) == 1:
        return False
    return words[:2] == ["^", "how"] or any(word.isupper() and word.isalpha() for word in words)


def _check_question(question: Any) -> None:
    if not isinstance(question, str):
        message = f"LearnedRouter: the question must be a text, not {type(question).__name__}"
        raise SotConfigError(message)


def checked_labels(questions: Sequence[str], labels: Sequence[bool | str]) -> list[bool]:
    """Which of these questions want a skeleton; `SotConfigError` where nothing can be learned from them."""
    if len(questions) != len(labels):
        message = f"LearnedRouter.train: there are {len(questions)} questions and {len(labels)} labels."
        raise SotConfigError(message)
    for question in questions:
        _check_question(question)
    unknown = [label for label in labels if label not in _LABELS]
    if unknown:
        message = f'LearnedRouter.train: a label is "skeleton", "direct", or a bool, not {unknown[0]!r}.'
        raise SotConfigError(message)
    wanted = [_LABELS[label] for label in labels]
    if len(wanted) < _FEWEST_QUESTIONS or len(set(wanted)) == 1:
        message = (
            f"LearnedRouter.train: {len(wanted)} questions, {sum(wanted)} of them for a skeleton; there must be "
            f"{_FEWEST_QUESTIONS} or more, of both kinds."
        )
        raise SotConfigError(message)
    return wanted


def _read_weights(path: str | PathLike[str]) -> Weights:
    """What each feature adds, and the bias, from a file that a router was saved to."""
    file = Path(path)
    try:
        with file.open("rb") as opened:
            return _parsed_weights(opened.read(MAX_BYTES + 1))
    except OSError as error:
        message = f"The router's weights {file} can't be read: {error.strerror or error}"
        raise SotConfigError(message) from error
    except (ValueError, RecursionError) as error:
        fix = "Make one with `sot-graph route --train questions.csv --save weights.json`."
        fix = "Install sot-graph again." if file == SHIPPED else fix
        message = f"{file} isn't a weights file of the learned router: {error}. {fix}"
        raise SotConfigError(message) from error


@cache
def shipped_weights() -> Weights:
    """Those that come with the package."""
    return _read_weights(SHIPPED)


def _parsed_weights(content: bytes) -> Weights:
    """The weights in a file's content; a `ValueError` says what is wrong with it."""
    if len(content) > MAX_BYTES:
        message = f"it is larger than {MAX_BYTES} bytes"
        raise ValueError(message)
    data: Any = json.loads(content.decode())
    features = data.get("features") if isinstance(data, dict) and data.get("format") == WEIGHTS_FORMAT else None
    if not isinstance(features, dict) or not features:
        message = f'it has no "format": {WEIGHTS_FORMAT} with "features"'
        raise ValueError(message)
    for name, value in [("bias", data.get("bias")), *features.items()]:
        # The range leaves out NaN. A bool is an int, but its type is none of the two.
        if type(value) not in (int, float) or not -_LARGEST_WEIGHT <= value <= _LARGEST_WEIGHT:
            message = f"{name[:40]!r} is not a number from {-_LARGEST_WEIGHT:.0f} to {_LARGEST_WEIGHT:.0f}"
            raise ValueError(message)
    return {BIAS: data["bias"], **features}
