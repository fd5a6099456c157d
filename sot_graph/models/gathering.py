"""A streamed reply's pieces, put together."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import add_usage

from sot_graph.prompts.messages import clean_text

__all__ = ["Gathered", "as_chunk", "text_of"]


def text_of(chunk: Any) -> str:
    """A streamed piece's text: of a message, or of a chain that ends in plain strings."""
    content = chunk if isinstance(chunk, str) else getattr(chunk, "content", None)
    return content if isinstance(content, str) else str(getattr(chunk, "text", chunk))


def as_chunk(message: AIMessage) -> AIMessageChunk:
    """A streamed message: that of a model which doesn't stream comes whole."""
    if isinstance(message, AIMessageChunk):
        return message
    return AIMessageChunk(**message.model_dump(exclude={"type"}), chunk_position="last")


def _whole_characters(text: str) -> tuple[str, str]:
    """A text, and the half of a surrogate pair at its end whose other half is still to come."""
    return (text[:-1], text[-1:]) if "\ud800" <= text[-1:] <= "\udbff" else (text, "")


class Gathered:
    """A streamed reply's chunks, added up. The LangChain way to do that costs more than the rest of the loop."""

    def __init__(self, *, with_tools: bool) -> None:
        self._with_tools = with_tools  # a tool that nobody offered is no part of the reply
        self.pieces: list[str] = []
        self.usage: Any = None
        self._response_metadata: dict[str, Any] = {}
        self._additional_kwargs: dict[str, Any] = {}
        self._tool_calls: AIMessageChunk | None = None
        self._half = ""

    def add(self, chunk: Any) -> str:
        """Take a chunk; give back what it adds to the text, or to a tool call's arguments."""
        text, self._half = _whole_characters(self._half + text_of(chunk))
        text = clean_text(text)
        if text:
            self.pieces.append(text)
        if not isinstance(chunk, AIMessage):
            return text
        chunk = as_chunk(chunk)
        if chunk.usage_metadata:  # some providers report the prompt first, the reply last
            self.usage = add_usage(self.usage, chunk.usage_metadata)
        if chunk.response_metadata:
            self._response_metadata.update(chunk.response_metadata)
        if chunk.additional_kwargs:
            self._additional_kwargs.update(chunk.additional_kwargs)
        if self._with_tools and chunk.tool_call_chunks and not text:
            self._tool_calls = chunk if self._tool_calls is None else self._tool_calls + chunk
            return "".join(clean_text(call["args"] or "") for call in chunk.tool_call_chunks)
        return text

    @property
    def has_begun(self) -> bool:
        """Whether anything of the reply was passed on."""
        return bool(self.pieces) or self._tool_calls is not None

    def message(self) -> AIMessage:
        """The whole reply."""
        return AIMessage(
            content="".join(self.pieces),
            tool_calls=[] if self._tool_calls is None else self._tool_calls.tool_calls,
            response_metadata=self._response_metadata,
            additional_kwargs=self._additional_kwargs,
            usage_metadata=self.usage,
        )
