"""What comes out of the calls behind an agent's answer: a reply of its model, and the graph's stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk

from sot_graph.errors import ExpansionError
from sot_graph.integrations.deciding import may_be_skeleton, skeleton_in
from sot_graph.llm.call import Reply
from sot_graph.streaming import AnswerReader

if TYPE_CHECKING:
    from sot_graph.options import SotOptions

__all__ = ["HeldBack", "Writing"]

_ABOUT_MODEL = ("model_name", "model_provider")


class HeldBack:
    """A reply of the agent's model, of which nothing is shown as long as it may be a skeleton.

    Args:
        options: Of the graph.
        may_decide: Whether it may be one at all.
    """

    def __init__(self, options: SotOptions, *, may_decide: bool) -> None:
        self.titles: list[str] | None = None
        """Once it is whole: those of the skeleton that it is. None of them: it was cut off too soon to be one."""
        self.was_cut_off = False
        """Whether the skeleton ran into a token limit."""
        self.usage: Any = None
        """Of what is not shown."""
        self.about_model: dict[str, Any] = {}
        """Which model has written that."""
        self.shows_text = False
        """Whether anything to read was shown."""
        self.calls_tools = False
        self._options = options
        self._is_open = may_decide
        self._held: list[AIMessage] = []
        self._whole: Any = None

    def take(self, piece: AIMessage) -> list[AIMessage]:
        """Take the next piece, or all of it at once; give back what may be shown."""
        self._held.append(piece)
        if not self._is_open:
            return self._show()
        self._whole = piece if self._whole is None else self._whole + piece
        if _has_calls(self._whole) or (
            isinstance(piece, AIMessageChunk) and not may_be_skeleton(str(self._whole.text), self._options)
        ):
            self._is_open = False
            return self._show()
        return []

    def break_off(self, mark: str) -> None:
        """There won't be more of the text than what has been shown."""
        self._held.append(AIMessageChunk(content=mark))

    def end(self) -> list[AIMessage]:
        """The reply is whole: what is still to be shown, of a skeleton nothing."""
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
            self.shows_text |= bool(message.text)
            self.calls_tools |= _has_calls(message)
        return shown


def _has_calls(message: AIMessage) -> bool:
    begun = message.tool_call_chunks if isinstance(message, AIMessageChunk) else []
    return bool(message.tool_calls or message.invalid_tool_calls or begun)


class Writing:
    """Reads a graph's stream: the answer's text in reading order, and the result.

    Args:
        message_id: Of the answer's message.
        streamed: Whether the text is read as it is written.
    """

    def __init__(self, message_id: str | None, *, streamed: bool) -> None:
        self.modes = ["custom", "values"] if streamed else ["values"]
        """What the graph is to stream."""
        self.result: Any = None
        self.error: ExpansionError | None = None
        """No point could be written."""
        self._message_id = message_id
        self._length = 0
        self._reader = AnswerReader()

    @contextmanager
    def to_its_end(self) -> Iterator[None]:
        """Around the stream: how it ended is kept."""
        try:
            yield
        except ExpansionError as error:
            self.error = error

    def begin(self) -> list[AIMessage]:
        """What comes before the text: LangGraph, which shows subgraphs too, then knows that this one is shown here."""
        return [self._chunk("")] if "custom" in self.modes else []

    def take(self, part: Any) -> list[AIMessage]:
        """Take the next part; give back what can be read of the answer now."""
        mode, data = part
        if mode == "values":
            self.result = data
            return []
        text = self._reader.feed(data)
        self._length += len(text)
        return [self._chunk(text)] if text else []

    def end(self, message: AIMessage) -> list[AIMessage]:
        """The graph has ended: the answer's message, or what is left of it."""
        if "custom" not in self.modes:
            return [message]
        text = message.text[self._length :]
        last = self._chunk("", response_metadata=message.response_metadata, chunk_position="last")
        return [self._chunk(text), last] if text else [last]

    def _chunk(self, text: str, **fields: Any) -> AIMessageChunk:
        return AIMessageChunk(content=text, id=self._message_id, **fields)
