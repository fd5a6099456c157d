"""Code that users hand in, such as an expander or a router, runs apart: it can neither end a run nor hold it up."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from sot_graph._seams import abandon_tasks
from sot_graph.concurrency.background_loop import hold_task, take_outcome

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

T = TypeVar("T")

logger = logging.getLogger("sot_graph")

_GRACE_SECONDS = 0.2
"""What a call that is cancelled has to clean up in. Then nobody waits for it any more."""
_GOES_ON = (
    "%s goes on %.3g s after it was cancelled. It is left to itself; nothing that it still does counts. Where it "
    "catches asyncio.CancelledError, have it raise that again, or clean up faster."
)

_calls: ContextVar[tuple[object, ...]] = ContextVar("sot_graph_isolated_calls", default=())
"""The isolated calls that the running code is in. They nest, since an expander may run another graph, and the tasks
that are started inside inherit them."""


class IsolatedCallError(Exception):
    """Somebody's code was ended by what would have ended more than itself: `what`, such as "raised SystemExit(1)"."""

    def __init__(self, what: str | BaseException) -> None:
        self.what = what if isinstance(what, str) else f"raised {what!r}"
        super().__init__(f"it {self.what}")


async def run_isolated(call: Awaitable[T], whose: str) -> T:
    """Wait for somebody's code. Where this is cancelled, so is the call; one that goes on all the same is abandoned.

    `whose` names it in the warning about that.

    Raises:
        IsolatedCallError: It was cancelled from within, or raised what is meant to end a task or the process, but
            for Ctrl-C.
        Exception: The call's own.
    """
    context, mark = copy_context(), object()
    context.run(_calls.set, (*_calls.get(), mark))
    running = asyncio.create_task(exit_as_error(call), context=context)
    try:
        await asyncio.wait({running})
    except asyncio.CancelledError:
        running.cancel()
        try:
            await asyncio.wait({running}, timeout=_GRACE_SECONDS)
        finally:
            if running.done():
                take_outcome(running)
            else:
                for task in {running, *abandon_tasks(lambda context: mark in context.get(_calls, ()))}:
                    hold_task(task)
                logger.warning(_GOES_ON, whose, _GRACE_SECONDS)
        raise
    try:
        return running.result()
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        what = "was cancelled from within" if isinstance(error, asyncio.CancelledError) else error
        raise IsolatedCallError(what) from error


async def exit_as_error(call: Awaitable[T]) -> T:
    """Return the call's result. A `SystemExit`, which would stop the event loop, becomes an `IsolatedCallError`."""
    try:
        return await call
    except SystemExit as error:
        raise IsolatedCallError(error) from error


def in_new_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run somebody's code that may block in a thread of its own.

    The event loop's own threads are few, and waited for at the loop's end: code that never comes back would hold up
    what else needs one, and then the exit.

    Raises:
        IsolatedCallError: It raised what can't be raised again here, `StopIteration` among it.
        Exception: Its own.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    context = copy_context()

    def run() -> None:
        try:
            settled: tuple[Callable[[Any], object], Any] = done.set_result, context.run(work)
        except BaseException as error:  # noqa: BLE001  (raised again where it is awaited)
            # A future takes no StopIteration, and what ends a process or a task is only its failure here.
            can_be_raised = isinstance(error, (Exception, KeyboardInterrupt)) and not isinstance(error, StopIteration)
            settled = done.set_exception, error if can_be_raised else IsolatedCallError(error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: done.done() or settled[0](settled[1]))

    threading.Thread(target=run, name="sot_graph-user", daemon=True).start()
    return done


async def call_in_new_thread(function: Callable[..., Any], *given: Any) -> Any:
    """Call somebody's function in a thread of its own. What it gives may be awaitable: that is awaited here."""
    called = in_new_thread(partial(function, *given))
    try:
        result = await asyncio.shield(called)
    except asyncio.CancelledError:
        called.add_done_callback(_close_coroutine)
        raise
    return await result if inspect.isawaitable(result) else result


def _close_coroutine(called: asyncio.Future[Any]) -> None:
    """Of a call that nobody waits for any more: a coroutine that is never begun would be warned of."""
    if called.exception() is None and isinstance(called.result(), Coroutine):
        called.result().close()


async def call_user_code(code: Any, given: Any, config: RunnableConfig) -> Any:
    """Call somebody's Runnable, or callable of one argument, synchronous or not: it is traced, and may block."""
    # Imported here: those who ask no models needn't wait for it.
    from langchain_core.runnables import Runnable, RunnableLambda
    from langchain_core.runnables.utils import is_async_callable

    if not isinstance(code, Runnable):
        code = RunnableLambda(_with_exit_as_error(code) if is_async_callable(code) else code)
    is_lambda = isinstance(code, RunnableLambda)
    is_sync = not hasattr(code, "afunc") if is_lambda else type(code).ainvoke is Runnable.ainvoke
    if is_sync:  # its `ainvoke` would put its `invoke` into one of the event loop's few threads
        return await call_in_new_thread(code.invoke, given, config)
    return await code.ainvoke(given, config)


def _with_exit_as_error(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The same for LangChain, which runs it in a task: one that raises `SystemExit` ends the loop."""

    @wraps(function)
    async def call(given: Any, **more: Any) -> Any:
        return await exit_as_error(function(given, **more))

    return call
