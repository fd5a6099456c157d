"""Anthropic's messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sot_graph.testing import ChatRequest
from tests.support.wires.wire import Answer, Wire, chat_request, event

_REASONS = {"stop": "end_turn", "length": "max_tokens", "refused": "refusal"}


class AnthropicWire(Wire):
    """`/v1/messages`."""

    def read(self, path: str, body: Mapping[str, Any]) -> ChatRequest:
        messages = [("system", body.get("system")), *((one["role"], one["content"]) for one in body["messages"])]
        tools = [(tool["name"], tool["input_schema"]) for tool in body.get("tools") or ()]
        return chat_request(messages, stream=bool(body.get("stream")), tools=tools)

    def _blocks(self, answer: Answer) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if answer.thought:
            blocks.append({"type": "thinking", "thinking": answer.thought, "signature": "s"})
        if answer.text:
            blocks.append({"type": "text", "text": answer.text})
        if answer.call:
            blocks.append({"type": "tool_use", "id": "t1", "name": answer.call[0], "input": answer.call[1]})
        return blocks

    def _message(self, content: list[Any], reason: str | None, output_tokens: int) -> dict[str, Any]:
        usage = {"input_tokens": self.input_tokens, "output_tokens": output_tokens}
        head = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
        return {**head, "content": content, "stop_reason": reason, "usage": usage}

    def _reason(self, answer: Answer) -> str:
        return "tool_use" if answer.call else _REASONS[answer.ending]

    def whole(self, answer: Answer) -> Any:
        return self._message(self._blocks(answer), self._reason(answer), self.output_tokens)

    def stream(self, answer: Answer) -> Iterable[bytes]:
        def told(kind: str, **data: Any) -> bytes:
            return event({"type": kind, **data}, kind)

        yield told("message_start", message=self._message([], None, 1))
        for index, block in enumerate(self._blocks(answer)):
            kind = block["type"]
            empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}[
                kind
            ]
            yield told("content_block_start", index=index, content_block={**block, **empty})
            deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": piece} for piece in answer.pieces]
            if kind == "thinking":
                deltas = [{"type": "thinking_delta", "thinking": answer.thought}]
            elif kind == "tool_use":
                deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
            for delta in deltas:
                yield told("content_block_delta", index=index, delta=delta)
            yield told("content_block_stop", index=index)
        delta = {"stop_reason": self._reason(answer), "stop_sequence": None}
        usage = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        yield told("message_delta", delta=delta, usage=usage) + told("message_stop")

    def busy(self) -> tuple[int, Any]:
        return 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

    def refused_key(self) -> tuple[int, Any]:
        return 401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}

    def busy_in_stream(self) -> bytes | None:
        return event(self.busy()[1], "error")
