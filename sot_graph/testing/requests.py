"""`ChatRequest`: what a client asked of a simulated endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sot_graph.testing.tokens import count_tokens

__all__ = ["ChatRequest"]

_SECRET_HEADERS = frozenset({"authorization", "api-key", "x-api-key"})
_REDACTED = "<redacted>"


@dataclass(frozen=True)
class ChatRequest:
    """A chat completion request, as its JSON body and headers say it.

    Args:
        raw: The whole body.
        headers: Lower-case names; those that hold a key are redacted.
        api_key: The key that the client sent, or `""`. Not in the `repr`.

    Example:
        >>> ChatRequest({"messages": [{"role": "user", "content": "Why?"}]}).last_user
        'Why?'
    """

    raw: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)

    @classmethod
    def received(cls, raw: Mapping[str, Any], headers: Mapping[str, str]) -> ChatRequest:
        """A request as it came over HTTP: its key taken out of its headers."""
        lowered = {name.lower(): value for name, value in headers.items()}
        key = lowered.get("authorization", "").removeprefix("Bearer").strip()
        shown = {name: _REDACTED if name in _SECRET_HEADERS else value for name, value in lowered.items()}
        return cls(raw, shown, key)

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """The messages, oldest first."""
        messages = self.raw.get("messages")
        return [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []

    @property
    def model(self) -> str:
        """The model's name, or `""`."""
        return str(self.raw.get("model") or "")

    @property
    def stream(self) -> bool:
        """Whether the answer is to be streamed."""
        return bool(self.raw.get("stream"))

    @property
    def stream_options(self) -> dict[str, Any]:
        """Such as `{"include_usage": True}`."""
        return _as_dict(self.raw.get("stream_options"))

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools that the model may call."""
        tools = self.raw.get("tools")
        return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []

    @property
    def tool_choice(self) -> Any:
        """`None`, a word such as `"auto"`, or a dict that names a function."""
        return self.raw.get("tool_choice")

    @property
    def response_format(self) -> dict[str, Any]:
        """Such as `{"type": "json_schema", ...}`; empty: plain text."""
        return _as_dict(self.raw.get("response_format"))

    @property
    def max_tokens(self) -> int | None:
        """How many tokens the answer may have; `None`: as many as it takes."""
        limit = self.raw.get("max_completion_tokens", self.raw.get("max_tokens"))
        return limit if isinstance(limit, int) else None

    @property
    def stop(self) -> list[str]:
        """The strings that end the answer."""
        stop = self.raw.get("stop") or []
        return [stop] if isinstance(stop, str) else list(stop)

    @cached_property
    def system(self) -> str:
        """The text of all system and developer messages."""
        return self._texts(lambda role: role in ("system", "developer"))

    @cached_property
    def last_user(self) -> str:
        """The text of the last user message, or `""`."""
        users = [message for message in self.messages if message.get("role") == "user"]
        return _content_text(users[-1].get("content")) if users else ""

    @cached_property
    def text(self) -> str:
        """The text of all messages."""
        return self._texts(lambda _role: True)

    @cached_property
    def prefill(self) -> str:
        """The text of a trailing assistant message: the beginning of the answer, given by the client."""
        last = self.messages[-1] if self.messages else {}
        return _content_text(last.get("content")) if last.get("role") == "assistant" else ""

    @cached_property
    def prompt_tokens(self) -> int:
        """The tokens of all messages by the token rule, each message for itself."""
        return sum(count_tokens(_content_text(message.get("content"))) for message in self.messages)

    def _texts(self, wanted: Any) -> str:
        texts = (_content_text(message.get("content")) for message in self.messages if wanted(message.get("role")))
        return "\n\n".join(text for text in texts if text)


def _content_text(content: object) -> str:
    """A message's text: its content, or the text parts of it."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
