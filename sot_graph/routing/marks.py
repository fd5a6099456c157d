"""The hand-made features of a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sot_graph.routing.lexicon import WORD_CLASSES
from sot_graph.routing.patterns import PATTERNS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DESCRIPTIONS", "marks"]

_WORD_LIMITS = (3, 6, 9, 13, 18, 25, 40, 70, 120, 250)
_DIGIT_LIMITS = (0, 3, 8)
_MOST_QUESTION_MARKS = 4
_MANY_LINES = 4

DESCRIPTIONS: dict[str, str] = {
    **{f"h:{pattern.name}": pattern.says for pattern in PATTERNS},
    "h:how-to+code": "asks how to do one technical thing",
    "h:how-to+maths": "asks how to work something out",
    "h:how-to+plain": "asks how to do something",
    "h:points+plain": "asks for several points",
    "h:points+several": "asks for several points",
    "h:points+code": "asks for points about code",
    "h:own+advice": "asks for advice on a situation",
    "h:own+points": "asks for points on a situation",
    "h:own+yes-no": "asks yes or no about a situation",
    "h:technical": "is about code or a system",
    "h:maths": "is about numbers",
    "h:lines": "has several lines",
    "h:many-lines": "brings a long text",
}
"""What the hand-made features say to a person. One that is missing here is never given as a reason."""


def marks(text: str, words: float, first: list[str], classes: set[str]) -> Iterator[str]:
    """The hand-made features that a question has.

    Args:
        text: The question, shortened and stripped.
        words: How many words the whole question has, about.
        first: The words of its first sentence.
        classes: The word classes in the sentences that ask.
    """
    names = [pattern.name for pattern in PATTERNS if pattern.regex.search(text)]
    yield from names
    found = set(names)
    yield from _lengths(text, words)
    yield from _pairs(found, classes)
    if first:
        yield from (f"first:{name}" for name in WORD_CLASSES.get(first[0], ()))


def _lengths(text: str, words: float) -> Iterator[str]:
    yield from (f"words>{limit}" for limit in _WORD_LIMITS if words > limit)
    yield f"question-marks={min(_MOST_QUESTION_MARKS, text.count('?'))}"
    if text.endswith("?"):
        yield "ends-with-question"
    if not text:
        yield "empty"
    lines = text.count("\n")
    if lines:
        yield "lines"
    if lines > _MANY_LINES:
        yield "many-lines"
    digits = len([character for character in text if "0" <= character <= "9"])
    yield from (f"digits>{limit}" for limit in _DIGIT_LIMITS if digits > limit)
    if text[:1].islower():
        yield "lower-start"


def _pairs(found: set[str], classes: set[str]) -> Iterator[str]:
    """Features that mean something else together."""
    technical = "CODE" in classes or "code-mark" in found
    maths = "MATHS" in classes or "formula" in found
    how_to = bool(found & {"how-to-start", "how-can-start"})
    points = "POINTS" in classes
    own = bool(found & {"i-am", "my"})
    one_text = found & {"write-piece", "write-start", "transform"}
    pairs = {
        "technical": technical,
        "maths": maths,
        "how-to+code": how_to and technical,
        "how-to+maths": how_to and maths,
        "how-to+plain": how_to and not technical and not maths,
        "points+code": points and technical,
        "points+plain": points and not technical and not one_text,
        "points+several": points and bool(classes & {"SEVERAL", "COUNT"}),
        "own+advice": own and "advice" in found,
        "own+points": own and points,
        "own+yes-no": own and "yes-no-tail" in found,
    }
    yield from (name for name, true in pairs.items() if true)
