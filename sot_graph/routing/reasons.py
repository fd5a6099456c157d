"""What spoke for a route, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sot_graph.routing.marks import DESCRIPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["reason_for"]

_WEIGHTY = 0.15
_SHOWN_PHRASES = 2
_OTHERWISE = {True: "worded like questions with several independent points", False: "worded like one-piece answers"}


def reason_for(
    *, skeleton: bool, values: Mapping[str, float], phrases: Mapping[str, str], weights: Mapping[str, float]
) -> str:
    """Names the strongest features on the chosen side, such as `asks for several points ("ways to")`.

    Only words of the router's own lists are quoted, never a topic's: a reason goes into traces and logs.

    Args:
        skeleton: The side that was chosen.
        values: The question's features.
        phrases: Their words in the question.
        weights: The features' weights; above 0 for the skeleton.
    """
    sign = 1.0 if skeleton else -1.0
    pulls = {name: sign * value * weights.get(name, 0.0) for name, value in values.items()}
    strongest = sorted((name for name in pulls if pulls[name] >= _WEIGHTY), key=lambda name: (-pulls[name], name))
    said = next((DESCRIPTIONS[name] for name in strongest if name in DESCRIPTIONS), _OTHERWISE[skeleton])
    shown: list[str] = []
    for name in strongest:
        phrase = phrases.get(name, "").removesuffix(" ...")
        if not _tells(name) or any(set(phrase.split()) & set(other.split()) for other in shown):
            continue
        shown.append(phrase)
        if len(shown) == _SHOWN_PHRASES:
            break
    quoted = ", ".join(f'"{phrase}"' for phrase in shown)
    return f"{said}: {quoted}" if quoted else said


def _tells(name: str) -> bool:
    """Whether a feature's words say something by themselves: "ways to", but not "of the"."""
    if name.startswith("w:"):
        return True
    words = name.removeprefix("n:").split()
    if not name.startswith("n:") or len(words) == 1:
        return False
    return words[:2] == ["^", "how"] or any(word.isupper() and word.isalpha() for word in words)
