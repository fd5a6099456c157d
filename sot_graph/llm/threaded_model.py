"""A chat model by its synchronous methods, in threads, where its asynchronous client is bound to another event loop.

LangChain's classes for most providers make one asynchronous HTTP client, some one for all models of a process. It
works on the event loop that used it first, and a graph that runs synchronously has a loop of its own. The synchronous
client works in any thread.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import cache
from typing import Any

import openai
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_openai.chat_models.base import BaseChatOpenAI

from sot_graph.concurrency import reset_after_fork
from sot_graph.concurrency.background_loop import DaemonThreads, is_library_loop
from sot_graph.errors import causes_of, phrases_in

_CALLS_AT_ONCE = 1024
_WORKS_ON_ANY_LOOP = frozenset({"langchain_google_genai"})


class _CallSites:
    """Where models are called: on one event loop by their class's asynchronous client, and else in threads."""

    def __init__(self) -> None:
        self._loop_of: dict[type, weakref.ref[asyncio.AbstractEventLoop]] = {}
        self.reset_in_child()
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        self._lock = threading.Lock()
        self._threads = DaemonThreads(_CALLS_AT_ONCE)

    def claim(self, kind: type, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this loop may use the asynchronous client of a class: the first that asks may."""
        with self._lock:
            return self._loop_of.setdefault(kind, weakref.ref(loop))() is loop

    def submit(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Run this in a thread, in a copy of the caller's context."""
        return self._threads.submit(copy_context().run, call, *args, **kwargs)


_call_sites = _CallSites()


def for_loop(model: BaseChatModel, loop: asyncio.AbstractEventLoop) -> BaseChatModel:
    """The model as it can be used on this loop: as it is, or by its synchronous methods."""
    kind = type(model)
    if not _has_async_calls(kind) or not (overrides_sync_only(kind) or _is_loop_bound(model)):
        return model
    if not overrides_sync_only(kind) and not is_library_loop(loop) and _call_sites.claim(kind, loop):
        return model
    return in_threads(model)


def wrapped_for_loop(model: Runnable[Any, Any], loop: asyncio.AbstractEventLoop) -> Runnable[Any, Any]:
    """The same for models within `with_fallbacks` and `with_retry`."""
    if isinstance(model, BaseChatModel):
        return for_loop(model, loop)
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": wrapped_for_loop(model.bound, loop)})
    if isinstance(model, RunnableWithFallbacks):
        fallbacks = [wrapped_for_loop(each, loop) for each in model.fallbacks]
        return model.model_copy(update={"runnable": wrapped_for_loop(model.runnable, loop), "fallbacks": fallbacks})
    return model


def in_threads(model: BaseChatModel) -> BaseChatModel:
    """A copy of a model whose asynchronous methods call the synchronous ones in threads."""
    kind = _class_in_threads(type(model))
    copy = kind.__new__(kind)
    # As pydantic's own copies are made: the fields are not validated again, and clients are shared.
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        value = getattr(model, name, None)
        object.__setattr__(copy, name, dict(value) if isinstance(value, dict) else value)
    return copy


def without_retries(model: BaseChatOpenAI) -> BaseChatOpenAI:
    """The same model by its own synchronous client, whose settings of the transport are the caller's."""
    if not isinstance(model.root_client, openai.OpenAI):
        return model
    root = model.root_client.copy(max_retries=0)
    return model.model_copy(update={"root_client": root, "client": root.chat.completions})


def is_of_another_loop(error: BaseException) -> bool:
    """Whether a call failed because its client is bound to another event loop."""
    return any(isinstance(link, RuntimeError) and "other loop" in phrases_in(link) for link in causes_of(error))


def overrides_sync_only(kind: type) -> bool:
    """Whether a class overrides `_generate` or `_stream` alone, so that the asynchronous methods know nothing of it."""
    return any(
        _place(kind, sync) < _place(kind, asynchronous)
        for sync, asynchronous in (("_generate", "_agenerate"), ("_stream", "_astream"))
    ) and _has_async_calls(kind)


def _place(kind: type, method: str) -> int:
    """How far up among a class's bases a method is defined."""
    return next(place for place, base in enumerate(kind.__mro__) if method in vars(base))


def _has_async_calls(kind: type) -> bool:
    return any(getattr(kind, name) is not getattr(BaseChatModel, name) for name in ("_agenerate", "_astream"))


def _is_loop_bound(model: BaseChatModel) -> bool:
    """Whether there is an asynchronous client in it, or it is of a package that keeps one elsewhere."""
    packages = {base.__module__.partition(".")[0] for base in type(model).__mro__} - {"langchain_core"}
    if packages & _WORKS_ON_ANY_LOOP:
        return False
    if any(package.startswith("langchain_") for package in packages):
        return True
    held: Mapping[str, Any] = {**vars(model), **(model.__pydantic_private__ or {})}
    return any("Async" in base.__name__ for value in held.values() for base in type(value).__mro__)


async def _generate_in_thread(
    self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
) -> ChatResult:
    told = run_manager.get_sync() if run_manager else None
    result: ChatResult = await asyncio.wrap_future(_call_sites.submit(self._generate, messages, stop, told, **kwargs))
    return result


async def _stream_in_thread(
    self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
) -> AsyncIterator[ChatGenerationChunk]:
    told = run_manager.get_sync() if run_manager else None
    pieces = self._stream(messages, stop, told, **kwargs)
    reading: Future[Any] | None = None
    try:
        while True:
            reading = _call_sites.submit(next, pieces, None)
            # Shielded: a thread can't be cancelled, and what it still reads is closed when it is there.
            piece = await asyncio.shield(asyncio.wrap_future(reading))
            if piece is None:
                return
            yield piece
    finally:
        if reading is not None:
            reading.add_done_callback(lambda _: _close(pieces))


def _close(pieces: Any) -> None:
    with suppress(Exception):  # nobody is there to be told
        pieces.close()


@cache
def _class_in_threads(kind: type[BaseChatModel]) -> type[BaseChatModel]:
    """A class of the same name: callbacks and traces tell what the caller's model is."""
    streams = kind._stream is not BaseChatModel._stream
    methods = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "_agenerate": _generate_in_thread,
        "_astream": _stream_in_thread if streams else BaseChatModel._astream,
    }
    made: type[BaseChatModel] = type(kind)(kind.__name__, (kind,), methods)  # type: ignore[misc]
    return made
