"""The batch APIs of OpenAI and Anthropic on loopback. What is sent is answered at once, each request on its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from sot_graph.testing import ChatRequest, SkeletonResponder
from sot_graph.testing.openai_wire import Generation
from tests.support.loopback import QuietHandler, serving
from tests.support.wires.anthropic_wire import AnthropicWire
from tests.support.wires.wire import Answer, send

__all__ = ["BatchApi", "LoopbackAnthropicBatches", "LoopbackOpenAIBatches"]


class BatchApi:
    """What the two have in common.

    Attributes:
        paid: The body of each request that was in a batch, by its batch's name: these cost something.
        fails: Which requests fail at the provider.
        is_over: Whether batches are over when they are looked at.
        calls: What was called, in order.
        after_call: Called with the number of calls when one has done its work, before its reply is sent.
    """

    def __init__(self, responder: SkeletonResponder) -> None:
        self.responder = responder
        self.paid: list[tuple[str, dict[str, Any]]] = []
        self.fails: Callable[[Mapping[str, Any]], bool] = lambda _body: False
        self.is_over = True
        self.calls: list[str] = []
        self.after_call: Callable[[int], None] = lambda _number: None
        self.batches: dict[str, dict[str, Any]] = {}
        self.results: dict[str, list[bytes]] = {}

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status, and what is sent: bytes, or something as JSON."""
        raise NotImplementedError

    def __enter__(self) -> BatchApi:
        api, lock = self, threading.Lock()

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = urlsplit(self.path).path
                with lock:
                    api.calls.append(f"{self.command} {path}")
                    status, reply = api.handle(self.command, path, body)
                    api.after_call(len(api.calls))
                data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                send(self, status, data, "application/json")

            do_POST = do_GET

        self._serving = serving(Handler)
        self.url = self._serving.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)


class LoopbackOpenAIBatches(BatchApi):
    """OpenAI's files and batches. Their address has `/v1` behind it."""

    files: dict[str, bytes]

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.files = getattr(self, "files", {})
        *_, last = parts = path.removeprefix("/v1/").split("/")
        if parts == ["files"]:
            name = f"file-{len(self.files)}"
            lines = [line for line in body.splitlines() if line.startswith(b'{"custom_id"')]
            self.files[name] = b"\n".join(lines)
            made = {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "f", "purpose": "batch"}
            return 200, {**made, "status": "processed"}
        if parts[0] == "files":
            return 200, self.files[parts[1]]
        if method == "POST":
            return 200, self._make(json.loads(body))
        if last == "batches":
            listed = [self._shown(name) for name in reversed(self.batches)]
            return 200, {"object": "list", "data": listed, "has_more": False}
        return 200, self._shown(last)

    def _make(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = f"batch-{len(self.batches)}"
        results = []
        for text in self.files[asked["input_file_id"]].splitlines():
            line = json.loads(text)
            assert line["url"] == asked["endpoint"] == "/v1/chat/completions"
            self.paid.append((name, line["body"]))
            status, reply = 500, {"error": {"message": "It broke."}}
            if not self.fails(line["body"]):
                request = ChatRequest(line["body"])
                status = 200
                reply = json.loads(Generation(self.responder(request), request, number=len(self.paid)).body())
            response = {"status_code": status, "request_id": "r", "body": reply}
            results.append(json.dumps({"id": "x", "custom_id": line["custom_id"], "response": response, "error": None}))
        self.files[f"{name}-output"] = "\n".join(results).encode()
        self.batches[name] = {**asked, "count": len(results), "created_at": int(time.time())}
        return self._shown(name)

    def _shown(self, name: str) -> dict[str, Any]:
        kept = self.batches[name]
        counts = {"total": kept["count"], "completed": kept["count"] if self.is_over else 0, "failed": 0}
        known = {key: kept[key] for key in ("input_file_id", "endpoint", "completion_window", "metadata", "created_at")}
        told = {**known, "id": name, "object": "batch", "request_counts": counts}
        if kept.get("problem"):
            return {**told, "status": "failed", "errors": {"object": "list", "data": [{"message": kept["problem"]}]}}
        if not self.is_over:
            return {**told, "status": "in_progress"}
        return {**told, "status": "completed", "output_file_id": f"{name}-output"}


class LoopbackAnthropicBatches(BatchApi):
    """Anthropic's message batches."""

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        parts = path.strip("/").split("/")  # v1, messages, batches, name, results
        if parts[-1] == "results":
            return 200, b"\n".join(self.results[parts[3]])
        if method == "POST":
            return 200, self._make(json.loads(body)["requests"])
        if parts[-1] == "batches":
            listed = [self._shown(name) for name in reversed(self.batches)]
            return 200, {"data": listed, "has_more": False, "first_id": None, "last_id": None}
        return 200, self._shown(parts[3])

    def _make(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        name = f"msgbatch_{len(self.batches)}"
        wire, lines = AnthropicWire(), []
        for each in requests:
            body = each["params"]
            self.paid.append((name, body))
            if self.fails(body):
                error = {"type": "error", "error": {"type": "api_error", "message": "It broke."}, "request_id": None}
                result: dict[str, Any] = {"type": "errored", "error": error}
            else:
                reply = self.responder(wire.read("/v1/messages", body))
                calls = [(call.name, json.loads(call.arguments_json)) for call in reply.tool_calls]
                result = {"type": "succeeded", "message": wire.whole(Answer(reply.text, call=next(iter(calls), None)))}
            lines.append(json.dumps({"custom_id": each["custom_id"], "result": result}).encode())
        self.results[name] = lines
        self.batches[name] = {"count": len(lines), "created_at": datetime.now(UTC).isoformat()}
        return self._shown(name)

    def _shown(self, name: str) -> dict[str, Any]:
        kept = self.batches[name]
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["succeeded" if self.is_over else "processing"] = kept["count"]
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if self.is_over else "in_progress",
            "request_counts": counts,
            "created_at": kept["created_at"],
            "expires_at": kept["created_at"],
            "ended_at": None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.url}/v1/messages/batches/{name}/results",
        }
