"""When the reader of a stream goes away: what runs for it is ended once, and in order.

Synchronous: LangGraph runs parallel nodes in threads, and waits for them before it hands on a Ctrl-C, before a stream
is closed, and (Python does that) before the process ends. So `closing_calls` cancels the model calls before LangGraph
begins to wait. Asynchronous: generators that read from one another have to be closed from the innermost outwards, and
a second cancellation must not end the clean-up that the first one began.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from sot_graph.concurrency import reset_after_fork
from sot_graph.concurrency.background_loop import CallerLeft, CancelScope, call_soon_in_loops, hold_task, take_outcome

T = TypeVar("T")

_read_apart: weakref.WeakSet[AsyncGenerator[Any]] = weakref.WeakSet()
"""The generators that `cancelled_once` has returned: each reads another one in a task of its own."""
_MOST_READY = 1000
"""How many pieces that are there already are dropped before a generator is closed all the same: one that never waits
would give pieces for ever."""
_TURNS = 8
"""How many turns of the event loop a piece may take on its way through the generators. After so many without one, the
innermost generator waits for its source."""


def closing_calls(parts: Iterator[T], convert: Callable[[T], T] | None = None) -> Generator[T]:
    """Hand on what `graph.stream` yields, converted, and close its model calls when the reader goes away.

    That is: on Ctrl-C, when this generator is closed or forgotten, and when the interpreter ends.
    """
    scope = CancelScope()
    logging.getLogger("concurrent.futures").addFilter(_is_worth_logging)  # which adds it once
    run = _parts_in_scope(parts, scope, convert)
    _exit_watch.add(run, scope)
    return run


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Whether a log's record says anything but this: the error of a node whose caller has left could not be stored.

    LangGraph stores a node's error by an executor, in a callback of the node's future. It shuts the executor down when
    the futures are done, before their callbacks have run, and so does the interpreter's end. The library's own nodes
    raise `GraphBubbleUp`, which isn't stored. A parent's nodes can't: a function there may catch it, and go on.
    """
    error = record.exc_info[1] if record.exc_info else None
    if not (isinstance(error, RuntimeError) and "cannot schedule new futures" in str(error)):
        return True
    while error is not None and not isinstance(error, CallerLeft):
        error = error.__cause__ or error.__context__
    return error is None


def _parts_in_scope(parts: Iterator[T], scope: CancelScope, convert: Callable[[T], T] | None) -> Generator[T]:
    with closing_once(parts):
        try:
            while True:
                with scope.entered(), cancelled_by_ctrl_c(scope):
                    try:
                        part = next(parts)
                    except StopIteration:
                        return
                    except Exception:
                        if scope.reason is not None:  # LangGraph raised because its nodes were cancelled
                            raise scope.reason from CallerLeft()
                        raise
                yield part if convert is None else convert(part)
        finally:
            scope.cancel()  # before `parts` is closed: that waits until the running nodes have ended


@contextmanager
def closing_once(parts: Iterator[T]) -> Iterator[Iterator[T]]:
    """Close a generator at the block's end, unless another thread is closing it, as when the interpreter ends."""
    try:
        yield parts
    finally:
        try:
            parts.close()  # type: ignore[attr-defined]
        except ValueError as error:
            if "already executing" not in str(error):
                raise


@contextmanager
def cancelled_by_ctrl_c(scope: CancelScope) -> Iterator[None]:
    """Have a SIGINT that interrupts the caller cancel the scope first, by a handler before the one that is there."""
    previous: Any = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            previous(number, frame)
        except BaseException:  # a handler that returns wants the work to go on
            # Cancel from another thread: the interrupted code may hold a lock that cancelling needs.
            call_soon_in_loops(scope.cancel)
            raise

    if callable(previous):
        with suppress(ValueError):  # another thread than the main one
            signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, previous)


class _ExitWatch:
    """Cancels the runs of the main and of daemon threads when the interpreter begins to exit.

    Python joins the threads of executors, LangGraph's among them, before it calls what is registered with `atexit`.
    Before it joins them it wakes them all, and an idle thread ends at once. So this keeps an idle thread, and takes its
    end as the signal.
    """

    def __init__(self) -> None:
        self.reset_in_child()
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        self._lock = threading.RLock()  # a generator that is forgotten may be finalized while it is held
        self._runs: weakref.WeakKeyDictionary[Generator[Any], CancelScope] = weakref.WeakKeyDictionary()
        self._idle: ThreadPoolExecutor | None = None

    def add(self, run: Generator[Any], scope: CancelScope) -> None:
        """Watch over a run, unless its thread is one that keeps the interpreter alive until it has ended."""
        thread = threading.current_thread()
        if not (thread.daemon or thread is threading.main_thread()):
            return
        with self._lock:
            self._runs[run] = scope
            if self._idle is None:
                self._idle = ThreadPoolExecutor(1, thread_name_prefix="sot_graph-exit")
                with suppress(RuntimeError):  # the interpreter is ending already
                    worker = self._idle.submit(threading.current_thread).result()
                    name = "sot_graph-exit-watch"
                    threading.Thread(target=self._cancel_runs_after, args=(worker,), name=name, daemon=True).start()

    def _cancel_runs_after(self, worker: threading.Thread) -> None:
        worker.join()
        with self._lock:
            runs = list(self._runs.items())
        for _, scope in runs:
            scope.cancel(SystemExit)  # which ends a thread without a word
        for run, _ in runs:
            with suppress(ValueError):  # it is running, in a daemon thread: then it has just been cancelled
                run.close()


_exit_watch = _ExitWatch()


async def ending_run_tasks(parts: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The same parts of a run's stream. When they end, or their reader leaves, so do the tasks of the run."""
    scope = CancelScope()
    try:
        async with aclosing(parts):
            while True:
                with scope.entered():
                    try:
                        part = await anext(parts)
                    except StopAsyncIteration:
                        return
                yield part
    finally:
        await scope.end_leftover_tasks()


def cancelled_once(parts: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The same parts, read in a task of its own that is cancelled once, however often the reader is.

    A web server cancels a request's tasks again at every turn of the event loop until they have ended (anyio's cancel
    scopes do). LangGraph cleans up after the first cancellation, and the second one ends the clean-up: its nodes, and
    the model calls in them, go on. A stream of a graph of `create_sot_graph` is read so already: it comes back as is.
    """
    if parts in _read_apart:
        return parts
    reader = _read_in_own_task(parts)
    _read_apart.add(reader)
    return reader


async def _read_in_own_task(parts: AsyncGenerator[T]) -> AsyncGenerator[T]:
    requests: asyncio.Queue[None] = asyncio.Queue()
    outcomes: asyncio.Queue[tuple[T, None] | tuple[None, BaseException]] = asyncio.Queue()

    async def read() -> None:
        async with aclosing(parts):
            try:
                while True:
                    await requests.get()
                    outcomes.put_nowait((await anext(parts), None))
            except BaseException as error:
                outcomes.put_nowait((None, error))
                if not isinstance(error, Exception):
                    raise

    reading = asyncio.create_task(read())
    reading.add_done_callback(take_outcome)  # what it raises is in `outcomes`
    try:
        while True:
            requests.put_nowait(None)
            part, error = await outcomes.get()
            if isinstance(error, StopAsyncIteration):
                return
            if error is not None:
                raise error
            yield part  # type: ignore[misc]
    finally:
        # Until it has ended it may use what its caller closes next, such as a checkpointer's connection.
        if not reading.done():
            hold_task(reading)
            reading.cancel()
            await asyncio.wait({reading})


@asynccontextmanager
async def closing_chain(pieces: AsyncGenerator[Any]) -> AsyncIterator[None]:
    """Close somebody's generator at the block's end, and those that it reads from.

    A hack, as long as LangChain's `astream` doesn't close what it reads from: `aclose()` ends the outermost generator
    only. The others, and with them the HTTP response, are left to the garbage collector, which closes each in a task of
    its own: at the loop's end they may be closed a second time. A cancellation is all that reaches each of them.
    """
    task: Any = asyncio.current_task()
    call_soon = asyncio.get_running_loop().call_soon
    own_cancellations = 0
    scheduled: Any = None

    def cancel(turns: int) -> None:
        nonlocal own_cancellations, scheduled
        if turns:
            scheduled = call_soon(cancel, turns - 1)
        else:
            own_cancellations += 1
            task.cancel()

    async with aclosing(pieces):
        try:
            yield
        finally:
            is_cancelled = task.cancelling()  # then every generator below has heard that already
            # Ask for the next piece, and cancel this task a few turns later, while it waits for that piece. Each
            # generator below then gets the CancelledError where it waits, and cleans up.
            for _ in range(0 if is_cancelled else _MOST_READY):
                scheduled = call_soon(cancel, _TURNS)
                try:
                    await anext(pieces)
                except (Exception, asyncio.CancelledError):  # noqa: BLE001  (nobody wants to know how it ends)
                    break
                finally:
                    scheduled.cancel()
                await asyncio.sleep(0)  # it was there already, as the next may be: others have their turn
            # Take our own cancellations back. What is left over is somebody else's.
            for _ in range(own_cancellations):
                task.uncancel()
            if task.cancelling() and not is_cancelled:
                raise asyncio.CancelledError  # by somebody else, at the same moment


async def run_to_end(call: Coroutine[Any, Any, Any]) -> None:
    """Run this to its end, however often whoever waits for it is cancelled."""
    running = asyncio.create_task(call)
    hold_task(running)
    await asyncio.wait({running})
