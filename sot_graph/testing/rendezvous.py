"""`Rendezvous`: proves that things are in flight together, without a clock."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress

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

    It is used once: when all have come, they and whoever comes later pass. When one has waited for too long, it
    breaks: everybody who waits, or comes later, gets the error at once.

    Args:
        n: How many have to be there together.
        timeout: Seconds that one waits for the others.

    Attributes:
        waiting: How many wait now.
        complete: Whether all were in flight together.

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
        self.waiting = 0
        self.complete = False
        self._most = 0
        self._lock = threading.RLock()
        # True: everybody passes; False: nobody does. A future that runs can't be cancelled by a waiter who is.
        self._gate: Future[bool] = Future()
        self._gate.set_running_or_notify_cancel()

    @property
    def is_open(self) -> bool:
        """Whether arrivals pass at once: all have come, or it was released by hand."""
        return self._gate.done() and self._gate.result()

    async def arrive(self) -> None:
        """Wait for the others.

        Raises:
            RendezvousError: They did not come within `timeout` seconds.
        """
        with self._lock:
            self.waiting += 1
            if not self._gate.done():
                self._most = max(self._most, self.waiting)
                if self.waiting == self.n:
                    self.complete = True
                    self._settle(opens=True)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(self._gate), self.timeout)
        finally:
            with self._lock:
                self.waiting -= 1
        self._settle(opens=False)
        if not self._gate.result():
            raise RendezvousError(self.n, self._most, self.timeout)

    def release(self) -> None:
        """Let everybody pass, those who wait and those who come, though not all have come."""
        self._settle(opens=True)

    def _settle(self, *, opens: bool) -> None:
        """Open or break the barrier; nothing happens if it is either already."""
        with self._lock:
            if not self._gate.done():
                self._gate.set_result(opens)
