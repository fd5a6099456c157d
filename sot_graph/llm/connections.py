"""`ManyConnections`: an HTTP transport for hundreds of calls at once.

The pool of httpx2 looks at every connection and every request it has whenever a request comes or goes: what one costs
grows with how many there are, and a thousand at once take longer over that than over anything else. Here the
connections, httpcore2's own, are taken from the top of a pile and put back on it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpcore2
import httpx2

__all__ = ["ManyConnections"]

logger = logging.getLogger("sot_graph")

_DESCRIPTORS_SHARE = 0.75
"""Of the files that this process may open; the rest is for everything else in it."""


class ManyConnections(httpx2.AsyncBaseTransport):
    """Opens a connection for each request in flight, up to a limit; those beyond it wait, first come, first served.

    Args:
        ssl_context: For `https`.
        most: Connections at once.
        keepalive: Seconds that an idle connection is kept for the next request.
    """

    def __init__(self, ssl_context: ssl.SSLContext, *, most: int, keepalive: float) -> None:
        self._ssl_context = ssl_context
        self._keepalive = keepalive
        self._most = _within_descriptors(most)
        self._in_use = 0
        self._idle: deque[tuple[float, _Line]] = deque()
        """With the time since when. The top of the pile, the last, is the warmest."""
        self._leased: set[_Line] = set()
        self._lost: list[_Line] = []
        """In use by a response that nobody has closed and nobody holds any more."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request on a connection of its own, which is free again when the response is closed."""
        await self._turn(request.extensions.get("timeout", {}).get("pool"), request)
        connection = await self._take()
        try:
            response = await connection.send(request)
        except BaseException:
            self._put_back(connection)
            raise
        loop = asyncio.get_running_loop()
        body = _Lease(
            response.stream,
            give_back=lambda: self._put_back(connection),
            lose=lambda: loop.call_soon_threadsafe(self._lose, connection),
        )
        return httpx2.Response(response.status, headers=response.headers, stream=body, extensions=response.extensions)

    async def aclose(self) -> None:
        """Close everything, also what is in use, and also when this is cancelled, as a loop that ends does with all."""
        connections = [*(connection for _, connection in self._idle), *self._leased, *self._lost]
        self._idle.clear()
        self._leased.clear()
        self._lost.clear()
        cancelled: asyncio.CancelledError | None = None
        for connection in connections:
            try:
                await connection.aclose()
            except asyncio.CancelledError as error:
                cancelled = error
            except Exception as error:  # noqa: BLE001  (what can't be closed is gone already)
                logger.debug("A connection could not be closed: %s", error)
        if cancelled is not None:
            raise cancelled

    async def _turn(self, timeout: float | None, request: httpx2.Request) -> None:  # noqa: ASYNC109
        """Wait for one of the places."""
        if self._in_use < self._most and not self._waiting:
            self._in_use += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._hand_on()  # the place was already ours
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                message = f"None of {self._most} connections became free within {timeout:g} s."
                raise httpx2.PoolTimeout(message, request=request) from error
            raise

    async def _take(self) -> _Line:
        """The warmest connection, or a new one. Those that have been idle for too long are closed on the way."""
        stale = time.monotonic() - self._keepalive
        try:
            while self._idle and self._idle[0][0] < stale:
                await self._idle.popleft()[1].aclose()
            while self._lost:
                await self._lost.pop().aclose()
        except BaseException:
            self._hand_on()
            raise
        connection = self._idle.pop()[1] if self._idle else _Line(self._ssl_context, self._keepalive)
        self._leased.add(connection)
        return connection

    def _put_back(self, connection: _Line) -> None:
        if connection in self._leased:  # else it was closed with all others
            self._leased.remove(connection)
            if connection.is_idle:
                self._idle.append((time.monotonic(), connection))
            elif not connection.is_closed:
                self._lost.append(connection)
            # A closed one is let go: it keeps what broke it, with the frames and the contexts of that moment.
            self._hand_on()

    def _lose(self, connection: _Line) -> None:
        if connection in self._leased:
            self._leased.remove(connection)
            self._lost.append(connection)
            self._hand_on()

    def _hand_on(self) -> None:
        """Give the place to whoever has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._in_use -= 1


class _Line:
    """One connection after the other, each for many requests, one at a time."""

    def __init__(self, ssl_context: ssl.SSLContext, keepalive: float) -> None:
        self._ssl_context = ssl_context
        self._keepalive = keepalive
        self._connection: httpcore2.AsyncHTTPConnection | None = None

    @property
    def is_idle(self) -> bool:
        """Whether another request may be sent on it."""
        return self._connection is not None and self._connection.is_available()

    @property
    def is_closed(self) -> bool:
        """Whether there is nothing to close."""
        return self._connection is None or self._connection.is_closed()

    async def send(self, request: httpx2.Request) -> httpcore2.Response:
        """The response's head; its body is still to be read, and closed."""
        url = request.url
        if url.scheme not in {"http", "https"}:
            message = f"A model's URL begins with http:// or https://, not as {str(url)!r} does."
            raise httpx2.UnsupportedProtocol(message, request=request)
        sent = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            return await (await self._connected(sent.url.origin)).handle_async_request(sent)
        except _ERRORS as error:
            raise _as_httpx2(error) from error

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def _connected(self, origin: httpcore2.Origin) -> httpcore2.AsyncHTTPConnection:
        """The connection that there is; a new one where that leads elsewhere, broke, or was closed by the server."""
        connection = self._connection
        if (
            connection is None
            or not connection.can_handle_request(origin)
            or not connection.is_available()
            or connection.has_expired()
        ):
            await self.aclose()
            connection = httpcore2.AsyncHTTPConnection(
                origin, ssl_context=self._ssl_context, keepalive_expiry=self._keepalive
            )
            self._connection = connection
        return connection


_ERRORS = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


def _as_httpx2(error: Exception) -> httpx2.TransportError:
    """httpcore2's error as that of httpx2, which has the same names, and which the OpenAI client knows."""
    kind: type[httpx2.TransportError] = getattr(httpx2, type(error).__name__)
    return kind(str(error))


class _Lease(httpx2.AsyncByteStream):
    """A response's body; once it is closed, its connection is free.

    Args:
        body: The body.
        give_back: Called when it is closed.
        lose: Called, from whatever thread, when it is forgotten without having been closed.
    """

    def __init__(self, body: Any, *, give_back: Callable[[], None], lose: Callable[[], object]) -> None:
        self._body = body
        self._give_back: Callable[[], None] | None = give_back
        self._lose = lose

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._body:
                yield part
        except _ERRORS as error:
            raise _as_httpx2(error) from error

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            give_back, self._give_back = self._give_back, None
            if give_back is not None:
                give_back()

    def __del__(self) -> None:
        if self._give_back is not None:
            with suppress(RuntimeError):  # its loop is closed, and the connections with it
                self._lose()


def _within_descriptors(most: int) -> int:
    try:
        import resource
    except ImportError:  # Windows, where sockets have no such limit
        return most
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else max(1, min(most, int(soft * _DESCRIPTORS_SHARE)))
