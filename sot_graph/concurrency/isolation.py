"""A caller's own code, such as an expander or a router, runs apart: it can neither end a run nor hold it up."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from sot_graph._seams import abandon_tasks
from sot_graph.concurrency.background_loop import CancelScope

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
_read_apart: WeakSet[AsyncGenerator[Any]] = WeakSet()
"""The generators that `cancelled_once` has returned: each reads another one in a task of its own."""
_MOST_READY = 1000
"""How many pieces that are there already are dropped before a generator is closed all the same: one that never waits
would give pieces for ever."""
_TURNS = 8
"""How many turns of the event loop a piece may take on its way through the generators. After so many without one, the
innermost generator waits for its source."""
_held_tasks: set[asyncio.Task[Any]] = set()
"""Tasks that may outlive whoever began them. They are held here, since loops hold their tasks weakly."""


class IsolatedCallError(Exception):
    """Somebody's code was ended by what would have ended more than itself: `what`, such as "raised SystemExit(1)"."""

    def __init__(self, what: str | BaseException) -> None:
        self.what = what if isinstance(what, str) else f"raised {what!r}"
        super().__init__(f"it {self.what}")


async def run_isolated(call: Awaitable[T], whose: str) -> T:
    """Wait for somebody's code. Where this is cancelled, so is the call; one that goes on all the same is abandoned.

    `whose` names it in the warning about that.

    Raises:
        IsolatedCallError: It was cancelled from within, or raised what is meant to end a task or the process.
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
                _take_outcome(running)
            else:
                for task in {running, *abandon_tasks(lambda context: mark in context.get(_calls, ()))}:
                    _hold(task)
                logger.warning(_GOES_ON, whose, _GRACE_SECONDS)
        raise
    try:
        return running.result()
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        what = "was cancelled from within" if isinstance(error, asyncio.CancelledError) else error
        raise IsolatedCallError(what) from error


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
        await scope.cancel_tasks_once()


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
            _hold(reading)
            reading.cancel()
            await asyncio.wait({reading})


@asynccontextmanager
async def closing_chain(pieces: AsyncGenerator[Any]) -> AsyncIterator[None]:
    """Close somebody's generator at the block's end, and those that it reads from.

    A generator that is closed where it stands leaves those below it to the garbage collector, which closes one after
    the other in tasks of their own: at the loop's end they may be closed a second time.
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
    _hold(running)
    await asyncio.wait({running})


async def exit_as_error(call: Awaitable[T]) -> T:
    """Return the call's result. A `SystemExit`, which would stop the event loop, becomes an `IsolatedCallError`."""
    try:
        return await call
    except SystemExit as error:
        raise IsolatedCallError(error) from error


def in_own_thread(work: Callable[[], T]) -> asyncio.Future[T]:
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

    threading.Thread(target=run, name="sot_graph-own", daemon=True).start()
    return done


async def call_in_own_thread(function: Callable[..., Any], *given: Any) -> Any:
    """Call somebody's function in a thread of its own. What it gives may be awaitable: that is awaited here."""
    called = in_own_thread(partial(function, *given))
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


async def call_own_code(code: Any, given: Any, config: RunnableConfig) -> Any:
    """Call somebody's Runnable, or callable of one argument, synchronous or not: it is traced, and may block."""
    # Imported here: those who ask no models needn't wait for it.
    from langchain_core.runnables import Runnable, RunnableLambda
    from langchain_core.runnables.utils import is_async_callable

    if not isinstance(code, Runnable):
        code = RunnableLambda(_with_exit_as_error(code) if is_async_callable(code) else code)
    # Its `ainvoke` would put its `invoke` into one of the event loop's few threads.
    has_no_async = type(code).ainvoke is Runnable.ainvoke
    if (not hasattr(code, "afunc")) if isinstance(code, RunnableLambda) else has_no_async:
        return await call_in_own_thread(code.invoke, given, config)
    return await code.ainvoke(given, config)


def _with_exit_as_error(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The same for LangChain, which runs it in a task: one that raises `SystemExit` ends the loop."""

    @wraps(function)
    async def call(given: Any, **more: Any) -> Any:
        return await exit_as_error(function(given, **more))

    return call


def _hold(task: asyncio.Task[Any]) -> None:
    _held_tasks.add(task)
    task.add_done_callback(_take_outcome)


def _take_outcome(task: asyncio.Task[Any]) -> None:
    """Read the exception of a task that nobody waits for: asyncio logs one that nobody has read."""
    _held_tasks.discard(task)
    if not task.cancelled():
        task.exception()
