"""OpenAI's chat completions on the wire: what a client asks, and a reply as one JSON body or as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sot_graph.testing.cache_meter import PromptBill

TOKEN_CHARACTERS = 4
"""Characters of a token, whatever the text is."""
_SECRET_HEADERS = frozenset({"authorization", "api-key", "x-api-key"})

compact_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
"""Writes JSON as a model does."""
_wire_json = json.JSONEncoder(separators=(",", ":")).encode
"""Writes JSON as it is sent: in ASCII, so that a lone surrogate in a text does no harm."""


def split_tokens(text: str) -> list[str]:
    """Split a text into its tokens; joined together they are exactly the text.

    Four characters are a token, whatever the text is: prose, code or JSON. A rule that favours no form of reply favours
    nobody who is measured by it.
    """
    return [text[i : i + TOKEN_CHARACTERS] for i in range(0, len(text), TOKEN_CHARACTERS)]


def count_tokens(text: str) -> int:
    """How many tokens `split_tokens` makes of a text."""
    return -(-len(text) // TOKEN_CHARACTERS)


def cut_at_stop(text: str, stop: Sequence[str] | None) -> str:
    """Cut a text before the first of the stop strings in it, as a model does."""
    ends = [text.find(string) for string in stop or () if string]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


@dataclass(frozen=True)
class ChatRequest:
    """A chat completion request, as its JSON body and headers say it.

    Args:
        raw: The whole body.
        headers: Lower-case names; those that hold a key are redacted.
        api_key: The key that the client sent, or `""`. Not in the `repr`.

    Examples:
        >>> ChatRequest({"messages": [{"role": "user", "content": "Why?"}]}).last_user
        'Why?'
    """

    raw: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)

    @classmethod
    def received(cls, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """A request as it came over HTTP. A body that is no JSON object has no messages, for which it is rejected."""
        try:
            raw = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            raw = {}
        lowered = {name.lower(): value for name, value in headers.items()}
        key = lowered.get("authorization", "").removeprefix("Bearer").strip()
        shown = {name: "<redacted>" if name in _SECRET_HEADERS else value for name, value in lowered.items()}
        return cls(raw if isinstance(raw, dict) else {}, shown, key)

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """The messages, oldest first."""
        return [message for message in self.raw.get("messages") or () if isinstance(message, dict)]

    @property
    def model(self) -> str:
        """The model's name, or `""`."""
        return str(self.raw.get("model") or "")

    @property
    def stream(self) -> bool:
        """Whether the answer is to be streamed."""
        return bool(self.raw.get("stream"))

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools that the model may call."""
        return list(self.raw.get("tools") or ())

    @property
    def response_format(self) -> dict[str, Any]:
        """Such as `{"type": "json_schema", ...}`; empty: plain text."""
        return self.raw.get("response_format") or {}

    @property
    def max_tokens(self) -> int | None:
        """How many tokens the answer may have; `None`: as many as it takes."""
        limit: int | None = self.raw.get("max_completion_tokens", self.raw.get("max_tokens"))
        return limit

    @cached_property
    def system(self) -> str:
        """The text of all system and developer messages."""
        return "\n\n".join(_content_text(one) for one in self.messages if one.get("role") in ("system", "developer"))

    @cached_property
    def last_user(self) -> str:
        """The text of the last user message, or `""`."""
        users = (message for message in reversed(self.messages) if message.get("role") == "user")
        return _content_text(next(users, {}))

    @cached_property
    def text(self) -> str:
        """The text of all messages."""
        return "\n\n".join(filter(None, map(_content_text, self.messages)))

    @cached_property
    def prompt_tokens(self) -> int:
        """The tokens of all messages by the token rule, each message for itself."""
        return sum(count_tokens(_content_text(message)) for message in self.messages)


def _content_text(message: Mapping[str, Any]) -> str:
    """A message's text: its content, or the text parts of it."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(str(part.get("text") or "") for part in content)


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
        return self.arguments if isinstance(self.arguments, str) else compact_json(self.arguments)


@dataclass(frozen=True)
class Reply:
    """An answer, before the endpoint cuts it into tokens.

    Args:
        text: The content.
        tool_calls: Calls of tools, after the content.
        finish_reason: `None`: `"tool_calls"` where there are any, else `"stop"`; a cut makes it `"length"`.
        refusal: What a model says that won't answer.
        cached_tokens: Those of the prompt's tokens that are reported as read from a cache.
        usage: Sent as it is, in place of the computed usage.

    Examples:
        >>> Reply("Forty-two.", cached_tokens=3).text
        'Forty-two.'
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    finish_reason: str | None = None
    refusal: str | None = None
    cached_tokens: int = 0
    usage: Mapping[str, Any] | None = None


class Generation:
    """A reply as a model writes it, token by token: it ends at the request's stop strings and limits of tokens."""

    def __init__(self, reply: Reply | str, request: ChatRequest, *, number: int, limit: int | None = None) -> None:
        reply = Reply(reply) if isinstance(reply, str) else reply
        self._includes_usage = bool((request.raw.get("stream_options") or {}).get("include_usage"))
        self._calls = [(call.name, call.id or f"call_{number}_{i}") for i, call in enumerate(reply.tool_calls)]
        stop = request.raw.get("stop") or ()
        text = cut_at_stop(reply.text, [stop] if isinstance(stop, str) else stop)
        # Each token stands with where it belongs: the content, the refusal, or a tool call, by its index.
        lanes: list[tuple[int | str, str]] = [("content", text), ("refusal", reply.refusal or "")]
        lanes += [(index, call.arguments_json) for index, call in enumerate(reply.tool_calls)]
        tokens = [(lane, token) for lane, whole in lanes for token in split_tokens(whole)]
        most = min((count for count in (request.max_tokens, limit) if count is not None), default=len(tokens))
        self.tokens = tokens[:most]
        self._finish_reason = reply.finish_reason or ("tool_calls" if self._calls else "stop")
        if most < len(tokens):
            self._finish_reason = "length"
        model = request.model or "simulated"
        self._head = {"id": f"chatcmpl-sim-{number}", "created": int(time.time()), "model": model}
        self._event_head = b"data: " + _wire_json({**self._head, "object": "chat.completion.chunk"})[:-1].encode()
        self._has_own_usage = bool(reply.usage)
        self._usage = reply.usage or {
            "prompt_tokens": request.prompt_tokens,
            "completion_tokens": len(self.tokens),
            "total_tokens": request.prompt_tokens + len(self.tokens),
            "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }

    def count_prompt(self, prompt: PromptBill) -> None:
        """Count the prompt as a provider with a cache does, where the reply doesn't say what is counted."""
        if self._has_own_usage:
            return
        details = {"cached_tokens": prompt.cached, "cache_write_tokens": prompt.written}
        counted = {"prompt_tokens": prompt.tokens, "total_tokens": prompt.tokens + len(self.tokens)}
        self._usage = {**self._usage, **counted, "prompt_tokens_details": details}

    def body(self) -> bytes:
        """The whole answer as JSON."""
        texts: dict[int | str, str] = {}
        for lane, token in self.tokens:
            texts[lane] = texts.get(lane, "") + token
        refusal, content = texts.get("refusal"), texts.get("content", "")
        has_none = not content and (refusal or self._calls)
        message: dict[str, Any] = {"role": "assistant", "content": None if has_none else content, "refusal": refusal}
        if self._calls:
            message["tool_calls"] = [
                {"id": id_, "type": "function", "function": {"name": name, "arguments": texts.get(index, "")}}
                for index, (name, id_) in enumerate(self._calls)
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason}
        whole = {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._usage}
        return _wire_json(whole).encode()

    def events(self) -> Iterator[bytes]:
        """The answer as server-sent events, one a token, and before them one that says who speaks."""
        yield self._event({"role": "assistant", "content": "", "refusal": None})
        begun: set[int] = set()
        for lane, token in self.tokens:
            if isinstance(lane, str):
                yield self._event({lane: token})
                continue
            call: dict[str, Any] = {"index": lane, "function": {"arguments": token}}
            if lane not in begun:
                begun.add(lane)
                name, id_ = self._calls[lane]
                call |= {"id": id_, "type": "function", "function": {"name": name, "arguments": token}}
            yield self._event({"tool_calls": [call]})

    def closing_events(self) -> bytes:
        """Why the answer ended, what it cost if that was asked for, and the end of the stream."""
        events = self._event({}, self._finish_reason)
        if self._includes_usage:
            events += self._event_head + b',"choices":[],"usage":' + _wire_json(self._usage).encode() + b"}\n\n"
        return events + b"data: [DONE]\n\n"

    def _event(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._event_head + b',"choices":[' + _wire_json(choice).encode() + b"]}\n\n"


def error_body(message: str, *, status: int, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI sends it."""
    kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind, code = "rate_limit_error", code or "rate_limit_exceeded"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
