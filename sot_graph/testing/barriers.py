"""`Rendezvous`: proves that things are in flight together, without a clock."""

from __future__ import annotations

import asyncio
import threading
from typing import Self

from sot_graph.errors import SotConfigError

__all__ = ["Rendezvous", "RendezvousError"]


class RendezvousError(TimeoutError):
    """Not enough came in time: they were not in flight together.

    Attributes:
        expected: How many had to come.
        arrived: How many were there at most.
    """

    def __init__(self, expected: int, arrived: int, timeout: float) -> None:
        super().__init__(
            f"{arrived} of {expected} were in flight together within {timeout:g} s: the others never came, "
            "or wait for those that are here."
        )
        self.expected = expected
        self.arrived = arrived


class Rendezvous:
    """A barrier for coroutines of any event loops and threads: all must be in flight together, or it raises.

    It is used once: when all have come, they and whoever comes later pass. When one has waited for too long,
    it
    breaks: everybody who waits, or comes later, gets the error at once.

    Args:
        n: How many have to be there together.
        timeout: Seconds that one waits for the others.

    Raises:
        SotConfigError: `n` is below 1.

    Example:
        >>> meeting = Rendezvous(2, timeout=5)
        >>> async def work() -> None:
        ...     await meeting.arrive()
        >>> async def main() -> None:
        ...     await asyncio.gather(work(), work())
        >>> asyncio.run(main())
        >>> meeting.complete
        True
    """

    def __init__(self, n: int, timeout: float = 10.0) -> None:
        if n < 1:
            message = f"Rendezvous needs at least 1 to come, not {n!r}."
            raise SotConfigError(message)
        self.n = n
        self.timeout = timeout
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}
        self._most = 0
        self._open = False
        self._complete = False
        self._error: RendezvousError | None = None

    @property
    def waiting(self) -> int:
        """How many wait now."""
        with self._lock:
            return len(self._waiting)

    @property
    def complete(self) -> bool:
        """Whether all were in flight together."""
        return self._complete

    @property
    def is_open(self) -> bool:
        """Whether arrivals pass at once: all have come, or it was released by hand."""
        return self._open

    async def arrive(self) -> None:
        """Wait for the others.

        Raises:
            RendezvousError: They did not come within `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._error is not None:
                raise RendezvousError(self.n, self._most, self.timeout)
            if self._open:
                return
            self._waiting[future] = loop
            self._most = max(self._most, len(self._waiting))
            if len(self._waiting) == self.n:
                self._complete = True
                self._release()
        timer = loop.call_later(self.timeout, self._break)
        try:
            await future
        finally:
            timer.cancel()
            with self._lock:
                self._waiting.pop(future, None)

    def release(self) -> None:
        """Let everybody pass, those who wait and those who come, though not all have come."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        self._open = True
        self._settle()

    def _break(self) -> None:
        with self._lock:
            if not self._open and self._error is None:
                self._error = RendezvousError(self.n, self._most, self.timeout)
                self._settle()

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for future, loop in waiting.items():
            # Each gets an error of its own: a shared one would collect the tracebacks of all.
            error = RendezvousError(self.n, self._most, self.timeout) if self._error else None
            loop.call_soon_threadsafe(_resolve, future, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


def _resolve(future: asyncio.Future[None], error: RendezvousError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
