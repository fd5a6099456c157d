"""The wire format: a reply as tokens, as one JSON body, and as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sot_graph.testing.replies import Reply, ToolCall
from sot_graph.testing.requests import ChatRequest
from sot_graph.testing.tokens import cut_at_stop, split_tokens

__all__ = ["DONE", "Chunks", "Generation", "error_body", "generate"]

DONE = b"data: [DONE]\n\n"

Lane: TypeAlias = int | str
"""Where a token belongs: `"content"`, `"refusal"`, or the index of a tool call."""


@dataclass(frozen=True)
class Generation:
    """A reply as a model writes it: token by token, with what the end of it says."""

    id: str
    created: int
    model: str
    tokens: Sequence[tuple[Lane, str]]
    tool_calls: Sequence[ToolCall]
    finish_reason: str
    usage: Mapping[str, Any]
    echo: str = ""
    """A prefill that a body which isn't streamed repeats."""

    def lane(self, lane: Lane) -> str:
        """The text of one lane."""
        return "".join(text for where, text in self.tokens if where == lane)

    def body(self) -> dict[str, Any]:
        """The whole answer."""
        refusal = self.lane("refusal")
        content = self.echo + self.lane("content")
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if (refusal or self.tool_calls) and not content else content,
            "refusal": refusal or None,
        }
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": self.lane(index)},
                }
                for index, call in enumerate(self.tool_calls)
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
            "usage": dict(self.usage),
        }


def generate(
    reply: Reply | str,
    request: ChatRequest,
    *,
    number: int,
    created: int,
    echo_prefill: bool = False,
    limit: int | None = None,
) -> Generation:
    """Turn a reply into what a model would write: stop strings, the limit of tokens, and a prefill respected.

    Args:
        reply: What is to be answered.
        request: What was asked.
        number: The request's number, for the ids.
        created: Seconds since 1970.
        echo_prefill: Go on after a trailing assistant message, and repeat it where the answer isn't streamed.
        limit: Tokens after which the answer is cut, beside the request's own limit.
    """
    reply = Reply(reply) if isinstance(reply, str) else reply
    echo = request.prefill if echo_prefill else ""
    text = cut_at_stop(_after(echo, reply.text), request.stop)
    calls = [
        ToolCall(call.name, call.arguments_json, call.id or f"call_{number}_{index}")
        for index, call in enumerate(reply.tool_calls)
    ]
    tokens: list[tuple[Lane, str]] = [("content", token) for token in split_tokens(text)]
    tokens += [("refusal", token) for token in split_tokens(reply.refusal or "")]
    for index, call in enumerate(calls):
        tokens += [(index, token) for token in split_tokens(call.arguments_json)]
    finish_reason = reply.finish_reason or ("tool_calls" if calls else "stop")
    for most in (request.max_tokens, limit):
        if most is not None and len(tokens) > most:
            tokens, finish_reason = tokens[:most], "length"
    return Generation(
        id=f"chatcmpl-sim-{number}",
        created=created,
        model=request.model or "simulated",
        tokens=tokens,
        tool_calls=calls,
        finish_reason=finish_reason,
        usage=reply.usage or _usage(request.prompt_tokens, len(tokens), reply.cached_tokens),
        echo=echo,
    )


def _after(prefill: str, text: str) -> str:
    """How a text goes on after a prefill: with the rest of itself, or as a new word."""
    if text.startswith(prefill):
        return text.removeprefix(prefill)
    return text if text[:1].isspace() or prefill[-1:].isspace() else f" {text}"


def _usage(prompt: int, completion: int, cached: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


@dataclass
class Chunks:
    """Encodes the chunks of one stream. What is the same in all of them is encoded once."""

    generation: Generation
    include_usage: bool
    _opened: set[Lane] = field(default_factory=set)
    _prefixes: dict[Lane, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        it = self.generation
        head = {"id": it.id, "object": "chat.completion.chunk", "created": it.created, "model": it.model}
        self._head = b"data: " + json.dumps(head, separators=(",", ":")).encode()[:-1]
        self._tail = (b',"usage":null' if self.include_usage else b"") + b"}\n\n"

    def opening(self) -> bytes:
        """The first chunk: who speaks, and no token yet."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def token(self, lane: Lane, text: str) -> bytes:
        """One token."""
        prefix = self._prefixes.get(lane)
        if prefix is None:
            prefix = self._prefixes[lane] = self._head + b',"choices":[{"index":0,"delta":' + _before_text(lane)
        closing = b"}}]}" if isinstance(lane, int) else b"}"
        closing += b',"logprobs":null,"finish_reason":null}]'
        event = prefix + json.dumps(text).encode() + closing + self._tail
        if isinstance(lane, int) and lane not in self._opened:
            self._opened.add(lane)
            return self._tool_opening(lane) + event
        return event

    def closing(self) -> bytes:
        """The chunks that say why the answer ended, and what it cost if that was asked for."""
        events = self._chunk({}, self.generation.finish_reason)
        if self.include_usage:
            usage = json.dumps(self.generation.usage, separators=(",", ":")).encode()
            events += self._head + b',"choices":[],"usage":' + usage + b"}\n\n"
        return events

    def _tool_opening(self, index: int) -> bytes:
        call = self.generation.tool_calls[index]
        function = {"name": call.name, "arguments": ""}
        entry = {"index": index, "id": call.id, "type": "function", "function": function}
        return self._chunk({"tool_calls": [entry]})

    def _chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._head + b',"choices":' + json.dumps([choice], separators=(",", ":")).encode() + self._tail


def _before_text(lane: Lane) -> bytes:
    if isinstance(lane, int):
        return b'{"tool_calls":[{"index":%d,"function":{"arguments":' % lane
    return b'{"%s":' % lane.encode()


def error_body(message: str, *, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI sends it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
