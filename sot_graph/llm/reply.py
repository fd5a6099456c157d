"""What a model answered: its text without thoughts, how it ended, what it cost, whichever provider it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, ToolCall, ToolCallChunk
from langchain_core.messages.tool import invalid_tool_call, tool_call
from openai import LengthFinishReasonError
from pydantic_core import from_json

from sot_graph.llm.thoughts import MAY_HOLD_THOUGHT, ThoughtFilter, ends_unopened_thought
from sot_graph.observability.run_trace import usage_of_failure
from sot_graph.prompts.messages import clean_text
from sot_graph.usage import merged_usage

Ending: TypeAlias = Literal["stop", "length", "filtered", "refused", "broken"]
"""How a reply ends: as it should, at a token limit, at a provider's filter, by the model's refusal, or too soon."""
WHY_WITHHELD: Mapping[Ending | None, str] = {
    "filtered": "the provider's filter withheld it",
    "refused": "the model declined",
}
"""Why there is no reply, by its ending. After one of these endings, asking again would not help."""
WHOLE: frozenset[Ending | None] = frozenset({"stop", None})
"""Of any other ending, what stands last in the reply may be half of something. `None`: the provider does not say."""

_REASON_KEYS = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_ENDINGS: Mapping[Ending, tuple[str, ...]] = {
    "length": (
        *("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"),
        *("max_token", "token_limit"),
    ),
    "filtered": (
        *("content_filter", "content_filtered", "guardrail_intervened", "safety", "recitation", "blocklist", "spii"),
        *("prohibited_content", "image_safety", "model_armor", "error_toxic"),
    ),
    "refused": ("refusal",),
    "broken": (
        *("error", "failed", "cancelled", "insufficient_system_resource", "network_error", "malformed_function_call"),
        *("malformed_response", "pause_turn"),
    ),
}
_ENDING_OF: Mapping[str, Ending] = {reason: ending for ending, reasons in _ENDINGS.items() for reason in reasons}


class UnfinishedReplyError(ConnectionError):
    """A reply that ended before its end, though the connection did not break: the same call may well succeed."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(f"the model's reply ended too soon{f' ({reason})' if reason else ''}")


class WithheldReplyError(Exception):
    """A reply that a filter or the model itself has ended: asking again would not help."""

    def __init__(self, ending: Ending | None) -> None:
        super().__init__(
            "the provider's filter ended the reply" if ending == "filtered" else "the model declined to answer"
        )


def ending_of(message: AIMessage, *, in_thought: bool = False) -> tuple[Ending | None, str]:
    """How a reply ended, and the provider's own word for it; `None`: the provider does not say.

    A reply that ends within a thought has no answer: tokens ran out, though not every server says so.
    """
    metadata, extra = message.response_metadata, message.additional_kwargs
    details = metadata.get("incomplete_details")
    feedback = metadata.get("prompt_feedback")
    reasons = [
        details.get("reason") if isinstance(details, Mapping) else None,
        *(holder.get(key) for holder in (metadata, extra) for key in _REASON_KEYS),
        "content_filter" if isinstance(feedback, Mapping) and feedback.get("block_reason") else None,
        metadata.get("status"),  # OpenAI's Responses
    ]
    reason = next((each for each in reasons if isinstance(each, str) and each), "")
    if extra.get("refusal") or (isinstance(message.content, list) and _refusal_in(message.content)):
        return "refused", reason
    ending = _ENDING_OF.get(reason.casefold(), "stop") if reason else None
    return ("length" if in_thought and ending in {"stop", None} else ending), reason


def _refusal_in(content: list[Any]) -> str:
    """What a block of a content says where the model declines, as OpenAI's Responses have it; empty: there is none."""
    for block in content:
        inner = block.get("value", block) if isinstance(block, Mapping) else None  # wrapped by `output_version="v1"`
        if isinstance(inner, Mapping) and inner.get("type") == "refusal":
            return str(inner.get("refusal") or "it declined")
    return ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered."""

    text: str
    """Without thoughts."""
    message: AIMessage
    ending: Ending | None
    """`None`: the provider does not say."""
    reason: str
    """The provider's own word for that; empty: it says none."""
    had_unopened_thought: bool = False
    """Whether there was a thought without an opening tag, be it taken out in time or not."""

    @classmethod
    def of(cls, message: AIMessage) -> Reply:
        """A whole message as a reply."""
        text = clean_text(text_of(message))
        if MAY_HOLD_THOUGHT.search(text) is None:
            return cls(text, message, *ending_of(message))
        thoughts = ThoughtFilter(unopened=True)
        text = thoughts.feed(text) + thoughts.finish()
        return cls(text, message, *ending_of(message, in_thought=thoughts.is_open), thoughts.found_unopened)


def text_of(chunk: Any) -> str:
    """The text of a message, of a streamed piece, or of a chain that ends in plain strings."""
    content = chunk if isinstance(chunk, str) else getattr(chunk, "content", None)
    return content if isinstance(content, str) else str(getattr(chunk, "text", chunk))


def as_chunk(message: AIMessage) -> AIMessageChunk:
    """A streamed message: that of a model which doesn't stream comes whole."""
    if isinstance(message, AIMessageChunk):
        return message
    return AIMessageChunk(**message.model_dump(exclude={"type"}), chunk_position="last")


def reply_held_by(error: Exception) -> AIMessage:
    """The reply to a schema that the OpenAI client raises in place of returning it: it has no whole JSON."""
    if not isinstance(error, LengthFinishReasonError):
        return AIMessage("", response_metadata={"finish_reason": "content_filter"})
    text = error.completion.choices[0].message.content if error.completion.choices else ""
    metadata = {"finish_reason": "length", "model_name": error.completion.model}
    return AIMessage(text or "", response_metadata=metadata, usage_metadata=usage_of_failure(error))


def arguments_of(text: str) -> Any:
    """What there is of a call's arguments, be they cut off or not; `None`: they are no JSON."""
    with suppress(ValueError, TypeError):  # half a surrogate pair is no text
        return from_json(text, allow_partial="trailing-strings")
    return None


class _StreamedToolCall:
    """A tool's call as its pieces come. LangChain's way to add them up takes time by the square of their number."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._name: str | None = None
        self._pieces: list[str] = []

    def add(self, piece: ToolCallChunk) -> str:
        """Take the next piece; give back what it adds to the arguments."""
        self._id, self._name = self._id or piece["id"], self._name or piece["name"]
        text = clean_text(piece["args"] or "")
        self._pieces.append(text)
        return text

    def whole(self) -> ToolCall | InvalidToolCall:
        """The call, as far as its arguments have come."""
        text = "".join(self._pieces)
        arguments = arguments_of(text) if text else {}
        if isinstance(arguments, dict):
            return tool_call(name=self._name or "", args=arguments, id=self._id)
        return invalid_tool_call(name=self._name, args=text, id=self._id, error=None)


class StreamedReply:
    """A streamed reply's chunks, added up. The LangChain way to do that costs more than the rest of the loop.

    Args:
        thoughts: Takes thoughts out.
        with_tools: Whether tools were offered. A call of another is no part of the reply, and text before a call is no
            part of what was asked for.
        most_chars: Characters, thoughts and a call's arguments among them, after which it is full.
    """

    def __init__(self, thoughts: ThoughtFilter, *, with_tools: bool, most_chars: int) -> None:
        self.usage: Any = None
        self.chars = 0
        """Characters that have come, whatever they are."""
        self.chunks = 0
        self.is_full = False
        """Whether no more of it is taken. Each chunk counts as one character at least: LangChain keeps empty ones."""
        self._most_chars = most_chars
        self.thoughts = thoughts
        self._with_tools = with_tools
        self._pieces: list[str] = []
        self._waiting: list[str] = []
        """Text, where tools were offered: it is part of the reply only if no tool's call comes."""
        self.response_metadata: dict[str, Any] = {}
        self._additional_kwargs: dict[str, Any] = {}
        self._calls: dict[object, _StreamedToolCall] = {}
        self._half = ""
        """The first half of a surrogate pair whose other half is still to come."""

    def add(self, chunk: Any) -> str:
        """Take a chunk; give back what it adds to the text, or to a tool call's arguments."""
        new = text_of(chunk)
        self.chunks += 1
        self.chars += len(new)
        self.is_full = max(self.chars, self.chunks) > self._most_chars
        if self.is_full:  # what is too much is cut off
            self.response_metadata["finish_reason"] = "length"
            new = new[: max(0, len(new) - (self.chars - self._most_chars))]
        text, self._half = self._half + new, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        text = self.thoughts.feed(clean_text(text)) if text else ""
        calls = ""
        if isinstance(chunk, AIMessage):
            chunk = as_chunk(chunk)
            self.add_metadata(chunk)
            if self._with_tools and chunk.tool_call_chunks:
                for call in chunk.tool_call_chunks:
                    which = call.get("index")
                    known = self._calls.setdefault(len(self._calls) if which is None else which, _StreamedToolCall())
                    calls += known.add(call)
                self.chars += len(calls)
                self.is_full |= self.chars > self._most_chars
        if self._with_tools:
            self._waiting.append(text)
            return calls
        if text:
            self._pieces.append(text)
        return text

    def finish(self) -> str:
        """All chunks have come: the rest of the text."""
        rest = "".join(self._waiting) + self.thoughts.finish()
        self._waiting.clear()
        if rest:
            self._pieces.append(rest)
        return "" if self._calls else rest

    def add_metadata(self, message: AIMessage) -> None:
        """Take what stands beside a chunk's text."""
        if isinstance(message.content, list) and (refusal := _refusal_in(message.content)):
            self._additional_kwargs["refusal"] = refusal
        if message.usage_metadata:
            self.usage = merged_usage(self.usage, message.usage_metadata)
        for known, new in (
            (self.response_metadata, message.response_metadata),
            (self._additional_kwargs, message.additional_kwargs),
        ):
            if new:
                known.update({key: value for key, value in new.items() if value is not None})

    @property
    def text(self) -> str:
        """What there is of the text."""
        return "".join(self._pieces)

    @property
    def has_begun(self) -> bool:
        """Whether anything of the reply was passed on."""
        return bool(self._pieces) or bool(self._calls)

    def reply(self) -> Reply:
        """The whole reply."""
        calls = [call.whole() for call in self._calls.values()]
        message = AIMessage(
            content=self.text,
            tool_calls=[call for call in calls if call["type"] == "tool_call"],
            invalid_tool_calls=[call for call in calls if call["type"] == "invalid_tool_call"],
            response_metadata=self.response_metadata,
            additional_kwargs=self._additional_kwargs,
            usage_metadata=self.usage,
        )
        had_unopened_thought = self.thoughts.found_unopened or ends_unopened_thought(self.text)
        ending = ending_of(message, in_thought=self.thoughts.is_open)
        return Reply(self.text, message, *ending, had_unopened_thought)
