"""`LoopModel`: a chat model that may be used on any number of event loops, and is asked in the way that costs least.

An asynchronous HTTP client belongs to the loop that first used it, so an OpenAI-compatible model gets a client of its
own for every loop (`llm/openai_client.py`). LangChain's classes for most other providers make one client, some one for
all models of a process, and a graph that runs synchronously has a loop of its own. So these models are called by their
synchronous methods, in threads, wherever their asynchronous client is bound to another loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import cache, cached_property, partial
from inspect import getattr_static
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import openai
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableSequence, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import RunnableConfig
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langchain_openai.chat_models.base import BaseChatOpenAI

from sot_graph.cache import model_fingerprint
from sot_graph.concurrency import cut_inherited_connections, reset_after_fork
from sot_graph.concurrency.background_loop import MOST_BLOCKING_CALLS, DaemonThreads, is_library_loop
from sot_graph.concurrency.call_limiter import CallLimiter
from sot_graph.errors import causes_of, phrases_in
from sot_graph.llm.openai_client import TypedCompletions, connection_limit, fast_client, http_client
from sot_graph.llm.prompt_cache import PromptCache
from sot_graph.llm.thoughts import is_named_as_thinker
from sot_graph.observability.redaction import secrets_of
from sot_graph.types import Stage
from sot_graph.usage import ModelPrice, is_same_model, name_of

logger = logging.getLogger("sot_graph")

StructuredMode: TypeAlias = Literal["auto", "json_schema", "tools", "md_json", "prompt"]
"""How JSON is asked for (`SotOptions.structured_mode`)."""
Copies: TypeAlias = "MutableMapping[asyncio.AbstractEventLoop, Runnable[Any, Any]]"

_READ_DICTIONARIES = {ChatOpenAI, AzureChatOpenAI}
"""These classes take plain dictionaries as replies. A subclass may need typed ones, so it isn't listed."""
_LONG_CHARS = 1000
_WORKS_ON_ANY_LOOP = frozenset({"langchain_google_genai"})
_MAX_RETRIES_OF_NONE: Mapping[str, int] = {"langchain_anthropic": 0, "langchain_google_genai": 1}
"""What `max_retries` is to be so that no call is repeated, in packages whose clients take it from a model's copy."""


class LoopModel:
    """A chat model that may be used on any number of event loops.

    OpenAI-compatible models get, for each loop, a copy with an HTTP client of its own. They, `ChatAnthropic` and
    `ChatGoogleGenerativeAI` are asked without their client's hidden retries: the graph repeats and counts calls itself,
    but in `with_fallbacks` and `with_retry`. A model with an `http_async_client` of the caller's keeps that client, and
    is then bound to one loop; one with an `http_client` alone, or of another package whose client belongs to another
    loop, is called by its synchronous methods, in threads.

    Args:
        model: A chat model, or one wrapped by `bind` or `with_config`.
        keeps_client: Whether the client's own retries and limits stay: for calls that the graph does not repeat.
    """

    def __init__(self, model: Runnable[Any, Any], *, keeps_client: bool = False) -> None:
        self.model = model
        self._keeps_client = keeps_client
        # As many as there are connections: a call that would wait for one is not even prepared, which takes some 25 kB.
        self.connections = CallLimiter(connection_limit())
        innermost = innermost_model(model)
        self.chunk_timeout = (innermost.stream_chunk_timeout or None) if isinstance(innermost, BaseChatOpenAI) else None
        """Seconds that the model's own settings allow between two pieces of a streamed reply; `None`: no limit."""
        self.secrets = secrets_of(model)
        self.shape_prompt = _for_openai if type(innermost) in _READ_DICTIONARIES else list
        """Puts a prompt's messages into the form that costs this model's class least."""
        self.takes_system = True
        """Whether it takes system messages."""
        self._thinks_unopened: dict[Stage, bool] = {}
        """By stage, as it may think in some only: whether its last reply began with a thought without opening tag."""
        self.may_think = is_named_as_thinker(innermost)
        """Whether its name says that it thinks."""
        self.tells_endings = isinstance(innermost, BaseChatOpenAI)
        """Whether this model tells a finish reason. A reply without one is then taken for one that broke off."""
        self.needs_few_tokens: bool | None = None
        """Whether its shortest replies take few tokens: not where it thinks first. `None`: not known yet."""
        self.fitting_mode = _fitting_mode(innermost)
        """How it is best asked for JSON."""
        self.refused_modes: set[str] = set()
        """The ways to hand over a schema that its provider has refused."""
        self.prompt_cache = PromptCache.of(model)
        self._prices = [(name_of(each), ModelPrice.of(each)) for each in _models_in(model)]
        """With the models' names. There is none where the run's config decides which model is asked."""
        self.is_one_model = len(self._prices) == 1
        self.price = self._prices[0][1] if self._prices else ModelPrice.of(innermost)
        """Where the price is to be found, of several models that of the first; see `price_of`."""
        self._threads_only = False
        self._copies: Copies = weakref.WeakKeyDictionary()
        self._latest: Runnable[Any, Any] | None = None
        """Held when its loop is gone: other packages keep one client open for all, and a forked child must find it."""
        self._lock = threading.Lock()
        reset_after_fork(self)

    @cached_property
    def _fingerprint(self) -> str:
        return model_fingerprint(self.model)

    def fingerprint(self, config: RunnableConfig) -> str:
        """What tells the model, as a run's config makes it, from others in a cache's keys."""
        configurable = config.get("configurable", {})
        try:
            specs = {spec.id: repr(configurable.get(spec.id)) for spec in self.model.config_specs}
        except ValueError:  # LangChain's, of specs that conflict: what the config makes of the model can't be told
            return uuid4().hex
        return f"{self._fingerprint} {sorted(specs.items())}" if specs else self._fingerprint

    def reset_in_child(self) -> None:
        """The copies belong to event loops, and a forked child has its own. A synchronous client would be shared."""
        self._lock = threading.Lock()
        cut_inherited_connections([self.model, self._latest, *self._copies.values()])

    def price_of(self, reply: Mapping[str, Any]) -> ModelPrice | None:
        """Where a reply's price is to be found, if one of several models may have answered: its metadata says which."""
        told = str(reply.get("model_name") or reply.get("model") or "")
        fitting = [each for each in self._prices if is_same_model(told, each[0])]
        if fitting:  # of two with the same name the first
            return max(fitting, key=lambda each: len(each[0]))[1]
        return ModelPrice.of_reply(reply) or self.price

    def use_threads_from_now_on(self) -> None:
        """The model's client turned out to be bound to another loop: from now on, threads call it."""
        self._threads_only = True
        self._copies.pop(asyncio.get_running_loop(), None)

    def thinks_unopened(self, stage: Stage) -> bool | None:
        """Whether a stage's reply may begin with a thought without opening tag, as the last one there, or in any other.

        `None`: not known.
        """
        known = self._thinks_unopened
        return known.get(stage, True in known.values() if known else None)

    def learn(self, stage: Stage, reason: str | None, *, thinks_unopened: bool | None) -> None:
        """Learn the model's ways from a reply and the provider's word for its end; `None`: it hasn't ended yet.

        `thinks_unopened=None`: the reply began with a prefill, which tells nothing about thoughts.
        """
        if thinks_unopened and True not in self._thinks_unopened.values():
            logger.info("The model writes thoughts that only a closing tag ends: its replies are read when these have.")
        if thinks_unopened is not None:
            self._thinks_unopened[stage] = thinks_unopened
        if reason is not None:
            self.tells_endings = bool(reason)

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
                    inner, client = self._usable_on(loop)
                    copy = self._copies[loop] = rebound(self.model, inner)
                    self._latest = copy if client is None else None
            if client is not None:
                await _OpenClient(client, loop, self._copies).close_with(self)
        return copy

    def _usable_on(self, loop: asyncio.AbstractEventLoop) -> tuple[Runnable[Any, Any], openai.AsyncOpenAI | None]:
        """The model without what is bound to it, as one loop can use it; and the client to be closed with the loop."""
        model, keeps_client = innermost_model(self.model), self._keeps_client
        if not isinstance(model, BaseChatOpenAI) or not isinstance(model.root_async_client, openai.AsyncOpenAI):
            model = model if keeps_client else _asked_once(model)
            return _async_or_in_threads(model, loop, threads_only=self._threads_only), None
        # Calls go through the caller's own HTTP client. An asynchronous one can't be used on a loop of ours.
        needs_sync_client = model.http_client is not None and (model.http_async_client is None or is_library_loop(loop))
        if needs_sync_client or overrides_sync_only(type(model)):
            return in_threads(model if keeps_client else _without_retries(model)), None
        own_client = http_client(model) if model.http_async_client is None else None
        retries = model.root_async_client.max_retries if keeps_client else 0
        root = model.root_async_client.copy(max_retries=retries, http_client=own_client)
        takes_dictionaries = type(model) in _READ_DICTIONARIES
        used = fast_client(root) if takes_dictionaries else root
        completions = used.chat.completions
        if not takes_dictionaries:
            raw = TypedCompletions(completions.with_raw_response)
            completions = TypedCompletions(completions, with_raw_response=raw)
        changes = {"root_async_client": used, "async_client": completions}
        if not keeps_client:
            # Python 3.11's `wait_for`, by which LangChain awaits each piece of a reply, forgets a cancellation that
            # comes with one, be it that of a timeout. So LangChain's limit is off, and `ModelCall` keeps it.
            changes["stream_chunk_timeout"] = None
        return model.model_copy(update=changes), None if own_client is None else root


def innermost_model(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The model below whatever was bound to it."""
    while isinstance(model, RunnableBinding):
        model = model.bound
    return model


def _models_in(model: Any) -> Iterator[BaseChatModel]:
    """The models that may answer: of `with_fallbacks` several."""
    if isinstance(model, RunnableBindingBase):
        yield from _models_in(model.bound)
    elif isinstance(model, RunnableWithFallbacks):
        for each in model.runnables:
            yield from _models_in(each)
    elif isinstance(model, BaseChatModel):
        yield model


def _fitting_mode(model: Runnable[Any, Any]) -> StructuredMode:
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


class _ClientOwners:
    """Which event loop may use a class's asynchronous clients. Calls from any other are made in the threads here."""

    def __init__(self) -> None:
        self._loop_of: dict[type, weakref.ref[asyncio.AbstractEventLoop]] = {}
        self.reset_in_child()
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        self._lock = threading.Lock()
        self._threads = DaemonThreads(MOST_BLOCKING_CALLS)

    def claim(self, kind: type, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this loop may use the asynchronous client of a class: the first that asks may."""
        with self._lock:
            return self._loop_of.setdefault(kind, weakref.ref(loop))() is loop

    def submit(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Run this in a thread, in a copy of the caller's context."""
        return self._threads.submit(copy_context().run, call, *args, **kwargs)


_client_owners = _ClientOwners()


def _async_or_in_threads(model: Any, loop: asyncio.AbstractEventLoop, *, threads_only: bool) -> Any:
    """The model as it can be used on this loop: as it is, or by its synchronous methods.

    The same holds for models within `with_fallbacks` and `with_retry`. One in a chain stays as it is until it fails.
    """
    inside = partial(_async_or_in_threads, loop=loop, threads_only=threads_only)
    parts: dict[str, Any] = {}
    if isinstance(model, RunnableBindingBase):
        parts = {"bound": inside(model.bound)}
    elif isinstance(model, RunnableWithFallbacks):
        parts = {"runnable": inside(model.runnable), "fallbacks": [inside(each) for each in model.fallbacks]}
    elif isinstance(model, RunnableSequence) and threads_only:
        parts = {"first": inside(model.first), "middle": [*map(inside, model.middle)], "last": inside(model.last)}
    if not isinstance(model, BaseChatModel):
        return model.model_copy(update=parts) if parts else model
    kind = type(model)
    if not threads_only:
        if not _has_async_calls(kind) or not (overrides_sync_only(kind) or _is_loop_bound(model)):
            return model
        # The library's own loop claims no class: the caller's loop, which may come later, still can.
        if not overrides_sync_only(kind) and not is_library_loop(loop) and _client_owners.claim(kind, loop):
            return model
    return in_threads(model)


def in_threads(model: BaseChatModel) -> BaseChatModel:
    """A copy of a model whose asynchronous methods call the synchronous ones in threads."""
    kind = _class_in_threads(type(model))
    copy = kind.__new__(kind)
    # As pydantic's own copies are made: the fields are not validated again, and clients are shared.
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        value = getattr(model, name, None)
        object.__setattr__(copy, name, dict(value) if isinstance(value, dict) else value)
    return copy


def _without_retries(model: BaseChatOpenAI) -> BaseChatOpenAI:
    """The same model by its own synchronous client, whose settings of the transport are the caller's."""
    if not isinstance(model.root_client, openai.OpenAI):
        return model
    root = model.root_client.copy(max_retries=0)
    return model.model_copy(update={"root_client": root, "client": root.chat.completions})


def _asked_once(model: Any) -> Any:
    """A copy of another package's model whose client repeats no call; where that can't be had, the model."""
    packages = {base.__module__.partition(".")[0] for base in type(model).__mro__} & _MAX_RETRIES_OF_NONE.keys()
    if not packages:
        return model
    most = {"max_retries": _MAX_RETRIES_OF_NONE[packages.pop()]}
    copy = model.model_copy(update=most)
    held = vars(copy)
    for name, value in [*held.items()]:  # a client that is there, and what it is made from
        if isinstance(getattr_static(type(copy), name, None), cached_property):
            if isinstance(value, dict) and "max_retries" in value:
                held[name] = {**value, **most}
            elif hasattr(value, "with_options"):
                held[name] = value.with_options(**most)
    return copy


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
    sync_manager = run_manager.get_sync() if run_manager else None
    call = _client_owners.submit(self._generate, messages, stop, sync_manager, **kwargs)
    result: ChatResult = await asyncio.wrap_future(call)
    return result


async def _stream_in_thread(
    self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
) -> AsyncIterator[ChatGenerationChunk]:
    sync_manager = run_manager.get_sync() if run_manager else None
    pieces = self._stream(messages, stop, sync_manager, **kwargs)
    reading: Future[Any] | None = None
    try:
        while True:
            reading = _client_owners.submit(next, pieces, None)
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
