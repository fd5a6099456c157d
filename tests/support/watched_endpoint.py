"""`WatchedEndpoint`: a simulated endpoint whose log can be waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from sot_graph.testing import LoggedRequest, SimulatedEndpoint

__all__ = ["WatchedEndpoint"]

T = TypeVar("T")


class WatchedEndpoint(SimulatedEndpoint):
    """A simulated endpoint whose log can be waited for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._changed = threading.Condition()

    def log_changed(self) -> None:
        """Wake those who wait."""
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, predicate: Callable[[list[LoggedRequest]], T], timeout: float = 10.0) -> T:
        """Block until the log is as wanted.

        Args:
            predicate: Gets the list of requests whenever something changes in it; done when it returns a
                truthy value.
            timeout: Seconds.

        Returns:
            The truthy value.

        Raises:
            TimeoutError: It never was; the message lists the requests and their outcomes.
        """
        with self._changed:
            result = self._changed.wait_for(lambda: predicate(self.requests), timeout)
        if not result:
            seen = ", ".join(f"{entry.id}: {entry.outcome or 'in flight'}" for entry in self.requests) or "none"
            message = f"Nothing of the kind within {timeout:g} s. Requests: {seen}."
            raise TimeoutError(message)
        return result

    async def wait_for_async(self, predicate: Callable[[list[LoggedRequest]], T], timeout: float = 10.0) -> T:  # noqa: ASYNC109
        """The same without blocking the event loop: the predicate runs in another thread."""
        return await asyncio.to_thread(self.wait_for, predicate, timeout)
