"""Which HTTP client a model uses on an event loop.

An async HTTP client belongs to the loop that first used it, so an OpenAI-compatible model gets a client of its own for
every loop.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import openai
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langchain_openai.chat_models.base import BaseChatOpenAI

from sot_graph.caching import model_fingerprint
from sot_graph.forking import reset_after_fork
from sot_graph.limiting import CallLimiter
from sot_graph.models.clients import MOST_CONNECTIONS, for_one_loop
from sot_graph.models.completions import Replies
from sot_graph.models.inlining import reading_in_place
from sot_graph.models.shaping import shape_for
from sot_graph.observability.redaction import secrets_of

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["LoopModel"]

_READ_DICTIONARIES = {ChatOpenAI, AzureChatOpenAI}
"""Of these it is known that they need no typed replies; a class below them may read fields of its provider's."""


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
        # As many as there are connections: a call that would wait for one is not even prepared, which takes some 25 kB.
        self.gate = CallLimiter(MOST_CONNECTIONS)
        self.chunk_timeout = _chunk_timeout(model)
        """Seconds that the model's own settings allow between two pieces of a streamed reply; `None`: no limit."""
        self.secrets = secrets_of(model)
        self.shape = shape_for(model)
        """What is made of every prompt."""
        self._copies: MutableMapping[asyncio.AbstractEventLoop, Runnable[Any, Any]] = weakref.WeakKeyDictionary()
        self.reset_in_child()
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        """Not the copies: they belong to loops, and a forked child has its own."""
        self._lock = threading.Lock()

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
                closed = _ClosedWithLoop(client, loop)
                await closed.wait()
                closed.model_gone = weakref.finalize(self, closed.close_soon)
                closed.model_gone.atexit = False
        return copy


def _copy_for_loop(model: Runnable[Any, Any]) -> tuple[Runnable[Any, Any], openai.AsyncOpenAI | None]:
    """A model's copy for one loop, and the client that has to be closed with the loop."""
    if isinstance(model, RunnableBinding):
        bound, client = _copy_for_loop(model.bound)
        return (model if bound is model.bound else model.model_copy(update={"bound": bound})), client
    if not isinstance(model, BaseChatOpenAI) or not isinstance(model.root_async_client, openai.AsyncOpenAI):
        return model, None
    has_own = model.http_async_client is None
    replies = _replies_for(model)
    root = for_one_loop(model.root_async_client, model.openai_proxy, own_connections=has_own, replies=replies)
    # Python 3.11's `wait_for`, by which LangChain awaits each piece of a reply, forgets a cancellation that comes
    # together with one, be it that of a timeout: `ModelCall` keeps this limit in its place.
    changes = {"root_async_client": root, "async_client": root.chat.completions, "stream_chunk_timeout": None}
    copy = model.model_copy(update=changes)
    if replies == "in_place":
        object.__setattr__(copy, "__class__", reading_in_place(type(model)))
    return copy, root if has_own else None


def _replies_for(model: BaseChatOpenAI) -> Replies:
    if type(model) not in _READ_DICTIONARIES:
        return "typed"
    # The response's headers become part of the message, and so does what LangSmith's gateway says in them.
    reads_headers = model.include_response_headers or getattr(model, "_uses_gateway", False)
    return "plain" if reads_headers or not hasattr(model, "_create_chat_result") else "in_place"


def _chunk_timeout(model: Runnable[Any, Any]) -> float | None:
    while isinstance(model, RunnableBinding):
        model = model.bound
    return (model.stream_chunk_timeout or None) if isinstance(model, BaseChatOpenAI) else None


class _ClosedWithLoop:
    """Closes a client with its loop or with its model, whichever goes first: once, and to the end.

    A loop shuts its async generators down at its end, as `asyncio.run` does, and waits for that, but only for those
    that somebody still holds. So this is let go only when the client is closed.
    """

    def __init__(self, client: openai.AsyncOpenAI, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = weakref.ref(loop)
        self._one_at_a_time = asyncio.Lock()
        self._generator: AsyncGenerator[None] | None = None
        self.model_gone: weakref.finalize[Any, Any] | None = None
        """Calls `close_soon`, and holds this and its client until then, or until that is done."""

    async def wait(self) -> None:
        """Begin to wait for the loop's end."""
        self._generator = self._waiting()
        await anext(self._generator)

    def close_soon(self) -> None:
        """The model is gone: close the client now, or with its loop if that doesn't run."""
        for left in [each for each in _left_behind if each.loop_is_closed]:
            _left_behind.discard(left)  # its loop never shut anything down
        loop = self._loop()
        if loop is None or loop.is_closed() or self._generator is None:
            return
        _left_behind.add(self)
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(self._close(), loop)

    @property
    def loop_is_closed(self) -> bool:
        """Whether there is nothing left that could close the client."""
        loop = self._loop()
        return loop is None or loop.is_closed()

    async def _waiting(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self._close()

    async def _close(self) -> None:
        async with self._one_at_a_time:  # the client's own second `close` doesn't wait for the first
            await self._client.close()
        self._generator = None  # it holds its loop, which would never be let go
        if self.model_gone is not None:
            self.model_gone.detach()
        _left_behind.discard(self)


_left_behind: set[_ClosedWithLoop] = set()
"""Those whose model is gone before their client was closed."""
