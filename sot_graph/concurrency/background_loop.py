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
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

from sot_graph.concurrency import reset_after_fork

P = ParamSpec("P")
T = TypeVar("T")

_depth: ContextVar[int] = ContextVar("sot_graph_loop_depth", default=0)
"""How many of the library's loops the running code is on: 0 for a caller's own."""

_CLOSING_SECONDS = 2.0
MOST_BLOCKING_CALLS = 1024
"""Calls at once of models that have no asynchronous methods. One that stalls keeps its thread."""


class _LibraryLoop:
    """One event loop in a daemon thread, started when it is first needed; a forked child starts its own."""

    def __init__(self, name: str = "sot_graph-loop") -> None:
        self.running: asyncio.AbstractEventLoop | None = None
        self._name = name
        self._lock = threading.Lock()
        self._parents: list[asyncio.AbstractEventLoop] = []  # of the processes that this one was forked from
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        self._lock = threading.Lock()
        if self.running is not None:
            self._parents.append(self.running)  # held: letting go of it would close what the parent still uses
            self.running = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self.running is None:
                # In a context of its own: the loop keeps the one that it is made in, and with it the first run's graph.
                self.running = Context().run(asyncio.new_event_loop)
                self.running.set_default_executor(DaemonThreads(MOST_BLOCKING_CALLS))
                threading.Thread(target=_run, args=(self.running,), name=self._name, daemon=True).start()
            return self.running


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped. What a task raises to end a process ends the loop's turn, not the loop."""
    while True:
        with suppress(KeyboardInterrupt, SystemExit):  # on their way to the caller, whom the next turn tells
            return loop.run_forever()


_loops: list[_LibraryLoop] = [_LibraryLoop()]
"""Calls use the first loop. Code on a loop may block it, as a join does that invokes another graph. So a call from a
loop uses the next one: waiting for its own would never end."""


def is_library_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is one of the library's own loops, on which the runs of synchronous callers run."""
    return any(each.running is loop for each in _loops)


@atexit.register
def _close_loops() -> None:
    """End what runs on the loops when the process ends, and close what was opened there."""
    for loop in [each.running for each in _loops if each.running is not None and each.running.is_running()]:
        with suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(_cancel_all_tasks(), loop).result(timeout=_CLOSING_SECONDS)


async def _cancel_all_tasks() -> None:
    """As `asyncio.run` does at its end: a generator that a task is still reading can't be shut down."""
    await end_tasks(*(asyncio.all_tasks() - {asyncio.current_task()}))
    await asyncio.get_running_loop().shutdown_asyncgens()


def call_soon_in_loops(callback: Callable[[], object]) -> None:
    """Have this called soon in every loop's thread, as one of them may be blocked: several calls must do no harm.

    A signal handler may call this. So it takes no lock: the thread that the signal came to may hold it.
    """
    for loop in filter(None, [each.running for each in _loops]):
        loop.call_soon_threadsafe(callback)


_cancel_scopes: ContextVar[tuple[CancelScope, ...]] = ContextVar("sot_graph_cancel_scopes", default=())
"""The scopes that the running code is in, the innermost first."""


class CallerLeft(asyncio.CancelledError):
    """What `run_sync` raises in place of a result, in threads of a caller who has left. No retry policy acts on it."""


@dataclass(eq=False)
class CancelScope:
    """Cancels what runs for one caller: what `run_sync` runs, whose waiting threads nobody can reach, and run tasks.

    A scope that is made within another one is cancelled with it. It has no lock, for a finalizer may cancel it at any
    moment: whoever adds a future looks at the reason afterwards, whoever cancels sets the reason first.
    """

    futures: set[Future[Any]] = field(default_factory=set)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    """Those of `create_run_task`: between two of LangGraph's steps no node holds them."""
    _around: tuple[CancelScope, ...] = field(default_factory=_cancel_scopes.get)
    _reason: type[BaseException] | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """In here, calls of `run_sync` belong to the scope: those of threads that are given this context too."""
        token = _cancel_scopes.set((self, *self._around))
        try:
            yield
        finally:
            _cancel_scopes.reset(token)

    @property
    def reason(self) -> type[BaseException] | None:
        """What the run of a graph raises; `None`: nothing is cancelled."""
        return next((scope._reason for scope in (self, *self._around) if scope._reason is not None), None)

    def cancel(self, reason: type[BaseException] = asyncio.CancelledError) -> None:
        """Cancel everything that runs, and whatever begins later."""
        self._reason = self._reason or reason
        for future in self.futures.copy():
            future.cancel()
        for task in self.tasks.copy():
            with suppress(RuntimeError):  # its loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def end_leftover_tasks(self) -> None:
        """A run is over whose reader is on this loop: LangGraph has ended its nodes, and this ends what is left.

        Where the reader is cancelled while it waits here, it leaves, and nothing disturbs the tasks' clean-up.
        """
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks.copy())


def create_run_task(call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that may outlive the node which begins it, but not the run."""
    task = asyncio.create_task(call)
    if scopes := _cancel_scopes.get():
        scopes[0].tasks.add(task)
        task.add_done_callback(scopes[0].tasks.discard)
        if scopes[0].reason is not None:
            task.cancel()
    return task


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel these, and wait until they have ended. What became of them is nobody's concern.

    Where this is cancelled, they are cancelled again.
    """
    begun = [task for task in tasks if task is not None]
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


_held_tasks: set[asyncio.Task[Any]] = set()
"""Tasks that may outlive whoever began them. They are held here, since loops hold their tasks weakly."""


def hold_task(task: asyncio.Task[Any]) -> None:
    """Keep a task alive until it has ended, and let nobody be warned of how it does."""
    _held_tasks.add(task)
    task.add_done_callback(take_outcome)


def take_outcome(task: asyncio.Task[Any]) -> None:
    """Read the exception of a task that nobody waits for: asyncio logs one that nobody has read."""
    _held_tasks.discard(task)
    if not task.cancelled():
        task.exception()


def run_sync_from_worker(coroutine: Coroutine[Any, Any, T]) -> T:
    """`run_sync` for a thread that code on a loop has started: it uses that same loop, which goes on meanwhile.

    That is one depth less than the thread has from that code. `run_sync` alone would take the next loop, and the first
    one may be blocked, as by a join that invokes another graph.
    """
    _depth.set(max(0, _depth.get() - 1))
    return run_sync(coroutine)


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on the library's event loop; cancel it if the caller is interrupted.

    Context variables come along: the coroutine's task gets a copy of the caller's.
    """
    context = copy_context()
    depth = _depth.get()
    while len(_loops) <= depth:
        _loops.append(_LibraryLoop(f"sot_graph-loop-{len(_loops)}"))
    context.run(_depth.set, depth + 1)
    future = context.run(asyncio.run_coroutine_threadsafe, coroutine, _loops[depth].get())
    scopes = _cancel_scopes.get()
    for scope in scopes:
        scope.futures.add(future)
    try:
        if scopes and scopes[0].reason is not None:
            future.cancel()
        return future.result()
    except BaseException as error:
        future.cancel()
        if isinstance(error, concurrent.futures.CancelledError) and scopes and scopes[0].reason is not None:
            raise CallerLeft from None
        raise
    finally:
        for scope in scopes:
            scope.futures.discard(future)


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
            self._waiting.append((future, partial(fn, *args, **kwargs)))
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif self._running < self._width:
                self._running += 1
                threading.Thread(target=self._work, name="sot_graph-worker", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._idle += 1
                    was_told = self._changed.wait(_IDLE_SECONDS)
                    self._idle -= 1
                    if not (was_told or self._waiting):
                        self._running -= 1
                        return
                future, call = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001  (raised again in whoever waits for it)
                    future.set_exception(error)
            del future, call  # nothing of it is held while the thread is idle
