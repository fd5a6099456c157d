"""Ollama's own chat."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sot_graph.testing import ChatRequest
from tests.support.wires.wire import Answer, Wire, chat_request


class OllamaWire(Wire):
    """`/api/chat`: JSON, a line a piece."""

    content_type = "application/x-ndjson"

    def read(self, path: str, body: Mapping[str, Any]) -> ChatRequest:
        messages = [(one["role"], one.get("content")) for one in body["messages"]]
        tools = [(tool["function"]["name"], tool["function"]["parameters"]) for tool in body.get("tools") or ()]
        return chat_request(messages, stream=body.get("stream", True), tools=tools)

    def _line(self, message: dict[str, Any], **end: Any) -> dict[str, Any]:
        head = {"model": "m", "created_at": "2026-11-01T00:00:00Z", "done": bool(end)}
        return {**head, "message": {"role": "assistant", **message}, **end}

    def _end(self, answer: Answer) -> dict[str, Any]:
        reason = "length" if answer.ending == "length" else "stop"
        return {
            "done_reason": reason,
            "prompt_eval_count": self.input_tokens,
            "eval_count": self.output_tokens,
            "total_duration": 1,
        }

    def _calls(self, answer: Answer) -> dict[str, Any]:
        if not answer.call:
            return {}
        return {"tool_calls": [{"function": {"name": answer.call[0], "arguments": answer.call[1]}}]}

    def whole(self, answer: Answer) -> Any:
        message = {"content": answer.text, "thinking": answer.thought, **self._calls(answer)}
        return self._line(message, **self._end(answer))

    def stream(self, answer: Answer) -> Iterable[bytes]:
        lines = [self._line({"content": "", "thinking": answer.thought})] if answer.thought else []
        lines += [self._line({"content": piece}) for piece in answer.pieces]
        if answer.call:
            lines.append(self._line({"content": "", **self._calls(answer)}))
        for line in [*lines, self._line({"content": ""}, **self._end(answer))]:
            yield json.dumps(line).encode() + b"\n"

    def busy(self) -> tuple[int, Any]:
        return 503, {"error": "server busy, please try again"}

    def refused_key(self) -> tuple[int, Any]:
        return 401, {"error": "unauthorized"}
