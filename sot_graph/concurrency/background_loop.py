"""Where coroutines run for those who call synchronously, and how they are ended.

A thread can't be cancelled, so the synchronous half of the graph runs the same coroutines as the asynchronous one,
on an event loop that the library owns.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, ParamSpec, TypeVar

from sot_graph.concurrency.fork_reset import reset_after_fork

__all__ = ["CancelScope", "DaemonThreads", "run_in_own_thread", "run_sync", "tell_loops"]

P = ParamSpec("P")
T = TypeVar("T")

_depth: ContextVar[int] = ContextVar("sot_graph_loop_depth", default=0)
"""How many of the library's loops the running code is on: 0 for a caller's own."""

_CLOSING_SECONDS = 2.0
_BLOCKING_CALLS = 1024
"""Of models that have no asynchronous form, at once; one that stalls keeps its thread."""


class _LibraryLoop:
    """One event loop in a daemon thread, started when it is first needed; a forked child starts its own."""

    def __init__(self, name: str = "sot_graph-loop") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._parents: list[asyncio.AbstractEventLoop] = []
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        self._lock = threading.Lock()
        if self._loop is not None:
            self._parents.append(self._loop)  # held: letting go of it would close what the parent still uses
            self._loop = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                # In a context of its own: the loop keeps the one that it is made in, and with it the first run's graph.
                self._loop = Context().run(asyncio.new_event_loop)
                self._loop.set_default_executor(DaemonThreads(_BLOCKING_CALLS))
                threading.Thread(target=_run, args=(self._loop,), name=self._name, daemon=True).start()
            return self._loop

    def tell(self, callback: Callable[[], object]) -> None:
        """Have the loop's thread call this soon. Takes no lock: a signal may come while its thread holds one."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """End what runs on the loop, and close what was opened there: at the process's end nothing is left behind."""
        loop = self._loop
        if loop is None or not loop.is_running():
            return
        with suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(_end_all(), loop).result(timeout=_CLOSING_SECONDS)


async def _end_all() -> None:
    """As `asyncio.run` does at its end: a generator that a task is still reading can't be shut down."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped. What a task raises to end a process ends the loop's turn, not the loop."""
    while True:
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit):  # on their way to the caller, whom the next turn tells
            continue
        return


_loops: list[_LibraryLoop] = [_LibraryLoop()]
"""The first is everybody's. What runs on one may well block it, as a join that invokes a graph of its own does: a call
from there goes to the next, because waiting for its own loop would never end."""


def _loop_at(depth: int) -> _LibraryLoop:
    while len(_loops) <= depth:
        _loops.append(_LibraryLoop(f"sot_graph-loop-{len(_loops)}"))
    return _loops[depth]


@atexit.register
def _close_loops() -> None:
    for loop in _loops:
        loop.close()


def tell_loops(callback: Callable[[], object]) -> None:
    """Have this called soon, in another thread; may be called by a signal handler."""
    for loop in _loops:
        loop.tell(callback)


class CancelScope:
    """Cancels what `run_sync` runs for one synchronous caller, who can't reach the threads that wait for it.

    A scope that is made within another one is cancelled with it.
    """

    def __init__(self) -> None:
        self._outer = _cancel_scope.get()
        self._lock = threading.RLock()  # a scope may be cancelled by a finalizer that runs while it is being used
        self._futures: set[Future[Any]] = set()
        self._reason: type[BaseException] | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """In here, calls of `run_sync` belong to the scope: those of threads that are given this context too."""
        token = _cancel_scope.set(self)
        try:
            yield
        finally:
            _cancel_scope.reset(token)

    @property
    def reason(self) -> type[BaseException] | None:
        """What `run_sync` raises for what was cancelled; `None`: it wasn't."""
        return self._reason or (self._outer.reason if self._outer is not None else None)

    def add(self, future: Future[Any]) -> None:
        """Take in a running coroutine; it is cancelled at once if the scope is."""
        with self._lock:
            self._futures.add(future)
        if self._outer is not None:
            self._outer.add(future)
        if self._reason is not None:
            future.cancel()

    def discard(self, future: Future[Any]) -> None:
        """Let go of a coroutine that has ended."""
        with self._lock:
            self._futures.discard(future)
        if self._outer is not None:
            self._outer.discard(future)

    def cancel(self, reason: type[BaseException] = asyncio.CancelledError) -> None:
        """Cancel everything that runs, and whatever begins later."""
        with self._lock:
            self._reason = self._reason or reason
            futures = list(self._futures)
        for future in futures:
            future.cancel()


_cancel_scope: ContextVar[CancelScope | None] = ContextVar("sot_graph_cancel_scope", default=None)


def run_in_own_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """`run_sync`, in a thread that was begun from one of the library's loops, but that the loop doesn't wait for."""
    _depth.set(0)
    return run_sync(coroutine)


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on the library's event loop; cancel it if the caller is interrupted.

    Context variables come along: the coroutine's task gets a copy of the caller's.
    """
    context = copy_context()
    depth = _depth.get()
    context.run(_depth.set, depth + 1)
    future = context.run(asyncio.run_coroutine_threadsafe, coroutine, _loop_at(depth).get())
    scope = _cancel_scope.get()
    if scope is not None:
        scope.add(future)
    try:
        return future.result()
    except BaseException as error:
        future.cancel()
        if scope is not None and scope.reason is not None and isinstance(error, concurrent.futures.CancelledError):
            # Not as it is: it is an `Exception`, after which a retry policy would have the node run again.
            raise scope.reason from None
        raise
    finally:
        if scope is not None:
            scope.discard(future)


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
