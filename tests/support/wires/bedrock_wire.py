"""Amazon Bedrock's converse, whose stream is made of binary frames."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

from sot_graph.testing import ChatRequest
from tests.support.wires.wire import Answer, Wire, chat_request

_REASONS = {"stop": "end_turn", "length": "max_tokens", "refused": "guardrail_intervened"}


class BedrockWire(Wire):
    """`/model/{id}/converse` and `/converse-stream`."""

    content_type = "application/vnd.amazon.eventstream"

    def read(self, path: str, body: Mapping[str, Any]) -> ChatRequest:
        messages = [("system", body.get("system")), *((one["role"], one["content"]) for one in body["messages"])]
        specs = [tool["toolSpec"] for tool in (body.get("toolConfig") or {}).get("tools", ()) if "toolSpec" in tool]
        tools = [(spec["name"], spec["inputSchema"]["json"]) for spec in specs]
        return chat_request(messages, stream=path.endswith("stream"), tools=tools)

    @property
    def _usage(self) -> dict[str, Any]:
        total = self.input_tokens + self.output_tokens
        usage = {"inputTokens": self.input_tokens, "outputTokens": self.output_tokens, "totalTokens": total}
        return {"usage": usage, "metrics": {"latencyMs": 1}}

    def _reason(self, answer: Answer) -> str:
        return "tool_use" if answer.call else _REASONS[answer.ending]

    def whole(self, answer: Answer) -> Any:
        content: list[dict[str, Any]] = []
        if answer.thought:
            content.append({"reasoningContent": {"reasoningText": {"text": answer.thought, "signature": "s"}}})
        if answer.text:
            content.append({"text": answer.text})
        if answer.call:
            content.append({"toolUse": {"toolUseId": "t1", "name": answer.call[0], "input": answer.call[1]}})
        output = {"message": {"role": "assistant", "content": content}}
        return {"output": output, "stopReason": self._reason(answer), **self._usage}

    def stream(self, answer: Answer) -> Iterable[bytes]:
        yield frame("messageStart", {"role": "assistant"})
        index = 0
        if answer.thought:
            yield frame("contentBlockDelta", _delta(index, reasoningContent={"text": answer.thought}))
            yield frame("contentBlockStop", {"contentBlockIndex": index})
            index += 1
        for piece in answer.pieces:
            yield frame("contentBlockDelta", _delta(index, text=piece))
        if answer.text:
            yield frame("contentBlockStop", {"contentBlockIndex": index})
        if answer.call:
            index += 1
            start = {"toolUse": {"toolUseId": "t1", "name": answer.call[0]}}
            yield frame("contentBlockStart", {"contentBlockIndex": index, "start": start})
            yield frame("contentBlockDelta", _delta(index, toolUse={"input": json.dumps(answer.call[1])}))
            yield frame("contentBlockStop", {"contentBlockIndex": index})
        yield frame("messageStop", {"stopReason": self._reason(answer)}) + frame("metadata", self._usage)

    def busy(self) -> tuple[int, Any]:
        return 429, {"__type": "ThrottlingException", "message": "Too many requests"}

    def refused_key(self) -> tuple[int, Any]:
        return 403, {"__type": "UnrecognizedClientException", "message": "The security token is invalid."}

    def busy_in_stream(self) -> bytes | None:
        return frame("throttlingException", {"message": "Too many requests"}, kind="exception")


def _delta(index: int, **delta: Any) -> dict[str, Any]:
    return {"contentBlockIndex": index, "delta": delta}


def frame(name: str, data: Any, *, kind: str = "event") -> bytes:
    """A frame of Amazon's event stream."""
    named = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    headers = b"".join(
        struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for key, value in named.items()
    )
    payload = json.dumps(data).encode()
    prelude = struct.pack("!II", len(headers) + len(payload) + 16, len(headers))
    message = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return message + struct.pack("!I", crc32(message))
