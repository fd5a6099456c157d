"""`CallLimiter`: one bound on the model calls of a whole process, whatever makes them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from sot_graph.concurrency import reset_after_fork
from sot_graph.errors import SotConfigError


class CallLimiter:
    """At most so many model calls in flight at once, first come, first served.

    Give the same limiter to several graphs, and it bounds them together. It works across threads and event loops,
    where an `asyncio.Semaphore` belongs to one; a forked process counts for itself. To bound calls per second, give
    LangChain's `rate_limiter` to the model: the two go together.

    Args:
        limit: Calls in flight at once.

    Raises:
        SotConfigError: `limit` is below 1.

    Examples:
        >>> limiter = CallLimiter(20)
        >>> async def call_a_model() -> None:
        ...     async with limiter:
        ...         ...
    """

    def __init__(self, limit: int) -> None:
        if type(limit) is not int or limit < 1:
            message = f"CallLimiter takes a whole number from 1 on, not {limit!r}."
            raise SotConfigError(message)
        self.limit = limit
        self.reset_in_child()
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        """The places belong to one process: none is taken in a child that has just been forked."""
        self._lock = threading.Lock()
        self._in_flight = 0
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def in_flight(self) -> int:
        """Calls in flight now."""
        return self._in_flight

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._in_flight < self.limit and not self._waiting:
                self._in_flight += 1
                return
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, turn))
        try:
            await turn
        except BaseException:
            with self._lock:
                still_waiting = (loop, turn) in self._waiting
                if still_waiting:
                    self._waiting.remove((loop, turn))
            if not still_waiting:
                await self.__aexit__()  # the place was already ours
            raise

    async def __aexit__(self, *_: object) -> None:
        """Hand the place to whoever has waited longest; a waiter whose loop is closed is passed over."""
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_grant, turn)
                except RuntimeError:
                    continue
                return
            self._in_flight -= 1


def _grant(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
