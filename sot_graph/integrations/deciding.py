"""One call of an agent's model: it calls tools, or answers in short, or writes the skeleton of a long answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sot_graph.skeleton.parser import clean_titles, parse_skeleton

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sot_graph.options import SotOptions

__all__ = ["instruction", "may_be_skeleton", "skeleton_in"]

_INSTRUCTION = (
    "Decide how to go on:\n"
    "- If you need a tool, call it now, as you would anyway.\n"
    "- If you have all that you need and a few sentences are enough, or you have to ask back, write them as usual.\n"
    "- If you have all that you need for a longer answer, don't write it yet. First write its skeleton: {min_points} "
    "to {max_points} points, each a title of {title_length}, in the language of the conversation, as a numbered list, "
    "one title a line, and nothing else. The points differ from each other, cover the answer together, and each can be "
    "written without reading the others. No introduction, no conclusion."
)
_LONGEST_TITLE = 100
_AROUND = 120
"""Characters that may stand around the titles: "Here is the skeleton:"."""
_NUMBERING = 8
"""Characters of a number, marks and a line's end."""


def instruction(options: SotOptions) -> str:
    """What the model is told after the conversation."""
    return _INSTRUCTION.format(
        min_points=options.min_points, max_points=options.max_points, title_length=options.title_length
    )


def may_be_skeleton(text: str, options: SotOptions) -> bool:
    """Whether what there is of a reply may yet become a skeleton. Until then nothing of it can be shown."""
    if len(text) > options.max_points * (_LONGEST_TITLE + _NUMBERING) + _AROUND:
        return False
    if "{" in text or "[" in text:  # JSON, which can be read only when it is whole
        return True
    raw = parse_skeleton(text)
    # Each title that is still to come may make up for so much.
    return _around(text, raw) <= _AROUND + options.max_points * _NUMBERING and _are_titles(raw)


def skeleton_in(text: str, options: SotOptions, *, was_cut_off: bool = False) -> list[str] | None:
    """The titles of a reply that is a skeleton.

    Args:
        text: The reply's.
        options: For how many points it has.
        was_cut_off: Whether the reply ran into a token limit: what stands last may be half a title.

    Returns:
        The titles, as many as there may be; none where the skeleton was cut off too soon to be of use. `None`: it is an
        answer, such as a short list that says it all.
    """
    raw = parse_skeleton(text)
    if not raw or not _are_titles(raw) or _around(text, raw) > _AROUND:
        return None
    titles = clean_titles(parse_skeleton(text.rpartition("\n")[0]) if was_cut_off else raw)
    if len(titles) < options.min_points:
        return [] if was_cut_off else None
    return titles[: options.max_points]


def _are_titles(raw: Sequence[str]) -> bool:
    return all(len(item) <= _LONGEST_TITLE for item in raw)


def _around(text: str, raw: Sequence[str]) -> int:
    """How many characters stand around the titles."""
    return len(text.strip()) - sum(len(item) + _NUMBERING for item in raw)
