"""Reading what a caller gave: the question, wherever it stands, and the conversation before it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from sot_graph.errors import SotConfigError
from sot_graph.prompts.delimiters import escape_delimiters
from sot_graph.prompts.messages import clean_text
from sot_graph.types import ChatTurn

if TYPE_CHECKING:
    from sot_graph.options import SotOptions
    from sot_graph.state import SotState

__all__ = ["Asked", "identity_of", "last_human", "length_of", "other_blocks", "read_question", "turns_of"]

logger = logging.getLogger("sot_graph")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, and where it stands."""

    question: str
    history: list[ChatTurn]
    answer_id: str
    """The id of the answer's message: the same for the same question after the same history."""
    question_id: str
    """The id of a human message to put before the answer; empty if the history ends with the question."""


def read_question(state: SotState, options: SotOptions, place: str = "") -> Asked:
    """The question and its history from `question`, `messages`, or both.

    What tools have found since the question was asked belongs to the history, too: that is what an agent answers from.

    Args:
        state: The graph's input.
        options: For the longest question.
        place: The node of the parent that the graph is. Two that answer the same question give two messages.

    Raises:
        SotConfigError: There is no question, it is blank or no string, or it is too long.
    """
    messages = list(state.get("messages") or [])
    given = state.get("question")
    position = last_human(messages)
    if given is not None:
        question = _checked("question", given)
        at_end = position is None or clean_text(_text(messages[position])) != clean_text(question)
        before = messages if at_end or position is None else messages[:position]
    else:
        if position is None:
            message = (
                'There is no question: pass {"question": "..."}, or messages with a human message among them '
                f"({len(messages)} messages, none of them human)."
            )
            raise SotConfigError(message)
        question = _checked("the last human message", _text(messages[position]))
        if not isinstance(messages[position].content, str):
            _warn_of_lost_blocks(messages[position])
        at_end, before = False, messages[:position]
    if position is not None and not at_end:
        before = [*before, *_tool_turns(messages[position + 1 :])]
    history = turns_of(before)
    _check_length(question, history, options)
    identity = identity_of(question, history, place)
    return Asked(
        question=clean_text(question),
        history=history,
        answer_id=f"sot-answer-{identity}",
        question_id=f"sot-question-{identity}" if at_end else "",
    )


def identity_of(question: str, history: Sequence[ChatTurn], place: str = "") -> str:
    """The same for the same question after the same history, at the same place."""
    said = [question, [[turn["role"], str(turn["content"])] for turn in history], *([place] if place else [])]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def turns_of(messages: Sequence[BaseMessage]) -> list[ChatTurn]:
    """A conversation as the prompts show it."""
    return [turn for message in messages if (turn := _turn(message)) is not None]


def length_of(question: str, history: Sequence[ChatTurn]) -> int:
    """Characters of a question and its history. What isn't text, such as a picture, doesn't count."""
    return len(question) + sum(map(_characters, (turn["content"] for turn in history)))


def _characters(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    return sum(len(block if isinstance(block, str) else str(block.get("text", ""))) for block in content)


def last_human(messages: Sequence[BaseMessage]) -> int | None:
    """Where the last thing stands that a person has said."""
    for position in range(len(messages) - 1, -1, -1):
        if isinstance(messages[position], HumanMessage):
            return position
    return None


def _tool_turns(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Calls of tools and what came of them. Not an answer to the question, which an earlier run may have left there."""
    return [
        message
        for message in messages
        if isinstance(message, ToolMessage) or (isinstance(message, AIMessage) and message.tool_calls)
    ]


def _text(message: BaseMessage) -> str:
    return message.content if isinstance(message.content, str) else str(message.text)


def _checked(what: str, question: Any) -> str:
    if not isinstance(question, str):
        message = f"{what} is {type(question).__name__}; it must be a string."
        raise SotConfigError(message)
    if not clean_text(question).strip():
        message = f"{what} is empty: there is nothing to answer."
        raise SotConfigError(message)
    return question


def _check_length(question: str, history: Sequence[ChatTurn], options: SotOptions) -> None:
    length = length_of(question, history)
    if length > options.max_question_chars:
        message = (
            f"The question and its history have {length:,} characters; options.max_question_chars allows "
            f"{options.max_question_chars:,}. Shorten them, or raise the option."
        )
        raise SotConfigError(message)


def _warn_of_lost_blocks(message: BaseMessage) -> None:
    kinds = {block.get("type") for block in other_blocks(message)}
    if kinds:
        logger.warning("Only the text of the last human message is used; left out: %s.", ", ".join(map(str, kinds)))


def _turn(message: BaseMessage) -> ChatTurn | None:
    """An earlier message as the prompts show it; `None` for one that says nothing, such as a bare tool call."""
    if isinstance(message, ToolMessage):
        # Without the tools bound, many providers refuse tool messages: their results go in as text.
        text = f"<tool_result>\n{_as_data(_text(message))}\n</tool_result>"
        others = other_blocks(message)
        return ChatTurn(role="user", content=[{"type": "text", "text": text}, *others] if others else text)
    content: Any
    if isinstance(message, AIMessage):
        content = _as_data(_text(message))  # blocks such as tool calls or reasoning stay behind
        role = "assistant"
    elif isinstance(message, SystemMessage):
        content = _instructions(message.content) or clean_text(_text(message))  # the application's own
        role = "system"
    else:
        content = _blocks_as_data(message.content)
        role = "user"
    return ChatTurn(role=role, content=content) if content else None


def other_blocks(message: BaseMessage) -> list[Any]:
    """What a message holds beside its text, such as pictures."""
    blocks = message.content if isinstance(message.content, list) else []
    return [block for block in blocks if isinstance(block, dict) and "text" not in block]


def _instructions(content: Any) -> Any:
    """A system message's blocks, where one of them marks what a provider is to keep in its cache; otherwise nothing."""
    blocks = content if isinstance(content, list) else []
    are_texts = all(isinstance(block, dict) and isinstance(block.get("text"), str) for block in blocks)
    if not are_texts or not any("cache_control" in block for block in blocks):
        return None
    return [{**block, "text": clean_text(block["text"])} for block in blocks]


def _as_data(text: str) -> str:
    """Text that any provider takes, and in which our delimiters neither open nor close."""
    return escape_delimiters(clean_text(text))


def _blocks_as_data(content: Any) -> Any:
    if isinstance(content, str):
        return _as_data(content)
    return [_block_as_data(block) for block in content]


def _block_as_data(block: Any) -> Any:
    if isinstance(block, dict) and isinstance(block.get("text"), str):
        return {**block, "text": _as_data(block["text"])}
    return _as_data(block) if isinstance(block, str) else block
