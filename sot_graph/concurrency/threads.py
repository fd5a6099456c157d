"""`DaemonThreads`: threads for what blocks, wide enough that calls which stall don't stop the others."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

__all__ = ["DaemonThreads"]

P = ParamSpec("P")
T = TypeVar("T")

_IDLE_SECONDS = 5.0


class DaemonThreads(ThreadPoolExecutor):
    """An executor whose threads the interpreter doesn't wait for, and that lets go of those it doesn't need.

    An event loop looks names up in its executor, and runs there what has no asynchronous form, such as a chat model
    that has only `_generate`. Python's own is a few threads wide, so a few calls that stall would stop them all, and
    it is joined when the process ends.

    Args:
        width: Threads at once, at most. What comes then waits for its turn.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)  # which starts no thread before its own `submit`
        self._width = width
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._running = 0
        self._idle = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run this in a thread: an idle one, else a new one."""
        future: Future[T] = Future()
        with self._changed:
            self._waiting.append((future, lambda: fn(*args, **kwargs)))
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif self._running < self._width:
                self._running += 1
                threading.Thread(target=self._work, name="sot_graph-worker", daemon=True).start()
        return future

    def _work(self) -> None:
        while (work := self._next()) is not None:
            _do(*work)
            del work  # nothing of it is held while the thread is idle

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            while not self._waiting:
                self._idle += 1
                was_told = self._changed.wait(_IDLE_SECONDS)
                self._idle -= 1
                if not (was_told or self._waiting):
                    self._running -= 1
                    return None
            return self._waiting.popleft()


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  (raised again in whoever waits for it)
        future.set_exception(error)
    else:
        future.set_result(result)
