"""OpenAI's chat completions, and what others have made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sot_graph.testing import ChatRequest
from tests.support.wires.wire import Answer, Wire, event


@dataclass(kw_only=True)
class OpenAICompatibleWire(Wire):
    """Chat completions.

    Attributes:
        thought_in: Where the thought stands: in the content in tags, in a field of its own, or in Mistral's blocks.
        error_code: The status of the error in a stream; 0: it is an event of Groq's.
        refusal: The provider's word for an answer that a filter has ended.
    """

    thought_in: Literal["tags", "reasoning_content", "reasoning", "blocks"] = "tags"
    error_code: int = 429
    refusal: str = "content_filter"

    def read(self, path: str, body: Mapping[str, Any]) -> ChatRequest:
        return ChatRequest(body)

    def _message(self, answer: Answer, text: str | None, *, with_thought: bool) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if not (with_thought and answer.thought):
            return message
        if self.thought_in == "tags":
            message["content"] = f"<think>{answer.thought}</think>\n{text or ''}"
        elif self.thought_in == "blocks":
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": answer.thought}]}
            message["content"] = [thought, *([{"type": "text", "text": text}] if text else [])]
        else:
            message[self.thought_in] = answer.thought
        return message

    def _call(self, answer: Answer) -> dict[str, Any]:
        if answer.call is None:
            return {}
        name, arguments = answer.call
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"tool_calls": [{"index": 0, "id": "call00001", "type": "function", "function": function}]}

    def _body(self, kind: str, choices: list[Any], *, usage: bool = False) -> dict[str, Any]:
        body: dict[str, Any] = {"id": "c1", "object": kind, "created": 1, "model": "m", "choices": choices}
        body["system_fingerprint"] = None  # OpenRouter's client wants it
        if usage:
            counts = {
                "prompt_tokens": self.input_tokens,
                "completion_tokens": self.output_tokens,
                "total_tokens": self.input_tokens + self.output_tokens,
            }
            body |= {"usage": counts, "x_groq": {"id": "r1", "usage": counts}}
        return body

    def _reason(self, answer: Answer) -> str:
        if answer.ending == "stop":
            return "tool_calls" if answer.call else "stop"
        return self.refusal if answer.ending == "refused" else answer.ending

    def whole(self, answer: Answer) -> Any:
        message = {**self._message(answer, answer.text, with_thought=True), **self._call(answer)}
        for call in message.get("tool_calls", ()):
            del call["index"]
        choice = {"index": 0, "message": message, "finish_reason": self._reason(answer)}
        return self._body("chat.completion", [choice], usage=True)

    def stream(self, answer: Answer) -> Iterable[bytes]:
        def chunk(delta: dict[str, Any], reason: str | None = None, *, usage: bool = False) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return event(self._body("chat.completion.chunk", [choice], usage=usage))

        yield chunk(self._message(answer, "", with_thought=True))
        for piece in answer.pieces:
            yield chunk({"content": piece})
        if answer.call:
            yield chunk(self._call(answer))
        yield chunk({}, self._reason(answer), usage=True) + event("[DONE]")

    def busy_in_stream(self) -> bytes | None:
        error = {"message": "Slow down.", "type": "rate_limit_error", "code": self.error_code}
        if not self.error_code:
            return event({"error": {**error, "code": "rate_limit_exceeded"}}, "error")
        return event({**self._body("chat.completion.chunk", []), "error": error})
