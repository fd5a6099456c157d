"""`Delivery`: sends one answer, each token at its time, and breaks off where a fault says so."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sot_graph.testing.extra import web
from sot_graph.testing.faults import Fault, Garbage, HangUp, Reset, Stall, Status
from sot_graph.testing.log import LoggedRequest, RequestLog
from sot_graph.testing.physics import Physics
from sot_graph.testing.wire import DONE, Chunks, Generation, error_body

__all__ = ["Delivery"]

_STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with RST instead of FIN
_ERROR_KINDS = {400: "invalid_request_error", 401: "invalid_request_error", 404: "invalid_request_error"}
_ERROR_KINDS |= {429: "rate_limit_error"}


@dataclass
class Delivery:
    """The way back of one request.

    The log is told about an end just before the last bytes go out: whoever has read an answer finds it in
    the log.
    """

    http: web.Request
    entry: LoggedRequest
    log: RequestLog
    physics: Physics
    start: float
    """From when the physics count, in seconds of `time.monotonic()`."""
    fault: Fault | None = None

    @property
    def outcome(self) -> str:
        """Of an answer that was sent as it should be."""
        return f"fault:{self.fault.name}" if self.fault else "ok"

    def error(self, status: int, body: Any, *, outcome: str, headers: dict[str, str] | None = None) -> web.Response:
        """An error, or another whole body that is sent at once."""
        self.log.first_byte(self.entry, status)
        self.log.close(self.entry, outcome)
        if isinstance(body, str):
            return web.Response(status=status, text=body, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    def status(self, kind: Status) -> web.Response:
        """The HTTP error of a fault."""
        message = kind.message or f"Simulated error {kind.code}."
        error_kind = _ERROR_KINDS.get(kind.code, "server_error")
        code = "rate_limit_exceeded" if error_kind == "rate_limit_error" else None
        body = error_body(message, kind=error_kind, code=code) if kind.body is None else kind.body
        headers = {} if kind.retry_after is None else {"Retry-After": f"{kind.retry_after:g}"}
        return self.error(kind.code, body, outcome=self.outcome, headers=headers)

    def reset(self, _kind: Reset) -> web.StreamResponse:
        """Reset the connection."""
        self.log.close(self.entry, self.outcome)
        transport = self.http.transport
        if transport is not None:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        return web.Response()  # goes nowhere

    async def garbage(self, kind: Garbage) -> web.StreamResponse:
        """A success that can't be read."""
        if not self.entry.request.stream:
            self.log.first_byte(self.entry, 200)
            self.log.close(self.entry, self.outcome)
            return web.Response(text=kind.text, content_type="application/json")
        response = await self._begin_stream()
        self.log.close(self.entry, self.outcome)
        await response.write_eof(f"data: {kind.text}\n\n".encode() + DONE)
        return response

    async def whole(self, generation: Generation) -> web.StreamResponse:
        """The answer as one JSON body."""
        await self._until(self.physics.end(len(generation.tokens)))
        kind = self.fault.kind if self.fault else None
        if isinstance(kind, Stall):
            await _forever()
        body = json.dumps(generation.body(), separators=(",", ":")).encode()
        self.log.first_byte(self.entry, 200)
        if isinstance(kind, HangUp):
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.content_length = len(body)
            await response.prepare(self.http)
            await response.write(body[: len(body) // 2])
            return self._hang_up(response)
        self.log.progress(self.entry, len(generation.tokens))
        self.log.close(self.entry, self.outcome)
        return web.Response(body=body, content_type="application/json")

    async def stream(self, generation: Generation) -> web.StreamResponse:
        """The answer as server-sent events, one a token."""
        kind = self.fault.kind if self.fault else None
        breaks = isinstance(kind, HangUp | Stall)
        tokens = generation.tokens[: kind.after_tokens] if isinstance(kind, HangUp | Stall) else generation.tokens
        options = self.entry.request.stream_options
        chunks = Chunks(generation, include_usage=bool(options.get("include_usage")))
        await self._until(self.physics.due(0))
        response = await self._begin_stream()
        await response.write(chunks.opening())
        await self._write_tokens(response, chunks, tokens)
        await self._until(self.physics.end(len(tokens)))
        if breaks and isinstance(kind, HangUp):
            return self._hang_up(response)
        if breaks:
            await _forever()
        self.log.close(self.entry, self.outcome)
        await response.write_eof(chunks.closing() + DONE)
        return response

    async def _begin_stream(self) -> web.StreamResponse:
        self.log.first_byte(self.entry, 200)
        response = web.StreamResponse(headers=_STREAM_HEADERS)
        await response.prepare(self.http)
        return response

    async def _write_tokens(
        self, response: web.StreamResponse, chunks: Chunks, tokens: Sequence[tuple[int | str, str]]
    ) -> None:
        sent = 0
        while sent < len(tokens):
            due = sent
            elapsed = time.monotonic() - self.start
            while due < len(tokens) and self.physics.due(due) <= elapsed:
                due += 1
            if due == sent:
                await self._until(self.physics.due(sent))
                continue
            self.log.progress(self.entry, due)
            await response.write(b"".join(chunks.token(lane, text) for lane, text in tokens[sent:due]))
            sent = due

    def _hang_up(self, response: web.StreamResponse) -> web.StreamResponse:
        self.log.close(self.entry, self.outcome)
        if self.http.transport is not None:
            self.http.transport.close()  # what was written before still goes out
        return response

    async def _until(self, moment: float) -> None:
        """Sleep until so many seconds after the start, not a moment less."""
        while (remaining := self.start + moment - time.monotonic()) > 0:  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(remaining)


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()
