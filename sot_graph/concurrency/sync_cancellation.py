"""When a synchronous caller goes away: their model calls are closed, which LangGraph alone would wait for.

LangGraph runs parallel nodes in threads, and waits for them before it hands on a Ctrl-C, before a stream is closed,
and (Python does that) before the process ends. So the calls have to be cancelled before it begins to wait.
"""

from __future__ import annotations

import logging
import signal
import threading
import weakref
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from sot_graph.concurrency import reset_after_fork
from sot_graph.concurrency.background_loop import CallerLeft, CancelScope, call_soon_in_loops

T = TypeVar("T")


def closing_calls(parts: Iterator[T]) -> Generator[T]:
    """Hand on what `graph.stream` yields, and close its model calls when the reader goes away.

    That is: on Ctrl-C, when this generator is closed or forgotten, and when the interpreter ends.
    """
    scope = CancelScope()
    logging.getLogger("concurrent.futures").addFilter(_is_news)  # which adds it once
    run = _parts_in_scope(parts, scope)
    _exit_watch.add(run, scope)
    return run


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a log's record says anything but this: the error of a node whose caller has left could not be stored.

    LangGraph stores a node's error by an executor, in a callback of the node's future. It shuts the executor down when
    the futures are done, before their callbacks have run, and so does the interpreter's end. The library's own nodes
    raise what isn't stored. A parent's nodes can't: it is an `Exception`, and a function may answer it by another call.
    """
    error = record.exc_info[1] if record.exc_info else None
    if not (isinstance(error, RuntimeError) and "cannot schedule new futures" in str(error)):
        return True
    while error is not None and not isinstance(error, CallerLeft):
        error = error.__cause__ or error.__context__
    return error is None


def _parts_in_scope(parts: Iterator[T], scope: CancelScope) -> Generator[T]:
    with closing_once(parts):
        try:
            while True:
                with scope.entered(), _cancelled_by_ctrl_c(scope):
                    try:
                        part = next(parts)
                    except StopIteration:
                        return
                    except Exception:
                        if scope.reason is not None:  # LangGraph raised because its nodes were cancelled
                            raise scope.reason from CallerLeft()
                        raise
                yield part
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
def _cancelled_by_ctrl_c(scope: CancelScope) -> Iterator[None]:
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
