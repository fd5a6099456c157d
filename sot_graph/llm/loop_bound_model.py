"""`LoopModel`: a chat model that may be used on any number of event loops, and is asked in the way that costs least.

An asynchronous HTTP client belongs to the loop that first used it, so an OpenAI-compatible model gets a client of its
own for every loop. Its chat completions go through the client's public `post`. The client's own `chat.completions`
costs more and gives nothing for it: it looks for field names to translate, of which there are none, and it builds typed
replies that LangChain unpacks again. If a model bypasses this code, it only gets slower; the result is the same.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, Self, TypeAlias
from urllib.request import getproxies

import openai
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langchain_openai.chat_models.base import BaseChatOpenAI
from openai import not_given
from openai.types.chat import ChatCompletion

from sot_graph.cache import model_fingerprint
from sot_graph.concurrency import reset_after_fork
from sot_graph.concurrency.background_loop import is_library_loop
from sot_graph.concurrency.call_limiter import CallLimiter
from sot_graph.llm.prompt_cache import PromptCache
from sot_graph.llm.reply_bounds import ENCODING, BoundedCall, beginning_of, bound_body, is_cut, openai_httpx
from sot_graph.llm.thoughts import is_named_as_thinker
from sot_graph.llm.threaded_model import for_loop, in_threads, overrides_sync_only, without_retries, wrapped_for_loop
from sot_graph.observability.redaction import secrets_of
from sot_graph.prices import ModelPrice
from sot_graph.usage import is_count, log_nonsense

logger = logging.getLogger("sot_graph")

Copies: TypeAlias = "MutableMapping[asyncio.AbstractEventLoop, Runnable[Any, Any]]"

_READ_DICTIONARIES = {ChatOpenAI, AzureChatOpenAI}
"""These classes take plain dictionaries as replies. A subclass may need typed ones, so it isn't listed."""
_MOST_CONNECTIONS = 1000
"""As many as the OpenAI client's own pool: one process has no CPU for more calls at once."""
_DESCRIPTORS_SHARE = 0.75
"""A model's share of the files that this process may open. The rest is for everything else in it."""
_KEEPALIVE_SECONDS = 2.0
"""Local servers close idle connections after about five: let go of ours before a request can meet that."""
_LONG_CHARS = 1000
_NOT_IN_THE_BODY = {"extra_headers": "headers", "extra_query": "params", "extra_body": "extra_json"}


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
        self.gate = CallLimiter(_connection_limit())
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
        self.can_be_brief: bool | None = None
        """Whether its shortest replies take few tokens: not where it thinks first. `None`: not known yet."""
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
    http_client = _http_client(model) if model.http_async_client is None else None
    retries = model.root_async_client.max_retries if keeps_client else 0
    root = model.root_async_client.copy(max_retries=retries, http_client=http_client)
    used = _fast_client(root) if type(model) in _READ_DICTIONARIES else root
    # Python 3.11's `wait_for`, by which LangChain awaits each piece of a reply, forgets a cancellation that comes
    # together with one, be it that of a timeout: `ModelCall` keeps this limit in its place.
    completions = used.chat.completions if used is not root else _TypedCompletions(root.chat.completions)
    changes = {"root_async_client": used, "async_client": completions}
    if not keeps_client:
        changes["stream_chunk_timeout"] = None
    return model.model_copy(update=changes), None if http_client is None else root


def _http_client(model: BaseChatOpenAI) -> Any:
    """A client for one loop, with the transport settings of the caller's model.

    It stands on aiohttp: the pool of httpx2 looks at all its connections and requests whenever one comes or goes, so
    that hundreds of calls at once take longer over that than over anything else. But aiohttp knows no SOCKS proxies,
    and the OpenAI client's adapter passes no socket options on: who asks for these gets httpx2's own transport.
    """
    most = _connection_limit()
    limits = openai_httpx.Limits(
        max_connections=most, max_keepalive_connections=most, keepalive_expiry=_KEEPALIVE_SECONDS
    )
    proxy = model.openai_proxy
    bounds: Any = {"event_hooks": {"response": [bound_body]}, "headers": {"Accept-Encoding": ENCODING}}
    if model.http_socket_options:
        transport = openai_httpx.AsyncHTTPTransport(
            verify=_ssl_context(),
            limits=limits,
            proxy=openai_httpx.Proxy(proxy) if proxy else None,
            socket_options=list(model.http_socket_options),
        )
        return openai.DefaultAsyncHttpxClient(transport=transport, **bounds)
    if proxy or getproxies().keys() & {"http", "https", "all"}:
        return openai.DefaultAsyncHttpxClient(verify=_ssl_context(), limits=limits, proxy=proxy, **bounds)
    return openai.DefaultAioHttpClient(verify=_ssl_context(), limits=limits, **bounds)


@cache
def _ssl_context() -> ssl.SSLContext:
    """Loading the certificates takes 50 ms of a core: once a process, not once a client."""
    context: ssl.SSLContext = openai_httpx.create_ssl_context()
    return context


def _connection_limit() -> int:
    """Connections of one model at once: each takes one of the files that this process may open."""
    try:
        import resource
    except ImportError:  # Windows, where sockets have no such limit
        return _MOST_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(1, min(_MOST_CONNECTIONS, int(soft * _DESCRIPTORS_SHARE)))


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


def _fast_client(client: openai.AsyncOpenAI) -> Any:
    """A proxy in front of an OpenAI client: a `ChatOpenAI` takes it as its `root_async_client`.

    It answers what LangChain calls of `chat.completions`: `create`, `stream`, and `create` and `parse` of
    `with_raw_response`. Whatever else a new LangChain calls reaches the real client.
    """
    completions = _Completions(client)
    # LangChain streams a reply to a schema by `beta`.
    beta = _Proxy(client.beta, chat=_Proxy(client.beta.chat, completions=completions))
    return _Proxy(client, chat=_Proxy(client.chat, completions=completions), beta=beta)


class _Proxy:
    """Passes on every attribute of `below`, but for those that are given here."""

    def __init__(self, below: Any, **own: Any) -> None:
        self._below = below
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)


class _Completions(_Proxy):
    """What LangChain's models call of `chat.completions`; the rest is the client's own."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        super().__init__(client.chat.completions, with_raw_response=_WithRawResponse(client))
        self._client = client

    async def create(self, *, stream: bool | None = None, **request: Any) -> Any:
        """Ask for a completion."""
        if stream:
            return _Pieces(await _post(self._client, request, stream=True), with_tools=bool(request.get("tools")))
        return (await self.with_raw_response.create(**request)).parse()

    def stream(self, **request: Any) -> Any:
        """Ask for a streamed completion in a form that the client checks; a JSON schema leaves it nothing to check."""
        if not isinstance(request.get("response_format"), Mapping):
            return self._below.stream(**request)
        return _Pieces(_post(self._client, request, stream=True))


class _WithRawResponse(_Proxy):
    """The same, for those who want the response's headers too. LangChain asks for whole replies here."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        super().__init__(client.chat.completions.with_raw_response)
        self._client = client

    async def create(self, **request: Any) -> Any:
        if request.get("stream"):
            return await self._below.create(**request)
        response = await _post(self._client, request)
        return SimpleNamespace(http_response=response, headers=response.headers, parse=partial(_parsed, response))

    async def parse(self, **request: Any) -> Any:
        if isinstance(request.get("response_format"), Mapping):
            return await self.create(**request, stream=False)
        return await self._below.parse(**request)


async def _post(client: openai.AsyncOpenAI, request: Mapping[str, Any], *, stream: bool = False) -> Any:
    """The HTTP response, or an `openai.AsyncStream` of what comes."""
    options: Any = {"security": {"bearer_auth": True}}  # not the key of an administrator
    body = {**request, "stream": True} if stream else dict(request)
    for name, option in _NOT_IN_THE_BODY.items():
        value = body.pop(name, None)
        if value is not None:
            options[option] = value
    timeout = body.pop("timeout", not_given)
    if timeout is not not_given:
        options["timeout"] = timeout
    if not stream:
        return await client.post("/chat/completions", cast_to=openai_httpx.Response, body=body, options=options)
    kind = openai.AsyncStream[object]
    return await client.post(
        "/chat/completions", cast_to=object, body=body, options=options, stream=True, stream_cls=kind
    )


def _parsed(response: Any) -> Any:
    """A whole reply; the text of one that isn't JSON, of which LangChain says what is wrong."""
    if not response.headers.get("content-type", "json").partition(";")[0].endswith("json"):
        return response.text
    data = beginning_of(response.content) if is_cut(response) else response.json()
    _drop_odd_counts(data)
    try:
        is_refused = bool(data["choices"][0]["message"]["refusal"])
    except (KeyError, IndexError, TypeError):  # servers send all sorts of things, and LangChain tells what is wrong
        is_refused = False
    # Only of an object does LangChain tell that the model declines.
    return ChatCompletion.construct(**data) if is_refused else data


def _drop_odd_counts(data: Any) -> None:
    """Drop from a reply's usage what is no number of tokens: LangChain can't make a message of it."""
    usage = data.get("usage") if isinstance(data, dict) else None
    if usage is None:
        return
    if not isinstance(usage, dict):
        usage = data["usage"] = {}
    for held in (usage, *(part for part in usage.values() if isinstance(part, dict))):
        for name, value in list(held.items()):
            is_odd = name.endswith("tokens") and value is not None and not is_count(value)
            if is_odd or (name.endswith("details") and not isinstance(value, dict | None)):
                log_nonsense(name)
                held[name] = None
            elif isinstance(value, float) and name.endswith("tokens"):
                held[name] = int(value)


class _TypedCompletions(_Proxy):
    """The client's own `chat.completions`. Odd counts of tokens are dropped from what it streams."""

    async def create(self, **request: Any) -> Any:
        reply = await self._below.create(**request)
        return _TypedPieces(reply) if request.get("stream") else reply


class _TypedPieces(_Proxy):
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._below.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for piece in self._below:
            usage = getattr(piece, "usage", None)
            if usage is not None:
                told = {"usage": usage.model_dump(warnings=False)}
                _drop_odd_counts(told)
                if told["usage"] != usage.model_dump(warnings=False):
                    counts = {name: value for name, value in told["usage"].items() if value is not None}
                    counts = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, **counts}
                    piece.usage = type(usage).construct(**counts)
            yield piece


class _Pieces:
    """A streamed reply as it comes, and in the end what it has refused, which is in no message that LangChain makes."""

    def __init__(self, pieces: Any, *, with_tools: bool = False) -> None:
        self._pieces = pieces
        self._call = BoundedCall(is_offered=with_tools)
        self._refusal = ""

    async def __aenter__(self) -> Self:
        if inspect.isawaitable(self._pieces):
            self._pieces = await self._pieces
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pieces.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for piece in self._pieces:
            _drop_odd_counts(piece)
            for choice in (piece.get("choices") or ()) if isinstance(piece, dict) else ():
                if isinstance(choice, dict):
                    # Azure's content filter sends choices without a `delta`, which LangChain passes over if it is null.
                    delta = choice.setdefault("delta", None)
                    if isinstance(delta, dict):
                        self._refusal = (self._refusal + (delta.get("refusal") or ""))[:_LONG_CHARS]
            for bounded in self._call.pieces(piece):
                yield bounded

    async def get_final_completion(self) -> ChatCompletion:
        """What LangChain asks for when all pieces of a reply to a schema have come."""
        message = {"role": "assistant", "content": "", "refusal": self._refusal or None}
        return ChatCompletion.construct(choices=[{"index": 0, "message": message}])
