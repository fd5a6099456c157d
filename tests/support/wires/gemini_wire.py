"""Google's generateContent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sot_graph.testing import ChatRequest
from tests.support.wires.wire import Answer, Wire, chat_request, event

_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "refused": "SAFETY"}


class GeminiWire(Wire):
    """`:generateContent` and `:streamGenerateContent`."""

    def read(self, path: str, body: Mapping[str, Any]) -> ChatRequest:
        roles = {"model": "assistant", "user": "user"}
        system = (body.get("systemInstruction") or {}).get("parts")
        messages = [("system", system), *((roles[one.get("role", "user")], one["parts"]) for one in body["contents"])]
        declared = [each for tool in body.get("tools") or () for each in tool.get("functionDeclarations") or ()]
        tools = [
            (each["name"], _lower(each.get("parameters") or each.get("parametersJsonSchema"))) for each in declared
        ]
        return chat_request(messages, stream="stream" in path, tools=tools)

    def _body(self, parts: list[Any], reason: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if reason:
            candidate["finishReason"] = reason
        usage = {
            "promptTokenCount": self.input_tokens,
            "candidatesTokenCount": self.output_tokens,
            "totalTokenCount": self.input_tokens + self.output_tokens,
        }
        return {"candidates": [candidate], "modelVersion": "m", **({"usageMetadata": usage} if reason else {})}

    def _parts(self, answer: Answer, texts: list[str]) -> list[list[dict[str, Any]]]:
        parts = [[{"text": answer.thought, "thought": True}]] if answer.thought else []
        parts += [[{"text": text}] for text in texts if text]
        if answer.call:
            parts.append([{"functionCall": {"name": answer.call[0], "args": answer.call[1]}}])
        return parts

    def whole(self, answer: Answer) -> Any:
        parts = [part for parts in self._parts(answer, [answer.text]) for part in parts]
        return self._body(parts, _REASONS[answer.ending])

    def stream(self, answer: Answer) -> Iterable[bytes]:
        for parts in self._parts(answer, answer.pieces):
            yield event(self._body(parts, None))
        yield event(self._body([{"text": ""}], _REASONS[answer.ending]))

    def busy(self) -> tuple[int, Any]:
        return 429, {"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED"}}

    def refused_key(self) -> tuple[int, Any]:
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
        error = {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": details}
        return 400, {"error": error}


def _lower(schema: Any) -> Any:
    """Google writes a schema's types in capitals."""
    if isinstance(schema, dict):
        return {key: value.lower() if key == "type" else _lower(value) for key, value in schema.items()}
    return schema
