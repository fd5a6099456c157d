"""How a prompt's messages are handed to a model: as they are, or in the form that costs it least."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_openai import AzureChatOpenAI, ChatOpenAI

__all__ = ["Shape", "shape_for"]

Shape: TypeAlias = Callable[[Sequence[BaseMessage]], list[BaseMessage]]

_LONG_CHARS = 1000


def shape_for(model: Runnable[Any, Any]) -> Shape:
    """What to make of every prompt before this model gets it."""
    while isinstance(model, RunnableBinding):
        model = model.bound
    return _for_openai if type(model) in {ChatOpenAI, AzureChatOpenAI} else list


def _for_openai(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Long replies under their role's name: the request is the same to the byte.

    LangChain looks through an `AIMessage` for audio, and through its text character by character: for a skeleton of a
    thousand points, which every point's prompt holds, that is as much work as all the rest of the call.
    """
    return [
        ChatMessage(role="assistant", content=message.content) if _is_long_text(message) else message
        for message in messages
    ]


def _is_long_text(message: BaseMessage) -> bool:
    return (
        type(message) is AIMessage
        and isinstance(message.content, str)
        and len(message.content) > _LONG_CHARS
        and not (message.tool_calls or message.invalid_tool_calls or message.additional_kwargs or message.name)
    )
