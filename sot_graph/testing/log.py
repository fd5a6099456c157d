"""The log of a simulated endpoint: what came, when, and how it ended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from sot_graph.testing.requests import ChatRequest

__all__ = ["LogPredicate", "LoggedRequest", "RequestLog"]

T = TypeVar("T")


@dataclass
class LoggedRequest:
    """One request. Its fields fill while it is answered. Times are of `time.monotonic()`, in seconds."""

    id: int
    """From 1, in order of arrival."""
    request: ChatRequest
    arrived_at: float
    first_byte_at: float | None = None
    """When the first byte of an answer was sent."""
    ended_at: float | None = None
    """When the last byte was about to be sent, or the connection was lost."""
    closed_at: float | None = None
    """When the client left before the answer's end."""
    status: int | None = None
    """The HTTP status that was sent; `None`: none yet."""
    outcome: str | None = None
    """`None`: in flight. `"ok"`; `"fault:<name>"`; `"client_closed"`: the client left before the end,
    whatever else went on; `"rejected"`: a bad request (400, 401, 404); `"held_too_long"`: a hold that
    never filled (504); `"responder_error"`: the responder raised (500); `"stopped"`: the endpoint stopped
    before the end."""
    fault: str | None = None
    """The name of the fault that hit it."""
    tokens_sent: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the client's key."""
        fields = {name: value for name, value in vars(self).items() if name != "request"}
        return {**fields, "request": dict(self.request.raw)}


LogPredicate: TypeAlias = Callable[[list[LoggedRequest]], T]
"""Looks at the requests so far; what it returns is waited for until it is truthy."""


class RequestLog:
    """Thread-safe: the endpoint's loop writes, any thread or loop reads and waits. Nothing here polls."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._entries: list[LoggedRequest] = []
        self._listeners: set[Callable[[], None]] = set()
        self._number = 0
        self._in_flight = 0
        self._max_in_flight = 0

    @property
    def entries(self) -> list[LoggedRequest]:
        """Every request since the start or the last `clear()`, in order of arrival."""
        with self._changed:
            return list(self._entries)

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return self._in_flight

    @property
    def max_in_flight(self) -> int:
        """How many were being answered together at most."""
        return self._max_in_flight

    def open(self, request: ChatRequest, arrived_at: float) -> LoggedRequest:
        """A request came."""
        with self._change():
            self._number += 1
            entry = LoggedRequest(self._number, request, arrived_at)
            self._entries.append(entry)
            self._in_flight += 1
            self._max_in_flight = max(self._max_in_flight, self._in_flight)
        return entry

    def first_byte(self, entry: LoggedRequest, status: int) -> None:
        """The first byte of its answer is about to be sent."""
        with self._change():
            entry.status = status
            entry.first_byte_at = time.monotonic()

    def progress(self, entry: LoggedRequest, tokens: int) -> None:
        """So many tokens of it have been sent in all."""
        with self._change():
            entry.tokens_sent = tokens

    def close(self, entry: LoggedRequest, outcome: str) -> None:
        """It ended. A client that leaves during the last write overrides the outcome."""
        with self._change():
            if entry.outcome is None:
                self._in_flight -= 1
                entry.ended_at = time.monotonic()
            entry.outcome = outcome
            if outcome == "client_closed":
                entry.closed_at = time.monotonic()

    def clear(self) -> None:
        """Forget every request; those in flight still count as in flight."""
        with self._change():
            self._entries.clear()
            self._max_in_flight = self._in_flight

    def wait_for(self, predicate: LogPredicate[T], timeout: float) -> T:
        """Block until the predicate is truthy; `TimeoutError` after so many seconds."""
        with self._changed:
            result = self._changed.wait_for(lambda: predicate(list(self._entries)), timeout)
            if not result:
                raise self._timed_out(timeout)
            return result

    async def wait_for_async(self, predicate: LogPredicate[T], timeout: float) -> T:  # noqa: ASYNC109 - as `wait_for`
        """Wait until the predicate is truthy; `TimeoutError` after so many seconds."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def listen() -> None:
            loop.call_soon_threadsafe(changed.set)

        with self._changed:
            self._listeners.add(listen)
        try:
            async with asyncio.timeout(timeout):
                while not (result := predicate(self.entries)):
                    await changed.wait()
                    changed.clear()
        except TimeoutError as error:
            raise self._timed_out(timeout) from error
        finally:
            with self._changed:
                self._listeners.discard(listen)
        return result

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()
            for listen in self._listeners:
                listen()

    def _timed_out(self, timeout: float) -> TimeoutError:
        seen = ", ".join(f"{entry.id}: {entry.outcome or 'in flight'}" for entry in self.entries) or "none"
        return TimeoutError(f"Nothing of the kind within {timeout:g} s. Requests: {seen}.")
