"""`LoopModel`: a chat model that may be used on any number of event loops, and is asked in the way that costs least.

An asynchronous HTTP client belongs to the loop that first used it, so an OpenAI-compatible model gets a client of its
own for every loop (`llm/openai_client.py`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, MutableMapping, Sequence
from typing import Any, Literal, TypeAlias

import openai
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langchain_openai.chat_models.base import BaseChatOpenAI

from sot_graph.cache import model_fingerprint
from sot_graph.concurrency import reset_after_fork
from sot_graph.concurrency.background_loop import is_library_loop
from sot_graph.concurrency.call_limiter import CallGate
from sot_graph.llm.openai_client import TypedCompletions, connection_limit, fast_client, http_client
from sot_graph.llm.prompt_cache import PromptCache
from sot_graph.llm.thoughts import is_named_as_thinker
from sot_graph.llm.threaded_model import for_loop, in_threads, overrides_sync_only, without_retries, wrapped_for_loop
from sot_graph.observability.redaction import secrets_of
from sot_graph.usage import ModelPrice

logger = logging.getLogger("sot_graph")

StructuredMode: TypeAlias = Literal["auto", "json_schema", "tools", "md_json", "prompt"]
"""How JSON is asked for (`SotOptions.structured_mode`)."""
Copies: TypeAlias = "MutableMapping[asyncio.AbstractEventLoop, Runnable[Any, Any]]"

_READ_DICTIONARIES = {ChatOpenAI, AzureChatOpenAI}
"""These classes take plain dictionaries as replies. A subclass may need typed ones, so it isn't listed."""
_LONG_CHARS = 1000


class LoopModel:
    """A chat model that may be used on any number of event loops.

    OpenAI-compatible models get, for each loop, a copy with an HTTP client of its own, without the client's
    hidden retries (the graph repeats and counts calls itself). A model with an `http_async_client` of the
    caller's keeps that client, and is then bound to one loop; one with an `http_client` alone, or of another package
    whose client belongs to another loop, is called by its synchronous methods, in threads.

    Args:
        model: A chat model, or one wrapped by `bind` or `with_config`.
        keeps_client: Whether the client's own retries and limits stay: for calls that the graph does not repeat.
    """

    def __init__(self, model: Runnable[Any, Any], *, keeps_client: bool = False) -> None:
        self.model = model
        self._keeps_client = keeps_client
        self.fingerprint = model_fingerprint(model)
        # As many as there are connections: a call that would wait for one is not even prepared, which takes some 25 kB.
        self.gate = CallGate(connection_limit())
        innermost = innermost_model(model)
        self.chunk_timeout = (innermost.stream_chunk_timeout or None) if isinstance(innermost, BaseChatOpenAI) else None
        """Seconds that the model's own settings allow between two pieces of a streamed reply; `None`: no limit."""
        self.secrets = secrets_of(model)
        self.shape_prompt = prompt_form(model)
        """Puts a prompt's messages into the form that costs this model's class least."""
        self.takes_system = True
        """Whether it takes system messages."""
        self.thinks_unopened: bool | None = None
        """Whether its last reply began with a thought that only a closing tag ends; `None`: there was no reply yet."""
        self.may_think = is_named_as_thinker(innermost)
        """Whether its name says that it thinks."""
        self.tells_endings = isinstance(innermost, BaseChatOpenAI)
        """Whether this model tells a finish reason. A reply without one is then taken for one that broke off."""
        self.needs_room: bool | None = None
        """Whether even its shortest replies take many tokens, since it thinks; `None`: not known yet."""
        self.fitting_mode = pick_mode(innermost, "auto")
        """How it is best asked for JSON."""
        self.refused_modes: set[str] = set()
        """The ways to hand over a schema that its provider has refused."""
        self.prompt_cache = PromptCache.of(model)
        self.price = ModelPrice.of(innermost)
        self._threads_only = False
        self._copies: Copies = weakref.WeakKeyDictionary()
        self.reset_in_child()
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        """Reset the lock only. The copies belong to event loops, and a forked child has its own loops."""
        self._lock = threading.Lock()

    def use_threads_from_now_on(self) -> None:
        """The model's client turned out to be bound to another loop: from now on, threads call it."""
        self._threads_only = True
        self._copies.pop(asyncio.get_running_loop(), None)

    def learn(self, ending: str | None, *, thinks_unopened: bool) -> None:
        """Learn the model's ways from a reply."""
        if thinks_unopened and not self.thinks_unopened:
            logger.info("The model writes thoughts that only a closing tag ends: its replies are read when these have.")
        self.thinks_unopened = thinks_unopened
        self.tells_endings = ending is not None

    async def for_running_loop(self) -> Runnable[Any, Any]:
        """The model whose client belongs to the running event loop."""
        loop = asyncio.get_running_loop()
        copy = self._copies.get(loop)
        if copy is None:
            await _close_left_behind()
            client = None
            with self._lock:
                copy = self._copies.get(loop)
                if copy is None:
                    inner, client = _copy_for_loop(
                        innermost_model(self.model),
                        loop,
                        threads_only=self._threads_only,
                        keeps_client=self._keeps_client,
                    )
                    copy = self._copies[loop] = rebound(self.model, inner)
            if client is not None:
                await _OpenClient(client, loop, self._copies).close_with(self)
        return copy


def innermost_model(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The model below whatever was bound to it."""
    while isinstance(model, RunnableBinding):
        model = model.bound
    return model


def pick_mode(model: Runnable[Any, Any], mode: StructuredMode) -> StructuredMode:
    """`mode`, or for `"auto"` the one that fits the model."""
    if mode != "auto":
        return mode
    model = innermost_model(model)
    if isinstance(model, BaseChatOpenAI):
        return "json_schema"
    takes_tools = isinstance(model, BaseChatModel) and type(model).bind_tools is not BaseChatModel.bind_tools
    return "tools" if takes_tools else "md_json"


def rebound(model: Runnable[Any, Any], inner: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """What was bound to a model, bound to another innermost model."""
    if not isinstance(model, RunnableBinding):
        return inner
    bound = rebound(model.bound, inner)
    return model if bound is model.bound else model.model_copy(update={"bound": bound})


def _copy_for_loop(
    model: Runnable[Any, Any], loop: asyncio.AbstractEventLoop, *, threads_only: bool, keeps_client: bool
) -> tuple[Runnable[Any, Any], openai.AsyncOpenAI | None]:
    """A copy of a model, to which nothing is bound, for one loop; and the client to be closed with the loop."""
    if not isinstance(model, BaseChatModel):
        return wrapped_for_loop(model, loop), None
    if not isinstance(model, BaseChatOpenAI) or not isinstance(model.root_async_client, openai.AsyncOpenAI):
        return (in_threads(model) if threads_only else for_loop(model, loop)), None
    # Calls go through the caller's own HTTP client. An asynchronous one can't be used on a loop of ours.
    only_sync_client = model.http_client is not None and (model.http_async_client is None or is_library_loop(loop))
    if only_sync_client or overrides_sync_only(type(model)):
        return in_threads(model if keeps_client else without_retries(model)), None
    own_client = http_client(model) if model.http_async_client is None else None
    retries = model.root_async_client.max_retries if keeps_client else 0
    root = model.root_async_client.copy(max_retries=retries, http_client=own_client)
    used = fast_client(root) if type(model) in _READ_DICTIONARIES else root
    # Python 3.11's `wait_for`, by which LangChain awaits each piece of a reply, forgets a cancellation that comes
    # together with one, be it that of a timeout: `ModelCall` keeps this limit in its place.
    completions = used.chat.completions if used is not root else TypedCompletions(root.chat.completions)
    changes = {"root_async_client": used, "async_client": completions}
    if not keeps_client:
        changes["stream_chunk_timeout"] = None
    return model.model_copy(update=changes), None if own_client is None else root


class _OpenClient:
    """Closes a client with its loop or with its model, whichever goes first: once, and to the end.

    A loop shuts its async generators down at its end, as `asyncio.run` does, and waits for that, but only for those
    that somebody still holds. So this is held, in `_open_clients`, until the client is closed. Until then it holds
    its loop, and so does an aiohttp client; therefore the model's copy for that loop goes with it.
    """

    def __init__(self, client: openai.AsyncOpenAI, loop: asyncio.AbstractEventLoop, copies: Copies) -> None:
        self.loop = loop
        self._client = client
        self._copies = copies
        self._one_at_a_time = asyncio.Lock()
        self._generator: AsyncGenerator[None] | None = None
        self._model_gone: weakref.finalize[Any, Any] | None = None

    async def close_with(self, model: LoopModel) -> None:
        """Begin to wait for the loop's end, or the model's."""
        _open_clients.add(self)
        self._generator = self._closed_at_shutdown()
        await anext(self._generator)
        self._model_gone = weakref.finalize(model, self._close_soon)
        self._model_gone.atexit = False

    async def close(self) -> None:
        """Close the client. On another loop than its own this frees what it holds, once its own is closed."""
        async with self._one_at_a_time:  # the client's own second `close` doesn't wait for the first
            await self._client.close()
        self._generator = None
        self._copies.pop(self.loop, None)
        if self._model_gone is not None:
            self._model_gone.detach()
        _open_clients.discard(self)

    def _close_soon(self) -> None:
        """The model is gone. A running loop closes it now, an idle one at its end; else the next client does."""
        if self.loop.is_running():
            asyncio.run_coroutine_threadsafe(self.close(), self.loop)

    async def _closed_at_shutdown(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self.close()


_open_clients: set[_OpenClient] = set()


async def _close_left_behind() -> None:
    """Close the clients of loops that were closed without having shut down their generators."""
    for client in list(_open_clients):
        if client.loop.is_closed():
            try:
                _open_clients.remove(client)
            except KeyError:  # another thread is about it
                continue
            await client.close()


def prompt_form(model: Runnable[Any, Any]) -> Callable[[Sequence[BaseMessage]], list[BaseMessage]]:
    """How a prompt's messages are handed to this model: as they are, or in the form that costs it least."""
    return _for_openai if type(innermost_model(model)) in _READ_DICTIONARIES else list


def _for_openai(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Long replies under their role's name: the request is the same to the byte.

    LangChain looks through an `AIMessage` for audio, and through its text character by character: for a skeleton of a
    thousand points, which every point's prompt holds, that is as much work as all the rest of the call.
    """
    shaped = list(messages)
    for place, message in enumerate(messages):
        if type(message) is not AIMessage or not isinstance(message.content, str):
            continue
        is_text = not (message.tool_calls or message.invalid_tool_calls or message.additional_kwargs or message.name)
        if is_text and len(message.content) > _LONG_CHARS:
            shaped[place] = ChatMessage(role="assistant", content=message.content)
    return shaped
