"""`Reply`: what a simulated model answers, before the endpoint cuts it into tokens."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sot_graph.testing.requests import ChatRequest

__all__ = ["Reply", "Responder", "ToolCall"]


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool.

    Args:
        name: The function's name.
        arguments: JSON text, or a mapping that becomes compact JSON.
        id: The call's id; empty: the endpoint makes one.
    """

    name: str
    arguments: str | Mapping[str, Any] = "{}"
    id: str = ""

    @property
    def arguments_json(self) -> str:
        """The arguments as the client gets them."""
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps(self.arguments, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Reply:
    """An answer.

    Args:
        text: The content.
        tool_calls: Calls of tools, after the content.
        finish_reason: `None`: `"tool_calls"` where there are any, else `"stop"`; a cut makes it `"length"`.
        refusal: What a model says that won't answer.
        cached_tokens: Those of the prompt's tokens that are reported as read from a cache.
        usage: Sent as it is, in place of the computed usage.

    Example:
        >>> Reply("Forty-two.", cached_tokens=3).text
        'Forty-two.'
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    finish_reason: str | None = None
    refusal: str | None = None
    cached_tokens: int = 0
    usage: Mapping[str, Any] | None = None


Responder: TypeAlias = Callable[[ChatRequest], Reply | str | Awaitable[Reply | str]]
"""Answers a request. Runs in the endpoint's event loop: it may await, but must not block."""
