"""Where coroutines run, and which HTTP client a model uses there.

Two facts shape this module. A thread can't be cancelled, so the synchronous half of the graph runs the same
coroutines on one event loop that the library owns. And an async HTTP client belongs to the loop that first
used it, so an OpenAI-compatible model gets a client of its own for every loop.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import ssl
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2
import openai
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_openai.chat_models.base import BaseChatOpenAI

from sot_graph.caching import model_fingerprint
from sot_graph.models.scrubbing import secrets_of

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["CancelScope", "LoopModel", "run_in_own_thread", "run_sync"]

T = TypeVar("T")

_inside: ContextVar[bool] = ContextVar("sot_graph_inside_library_loop", default=False)

_CLOSING_SECONDS = 2.0
_KEEPALIVE_SECONDS = 2.0
"""Local servers close idle connections after about five: let go of ours before a request can meet that."""


class _LibraryLoop:
    """One event loop in a daemon thread, started when it is first needed; a forked child starts its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                # In a context of its own: the loop keeps the one that it is made in, and with it the first run's graph.
                self._loop = Context().run(asyncio.new_event_loop)
                self._pid = os.getpid()
                threading.Thread(target=_run, args=(self._loop,), name="sot_graph-loop", daemon=True).start()
            return self._loop

    def close(self) -> None:
        """Close what was opened on the loop: at the process's end nothing is left behind for a warning."""
        loop = self._loop
        if loop is None or self._pid != os.getpid() or not loop.is_running():
            return
        with suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result(timeout=_CLOSING_SECONDS)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped. What a task raises to end a process ends the loop's turn, not the loop."""
    while True:
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit):  # on their way to the caller, whom the next turn tells
            continue
        return


_library_loop = _LibraryLoop()
atexit.register(_library_loop.close)


class CancelScope:
    """Cancels what `run_sync` runs for one synchronous caller, who can't reach the threads that wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: set[Future[Any]] = set()
        self._cancelled = False

    def enter(self) -> None:
        """From here on, calls of `run_sync` in this context belong to the scope."""
        _cancel_scope.set(self)

    def add(self, future: Future[Any]) -> None:
        """Take in a running coroutine; it is cancelled at once if the scope is."""
        with self._lock:
            self._futures.add(future)
            cancelled = self._cancelled
        if cancelled:
            future.cancel()

    def discard(self, future: Future[Any]) -> None:
        """Let go of a coroutine that has ended."""
        with self._lock:
            self._futures.discard(future)

    def cancel(self) -> None:
        """Cancel everything that runs, and whatever begins later."""
        with self._lock:
            self._cancelled = True
            futures = list(self._futures)
        for future in futures:
            future.cancel()


_cancel_scope: ContextVar[CancelScope | None] = ContextVar("sot_graph_cancel_scope", default=None)


def run_in_own_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """`run_sync`, in a thread that was begun from the library's loop, but that the loop doesn't wait for."""
    _inside.set(False)
    return run_sync(coroutine)


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on the library's event loop; cancel it if the caller is interrupted.

    Context variables come along: the coroutine's task gets a copy of the caller's.
    """
    context = copy_context()
    if _inside.get():
        # Called, maybe by way of other threads, by what runs on the library's loop and may well be blocking it, such
        # as a join that invokes a graph of its own: waiting for that loop would never end.
        return _run_in_thread(coroutine, context)
    context.run(_inside.set, True)
    future = context.run(asyncio.run_coroutine_threadsafe, coroutine, _library_loop.get())
    scope = _cancel_scope.get()
    if scope is not None:
        scope.add(future)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
    finally:
        if scope is not None:
            scope.discard(future)


def _run_in_thread(coroutine: Coroutine[Any, Any, T], context: Context) -> T:
    result: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            result.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001  (raised again below, in the caller's thread)
            failure.append(error)

    thread = threading.Thread(target=context.run, args=(target,), name="sot_graph-nested")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


class LoopModel:
    """A chat model that may be used on any number of event loops.

    OpenAI-compatible models get, for each loop, a copy with an HTTP client of its own, without the client's
    hidden retries (the graph repeats and counts calls itself). A model with an `http_async_client` of the
    caller's keeps that client, and is then bound to one loop. Other models are used as they are.

    Args:
        model: A chat model, or one wrapped by `bind` or `with_config`.
    """

    def __init__(self, model: Runnable[Any, Any]) -> None:
        self.model = model
        self.fingerprint = model_fingerprint(model)
        self.chunk_timeout = _chunk_timeout(model)
        """Seconds that the model's own settings allow between two pieces of a streamed reply; `None`: no limit."""
        self.secrets = secrets_of(model)
        self._lock = threading.Lock()
        self._copies: MutableMapping[asyncio.AbstractEventLoop, Runnable[Any, Any]] = weakref.WeakKeyDictionary()

    async def here(self) -> Runnable[Any, Any]:
        """The model to use on the running loop."""
        loop = asyncio.get_running_loop()
        copy = self._copies.get(loop)
        if copy is None:
            with self._lock:
                copy = self._copies.get(loop)
                if copy is None:
                    copy, client = _copy_for_loop(self.model)
                    self._copies[loop] = copy
                else:
                    client = None
            if client is not None:
                await _close_with_loop(client)
                weakref.finalize(self, _close_soon, client, weakref.ref(loop)).atexit = False
        return copy


def _copy_for_loop(model: Runnable[Any, Any]) -> tuple[Runnable[Any, Any], openai.AsyncOpenAI | None]:
    """A model's copy for one loop, and the client that has to be closed with the loop."""
    if isinstance(model, RunnableBinding):
        bound, client = _copy_for_loop(model.bound)
        return (model if bound is model.bound else model.model_copy(update={"bound": bound})), client
    if not isinstance(model, BaseChatOpenAI) or not isinstance(model.root_async_client, openai.AsyncOpenAI):
        return model, None
    if model.http_async_client is not None:
        root = model.root_async_client.copy(max_retries=0)
        own = None
    else:
        root = own = model.root_async_client.copy(max_retries=0, http_client=_http_client(model.openai_proxy))
    # Python 3.11's `wait_for`, by which LangChain awaits each piece of a reply, forgets a cancellation that comes
    # together with one, be it that of a timeout: `ModelCall` keeps this limit in its place.
    changes = {"root_async_client": root, "async_client": root.chat.completions, "stream_chunk_timeout": None}
    return model.model_copy(update=changes), own


def _chunk_timeout(model: Runnable[Any, Any]) -> float | None:
    while isinstance(model, RunnableBinding):
        model = model.bound
    return (model.stream_chunk_timeout or None) if isinstance(model, BaseChatOpenAI) else None


def _http_client(proxy: str | None) -> openai.DefaultAsyncHttpxClient:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=1000, keepalive_expiry=_KEEPALIVE_SECONDS)
    return openai.DefaultAsyncHttpxClient(verify=_ssl_context(), limits=limits, proxy=proxy)


@cache
def _ssl_context() -> ssl.SSLContext:
    """Loading the certificates takes 50 ms of a core: once a process, not once a client."""
    return httpx2.create_ssl_context()


async def _close_with_loop(client: openai.AsyncOpenAI) -> None:
    """Close the client when the running loop shuts its async generators down, as `asyncio.run` does."""

    async def closing() -> AsyncIterator[None]:
        try:
            yield
        finally:
            client.__dict__.pop("_sot_graph_closing", None)  # a generator holds its loop, which would never be let go
            await client.close()

    generator = closing()
    await anext(generator)
    # Only a generator that somebody holds is still there to be shut down.
    client.__dict__["_sot_graph_closing"] = generator


def _close_soon(client: openai.AsyncOpenAI, loop: weakref.ref[asyncio.AbstractEventLoop]) -> None:
    """Close the client of a model that nobody holds any more, on the loop that it belongs to."""
    running = loop()
    if running is not None and running.is_running():
        asyncio.run_coroutine_threadsafe(client.close(), running)
