"""The call that would draft may answer instead: what a model is told for that, and what becomes of its reply.

One reply is either the model's own turn (calls of tools, a short answer) or the skeleton of a long answer. No token is
paid only to decide between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk

from sot_graph.llm.call import Reply
from sot_graph.skeleton.parser import clean_titles, parse_skeleton

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sot_graph.options import SotOptions

__all__ = ["DraftDecision", "decision_instruction", "may_be_skeleton", "skeleton_in"]

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
_ABOUT_MODEL = ("model_name", "model_provider")


def decision_instruction(options: SotOptions) -> str:
    """What the model is told after the conversation."""
    return _INSTRUCTION.format(
        min_points=options.min_points, max_points=options.max_points, title_length=options.title_length
    )


def may_be_skeleton(text: str, options: SotOptions) -> bool:
    """Whether what there is of a reply may yet become a skeleton. Until then nothing of it can be shown."""
    if len(text) > options.max_points * (_LONGEST_TITLE + _NUMBERING) + _AROUND:
        return False
    if "{" in text or "[" in text:  # JSON can be read only when it is whole
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


class DraftDecision:
    """Reads a model's reply, and holds it back as long as it may be a skeleton.

    Args:
        options: For how many points a skeleton has.
        may_draft: Whether the reply may be a skeleton at all. Otherwise nothing is held back.

    Attributes:
        titles: Once the reply is whole, those of the skeleton that it is. None of them: it was cut off too soon to be
            one. `None`: the reply is the model's own turn.
        was_cut_off: Whether the skeleton ran into a token limit.
        usage: The tokens of a reply that is a skeleton, and so is never shown.
        about_model: Which model has written it.
    """

    def __init__(self, options: SotOptions, *, may_draft: bool) -> None:
        self.titles: list[str] | None = None
        self.was_cut_off = False
        self.usage: Any = None
        self.about_model: dict[str, Any] = {}
        self._shows_text = False
        self._calls_tools = False
        self._options = options
        self._is_open = may_draft
        self._held: list[AIMessage] = []
        self._whole: Any = None

    def take(self, piece: AIMessage) -> list[AIMessage]:
        """Take the next piece, or all of it at once; give back what may be shown."""
        self._held.append(piece)
        if self._is_open:
            self._whole = piece if self._whole is None else self._whole + piece
            text_decides = isinstance(piece, AIMessageChunk)
            if _has_calls(self._whole) or (text_decides and not may_be_skeleton(str(self._whole.text), self._options)):
                self._is_open = False
        return [] if self._is_open else self._show()

    def break_off(self, mark: str) -> bool:
        """End the text that is being read with a mark: no more of it will come. `False`: none is being read."""
        self._held.append(AIMessageChunk(content=mark))
        return self._shows_text and not self._calls_tools

    def end(self) -> list[AIMessage]:
        """The reply is whole: give back what is still to be shown, of a skeleton nothing."""
        if self._is_open and self._whole is not None:
            reply = Reply(str(self._whole.text), self._whole)
            self.titles = skeleton_in(reply.text, self._options, was_cut_off=reply.was_cut_off)
            if self.titles is not None:
                self.was_cut_off = reply.was_cut_off
                self.usage = self._whole.usage_metadata
                said = self._whole.response_metadata
                self.about_model = {key: said[key] for key in _ABOUT_MODEL if key in said}
                return []
        return self._show()

    def _show(self) -> list[AIMessage]:
        shown, self._held = self._held, []
        for message in shown:
            self._shows_text |= bool(message.text)
            self._calls_tools |= _has_calls(message)
        return shown


def _has_calls(message: AIMessage) -> bool:
    begun = message.tool_call_chunks if isinstance(message, AIMessageChunk) else []
    return bool(message.tool_calls or message.invalid_tool_calls or begun)
