"""`ManyConnections`: an HTTP transport for hundreds of calls at once.

The pool of httpx2 looks at every connection and every request it has whenever a request comes or goes: what one costs
grows with how many there are, and a thousand at once take longer over that than over anything else. Here each
connection is a pool of its own, taken from the top of a pile and put back on it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

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
        self._limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=keepalive)
        self._keepalive = keepalive
        self._most = _within_descriptors(most)
        self._in_use = 0
        self._idle: deque[tuple[float, httpx2.AsyncHTTPTransport]] = deque()
        """With the time since when. The top of the pile, the last, is the warmest."""
        self._leased: set[httpx2.AsyncHTTPTransport] = set()
        self._lost: list[httpx2.AsyncHTTPTransport] = []
        """In use by a response that nobody has closed and nobody holds any more."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request on a connection of its own, which is free again when the response is closed."""
        await self._turn(request.extensions.get("timeout", {}).get("pool"), request)
        connection = await self._take()
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            self._put_back(connection)
            raise
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        loop = asyncio.get_running_loop()
        response.stream = _Lease(
            response.stream,
            give_back=lambda: self._put_back(connection),
            lose=lambda: loop.call_soon_threadsafe(self._lose, connection),
        )
        return response

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

    async def _take(self) -> httpx2.AsyncHTTPTransport:
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
        if self._idle:
            connection = self._idle.pop()[1]
        else:
            connection = httpx2.AsyncHTTPTransport(verify=self._ssl_context, limits=self._limits)
        self._leased.add(connection)
        return connection

    def _put_back(self, connection: httpx2.AsyncHTTPTransport) -> None:
        if connection in self._leased:  # else it was closed with all others
            self._leased.remove(connection)
            self._idle.append((time.monotonic(), connection))
            self._hand_on()

    def _lose(self, connection: httpx2.AsyncHTTPTransport) -> None:
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


class _Lease(httpx2.AsyncByteStream):
    """A response's body; once it is closed, its connection is free.

    Args:
        body: The body.
        give_back: Called when it is closed.
        lose: Called, from whatever thread, when it is forgotten without having been closed.
    """

    def __init__(
        self, body: httpx2.AsyncByteStream, *, give_back: Callable[[], None], lose: Callable[[], object]
    ) -> None:
        self._body = body
        self._give_back: Callable[[], None] | None = give_back
        self._lose = lose

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

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
