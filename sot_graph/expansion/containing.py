"""An expander's call in a task of its own: whatever it does there, it ends neither the run nor holds it up."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

from sot_graph.expansion.outputs import ExpanderError

__all__ = ["GRACE_SECONDS", "contained", "without_exit"]

T = TypeVar("T")

GRACE_SECONDS = 0.2
"""What a call that is cancelled has to clean up in. Then nobody waits for it any more."""


async def contained(call: Coroutine[Any, Any, T], on_left: Callable[[], None]) -> T:
    """What a call gives. Where this is cancelled, so is the call; one that goes on all the same is left to itself.

    Args:
        call: The expander's.
        on_left: Called when the call is left to itself.

    Raises:
        ExpanderError: It was cancelled from within, or raised what is meant to end a task or the process.
        Exception: The call's own.
    """
    context, mark = copy_context(), object()
    context.run(_calls.set, (*_calls.get(), mark))
    running = asyncio.create_task(without_exit(call), context=context)
    try:
        await asyncio.wait({running})
    except asyncio.CancelledError:
        running.cancel()
        try:
            await asyncio.wait({running}, timeout=GRACE_SECONDS)
        finally:
            if running.done():
                _hear(running)
            else:
                _leave(mark)
                on_left()
        raise
    try:
        return running.result()
    except asyncio.CancelledError as error:
        message = "the expander was cancelled from within"
        raise ExpanderError(message) from error
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ExpanderError.of_raised(error) from error


async def without_exit(call: Awaitable[T]) -> T:
    """What a call gives. A `SystemExit` of its own is an error: a task hands it on to its loop, which ends.

    Raises:
        ExpanderError: It would have ended the process.
        Exception: The call's own.
    """
    try:
        return await call
    except SystemExit as error:
        raise ExpanderError.of_raised(error) from error


_calls: ContextVar[tuple[object, ...]] = ContextVar("sot_graph_expander_calls", default=())
"""The calls that the running code is part of, an expander's graph within an expander's call included. What it begins
inherits this."""

_left: set[asyncio.Task[Any]] = set()
"""Loops hold their tasks weakly."""


def _leave(call: object) -> None:
    """Leave a call's tasks to themselves until they end, or their loop does: `asyncio.run` would wait for them."""
    for task in asyncio.all_tasks():
        if call in _context_of(task).get(_calls, ()):
            _left.add(task)
            task.add_done_callback(_hear)
            # A loop's end waits for the tasks that are registered.
            asyncio._unregister_task(task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]


def _context_of(task: asyncio.Task[Any]) -> Context:
    if sys.version_info >= (3, 12):
        return task.get_context()
    return next((held for held in gc.get_referents(task) if isinstance(held, Context)), Context())


def _hear(task: asyncio.Task[Any]) -> None:
    """Take what became of a task that nobody waits for: asyncio logs an exception that nobody takes."""
    _left.discard(task)
    if not task.cancelled():
        task.exception()
