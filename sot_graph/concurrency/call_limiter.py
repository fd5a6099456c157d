"""`CallLimiter`: a bound on model calls: of a whole process, of a run, of a client; `Pace`: a rate."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Self

from sot_graph.concurrency import reset_after_fork
from sot_graph.errors import SotConfigError

_FIRST_GUESS = 500.0
"""Tokens of a call, as long as none has been counted."""
_running_calls: ContextVar[tuple[object, ...]] = ContextVar("sot_graph_limited_calls", default=())
"""The calls that the running code is in, the innermost last: `add_tokens` finds by them whose estimate it corrects. An
expander's tasks and threads inherit them."""


class Pace:
    """So many units a minute, given out evenly: who takes some is told how long to wait for them.

    More can be taken than there is, and an estimate can be set right afterwards. Both only make those wait who come
    later, so that over time the rate is exact. Libraries of rate limits take nothing back, so this is written here.

    Args:
        per_minute: Units a minute. What a second brings, and one more, may be taken at once.
        now: The clock, in seconds.
    """

    def __init__(self, per_minute: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds_each = 60.0 / per_minute
        self._now = now
        self._due = -math.inf
        """When the units that were taken so far will all have come in."""

    def take(self, units: float) -> float:
        """Take some; returns the seconds to wait until they may be used."""
        now = self._now()
        self._due = max(self._due, now - 1.0)
        wait = max(0.0, self._due - now)
        self._due += units * self._seconds_each
        return wait

    def correct(self, units: float) -> None:
        """So many more were used than had been taken; below zero: fewer."""
        self._due += units * self._seconds_each


class CallLimiter:
    """One bound on the model calls of a process: in flight at once, calls a minute, tokens a minute.

    Give the same limiter to several graphs, and it bounds them together. It works across threads and event loops,
    where an `asyncio.Semaphore` belongs to one; a forked process counts for itself. Calls are let in first come, first
    served.

    Args:
        limit: Calls in flight at once; `None`: no bound.
        calls_per_minute: Calls that begin in a minute, repeated ones included; `None`: no bound.
        tokens_per_minute: Tokens in and out. What a call takes is known when it has ended; until then it counts as
            much as the calls before it took on average. `None`: no bound.

    Raises:
        SotConfigError: A bound is not above 0, or `limit` is no whole number.

    Examples:
        >>> limiter = CallLimiter(20, calls_per_minute=500)
        >>> async def call_a_model() -> None:
        ...     async with limiter:
        ...         ...
    """

    def __init__(
        self, limit: int | None = None, *, calls_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        if limit is not None and (type(limit) is not int or limit < 1):
            message = f"CallLimiter takes a whole number from 1 on, not {limit!r}."
            raise SotConfigError(message)
        for name, rate in (("calls_per_minute", calls_per_minute), ("tokens_per_minute", tokens_per_minute)):
            if rate is not None and not 0 < rate < math.inf:
                message = f"CallLimiter: {name} is a number above 0, not {rate!r}."
                raise SotConfigError(message)
        self.limit, self.calls_per_minute, self.tokens_per_minute = limit, calls_per_minute, tokens_per_minute
        self.reset_in_child()
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        """A child that has just been forked counts for itself: none of its places is taken."""
        self._lock = threading.Lock()
        self._in_flight = 0
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._calls = Pace(self.calls_per_minute) if self.calls_per_minute else None
        self._tokens = Pace(self.tokens_per_minute) if self.tokens_per_minute else None
        self._counted = self._counted_calls = 0
        self._reserved: dict[object, float] = {}
        """The tokens that each call in flight has been counted for. A call is an object that `__aenter__` makes."""

    def __deepcopy__(self, _memo: object) -> Self:
        """A copy of what holds it shares it: else there would be twice as many calls."""
        return self

    @property
    def in_flight(self) -> int:
        """Calls in flight now."""
        return self._in_flight

    def add_tokens(self, tokens: int) -> None:
        """What the running call has taken, in and out."""
        if self._tokens is None:
            return
        with self._lock:
            self._counted += tokens
            self._counted_calls += 1
            own = next((call for call in reversed(_running_calls.get()) if call in self._reserved), None)
            self._tokens.correct(tokens - self._reserved.pop(own, 0.0))

    async def __aenter__(self) -> None:
        outer, call, turn, wait = _running_calls.get(), object(), None, 0.0
        _running_calls.set((*outer, call))
        with self._lock:
            if self.limit is None or (self._in_flight < self.limit and not self._waiting):
                self._in_flight += 1
            else:
                loop = asyncio.get_running_loop()
                turn = (loop, loop.create_future())
                self._waiting.append(turn)
        try:
            if turn is not None:
                await turn[1]
            with self._lock:  # the call counts from now on, for as many tokens as others took
                wait = 0.0 if self._calls is None else self._calls.take(1)
                if self._tokens is not None:
                    expected = self._counted / self._counted_calls if self._counted_calls else _FIRST_GUESS
                    self._reserved[call] = expected
                    wait = max(wait, self._tokens.take(expected))
            if wait:
                await asyncio.sleep(wait)
        except BaseException:
            with self._lock:
                if turn is not None and turn in self._waiting:
                    self._waiting.remove(turn)
                    _running_calls.set(outer)
                    raise
                if wait:  # it was counted, and is no call now
                    if self._calls is not None:
                        self._calls.correct(-1)
                    if self._tokens is not None:
                        self._tokens.correct(-self._reserved.pop(call, 0.0))
            await self.__aexit__()  # the place was already ours
            raise

    async def __aexit__(self, *_: object) -> None:
        """Hand the place to whoever has waited longest; a waiter whose loop is closed is passed over."""
        calls = _running_calls.get()
        _running_calls.set(calls[:-1])
        with self._lock:
            self._reserved.pop(calls[-1] if calls else None, None)  # of a call that failed: what it took isn't known
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
