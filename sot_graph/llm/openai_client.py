"""OpenAI's client as the graph's models use it: one for an event loop, quick, and bounded in what it reads of a reply.

Chat completions go through the client's public `post`. The client's own `chat.completions` costs more and gives nothing
for it: it looks for field names to translate, of which there are none, and it builds typed replies that LangChain
unpacks again. If a model bypasses this code, it only gets slower; the result is the same.

`SotOptions.max_reply_chars` bounds a reply's text, wherever it comes from. The bounds here are for what arrives, before
it is unpacked into memory: half a megabyte of gzip may hold gigabytes, and a body may never end.
"""

from __future__ import annotations

import inspect
import json
import ssl
import sys
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, Self
from urllib.request import getproxies

import openai
from langchain_openai.chat_models.base import BaseChatOpenAI
from openai import not_given
from openai.types.chat import ChatCompletion
from pydantic_core import from_json

from sot_graph.llm.reply import arguments_of
from sot_graph.usage import is_count, log_nonsense

openai_httpx: Any = sys.modules[openai.DefaultAsyncHttpxClient.__mro__[1].__module__]
"""A workaround: the module that the installed OpenAI client is built on, found as the module of its base class.

It is httpx with version 2 of the client, httpx2 with version 3. What is used of it here is alike in both."""

reply_char_limit: ContextVar[int | None] = ContextVar("reply_char_limit", default=None)
"""The longest text that the running call may get; `None`: no bound. httpx gives an event hook the response alone."""
ENCODING = "gzip"
"""The only one that is asked for: it is unpacked here, piece by piece."""
_BYTES_A_CHAR = 12
"""A character outside the basic plane, as JSON may write it."""
_AROUND_THE_TEXT = 1 << 18
"""Bytes of a reply beside its text, and of an error."""
_PIECE = 1 << 16
_GZIP = zlib.MAX_WBITS | 16
_LONGEST_ESCAPE = 12
_IS_CUT = "sot_graph_is_cut"
_MOST_ARGUMENTS = 100_000
"""Characters of a streamed call's arguments: a thousand titles, the most that a skeleton has."""
_SLICE = 200
_MOST_CONNECTIONS = 1000
"""As many as the OpenAI client's own pool: one process has no CPU for more calls at once."""
_DESCRIPTORS_SHARE = 0.75
"""A model's share of the files that this process may open. The rest is for everything else in it."""
_KEEPALIVE_SECONDS = 2.0
"""Local servers close idle connections after about five: let go of ours before a request can meet that."""
_NOT_IN_THE_BODY = {"extra_headers": "headers", "extra_query": "params", "extra_body": "extra_json"}
_LONGEST_REFUSAL = 1000


def http_client(model: BaseChatOpenAI) -> Any:
    """A client for one loop, with the transport settings of the caller's model.

    It stands on aiohttp: the pool of httpx2 looks at all its connections and requests whenever one comes or goes, so
    that hundreds of calls at once take longer over that than over anything else. But aiohttp knows no SOCKS proxies,
    and the OpenAI client's adapter passes no socket options on: who asks for these gets httpx2's own transport.
    """
    most = connection_limit()
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


def connection_limit() -> int:
    """Connections of one model at once: each takes one of the files that this process may open."""
    try:
        import resource
    except ImportError:  # Windows, where sockets have no such limit
        return _MOST_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(1, min(_MOST_CONNECTIONS, int(soft * _DESCRIPTORS_SHARE)))


def fast_client(client: openai.AsyncOpenAI) -> Any:
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

    async def create(self, **request: Any) -> Any:
        """Ask for a completion."""
        return (await self.with_raw_response.create(**request)).parse()

    def stream(self, **request: Any) -> Any:
        """Ask for a streamed completion in a form that the client checks; a JSON schema leaves it nothing to check."""
        if not isinstance(request.get("response_format"), Mapping):
            return self._below.stream(**request)
        return _Pieces(_post(self._client, request, stream=True))


class _WithRawResponse(_Proxy):
    """The same, for those who want the response's headers too, as LangChain does for whole replies."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        super().__init__(client.chat.completions.with_raw_response)
        self._client = client

    async def create(self, **request: Any) -> Any:
        if request.get("stream"):
            pieces = await _post(self._client, request, stream=True)
            response, parse = pieces.response, partial(_Pieces, pieces, with_tools=bool(request.get("tools")))
        else:
            response = await _post(self._client, request)
            parse = partial(_parsed, response)
        return SimpleNamespace(http_response=response, headers=response.headers, parse=parse)

    async def parse(self, **request: Any) -> Any:
        if isinstance(request.get("response_format"), Mapping):
            return await self.create(**request, stream=False)
        return await self._below.parse(**request)


async def _post(client: openai.AsyncOpenAI, request: Mapping[str, Any], *, stream: bool = False) -> Any:
    """The HTTP response, or an `openai.AsyncStream` of what comes."""
    options: Any = {"security": {"bearer_auth": True}}  # with `api_key`, and not with `admin_api_key`
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
    data = beginning_of(response.content) if response.extensions.get(_IS_CUT) else response.json()
    _drop_odd_counts(data)
    try:
        is_refused = bool(data["choices"][0]["message"]["refusal"])
    except (KeyError, IndexError, TypeError):  # servers send all sorts of things, and LangChain tells what is wrong
        is_refused = False
    # LangChain reads a refusal from a typed reply only, not from a dictionary.
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


class TypedCompletions(_Proxy):
    """The client's own `chat.completions`, raw or not. Odd counts of tokens are dropped from what it streams."""

    async def create(self, **request: Any) -> Any:
        """Ask for a completion."""
        reply = await self._below.create(**request)
        if not request.get("stream"):
            return reply
        is_raw = hasattr(reply, "parse")
        return _Proxy(reply, parse=lambda: _TypedPieces(reply.parse())) if is_raw else _TypedPieces(reply)


class _TypedPieces(_Proxy):
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._below.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        is_refused = False
        async for piece in self._below:
            for choice in getattr(piece, "choices", None) or ():
                is_refused |= bool(getattr(getattr(choice, "delta", None), "refusal", None))
                if is_refused and choice.finish_reason:
                    choice.finish_reason = "refusal"
            usage = getattr(piece, "usage", None)
            if usage is not None:
                told = {"usage": usage.model_dump(warnings=False)}
                _drop_odd_counts(told)
                counts = {name: value for name, value in told["usage"].items() if value is not None}
                counts = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, **counts}
                piece.usage = type(usage).construct(**counts)
            yield piece


class _Pieces:
    """A streamed reply as it comes, and in the end what it has refused, which is in no message that LangChain makes."""

    def __init__(self, pieces: Any, *, with_tools: bool = False) -> None:
        self._pieces = pieces
        self._tool_call = BoundedToolCall(is_offered=with_tools)
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
            calls_tool = False
            for choice in (piece.get("choices") or ()) if isinstance(piece, dict) else ():
                if isinstance(choice, dict):
                    # Azure's content filter sends choices without a `delta`, which LangChain passes over if it is null.
                    delta = choice.setdefault("delta", None)
                    if isinstance(delta, dict):
                        self._refusal = (self._refusal + (delta.get("refusal") or ""))[:_LONGEST_REFUSAL]
                        calls_tool |= "tool_calls" in delta or "function_call" in delta
                    if self._refusal and choice.get("finish_reason"):  # LangChain passes over the words themselves
                        choice["finish_reason"] = "refusal"
            for bounded in self._tool_call.pieces(piece) if calls_tool else (piece,):
                yield bounded

    async def get_final_completion(self) -> ChatCompletion:
        """What LangChain asks for when all pieces of a reply to a schema have come."""
        message = {"role": "assistant", "content": "", "refusal": self._refusal or None}
        return ChatCompletion.construct(choices=[{"index": 0, "message": message}])


async def bound_body(response: Any) -> None:
    """An event hook of httpx: the response's body is read up to its bound, and unpacked in small pieces."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    most = reply_char_limit.get()
    if most is None:
        return
    if encoding not in {"identity", "gzip", "x-gzip"}:
        message = f"the reply came as {encoding[:20]!r}, which was not asked for"
        raise openai_httpx.DecodingError(message, request=response.request)
    if "content-encoding" in response.headers:
        del response.headers["content-encoding"]
    unpacker = None if encoding == "identity" else zlib.decompressobj(_GZIP)
    response.stream = _BoundedBody(response, response.stream, unpacker, most * _BYTES_A_CHAR + _AROUND_THE_TEXT)


def beginning_of(body: bytes) -> Any:
    """What there is of a JSON reply that was cut: its text, marked as one that ran into a limit."""
    text, data = body.decode("utf-8", "ignore"), None
    for half in range(_LONGEST_ESCAPE):  # an escape may be cut in two
        with suppress(ValueError):
            data = from_json(text[: len(text) - half], allow_partial="trailing-strings")
            break
    choices = data.get("choices") if isinstance(data, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            choice["finish_reason"] = "length"
    return data


class BoundedToolCall:
    """Cuts the tool call of a streamed reply into small pieces, and ends it where its arguments are no JSON any more.

    Calls beside the first one are dropped, and so are calls of tools that nobody offered.
    LangChain parses the arguments of each piece, and those of the whole, with more and more cut off at the end until
    something can be read: for 200,000 characters that are no JSON it would take minutes.
    """

    def __init__(self, *, is_offered: bool) -> None:
        self._is_open = is_offered
        self._has_limit = reply_char_limit.get() is not None
        self._arguments = ""
        self._length_read = -_SLICE

    def pieces(self, piece: Any) -> Iterator[Any]:
        """A piece of the reply, or several in its place."""
        choices = piece.get("choices") if self._has_limit and isinstance(piece, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if isinstance(delta, dict) and delta.keys() & {"tool_calls", "function_call"}:
            delta.pop("function_call", None)
            calls = self._bounded(delta.pop("tool_calls", None))
            for call in calls[:-1]:
                yield {**piece, "usage": None, "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
            if calls:
                delta["tool_calls"] = calls[-1:]
        yield piece

    def _bounded(self, calls: Any) -> list[Any]:
        call = calls[0] if isinstance(calls, list) and calls else None
        function = call.get("function") if isinstance(call, dict) else None
        bounded: list[Any] = []
        if call is None or not isinstance(function, dict) or call.get("index"):
            return bounded
        text = str(function.get("arguments") or "")
        for start in range(0, len(text) or 1, _SLICE):
            part = text[start : start + _SLICE]
            if not (self._is_open and self._takes(part)):
                break
            first = {**call, "function": {**function, "arguments": part}}
            bounded.append({"index": call.get("index"), "function": {"arguments": part}} if start else first)
        return bounded

    def _takes(self, part: str) -> bool:
        self._arguments += part
        if len(self._arguments) - self._length_read < _SLICE:  # some pieces are of one character
            return True
        self._length_read = len(self._arguments)
        known = arguments_of(self._arguments) if self._arguments.strip() else {}
        # Of a key without an end, nothing can be read. If that is most of what has come, the rest is one endless key.
        is_read = isinstance(known, Mapping) and 2 * len(json.dumps(known)) + _SLICE >= len(self._arguments)
        self._is_open = is_read and len(self._arguments) <= _MOST_ARGUMENTS
        return self._is_open


@dataclass(eq=False, slots=True)
class _BoundedBody(openai_httpx.AsyncByteStream):  # type: ignore[misc]
    """A response's body, up to its bound. A stream is read line by line: how much waits for its line's end counts."""

    response: Any
    below: Any
    unpacker: Any
    """`None`: the body isn't packed."""
    most: int

    async def __aiter__(self) -> AsyncIterator[bytes]:
        waiting, is_stream = 0, self.response.headers.get("content-type", "").startswith("text/event-stream")
        async for packed in self.below:
            for piece in (packed,) if self.unpacker is None else self._unpacked(packed):
                end = piece.rfind(b"\n") if is_stream else -1
                waiting = len(piece) - end - 1 if end >= 0 else waiting + len(piece)
                if waiting > self.most:
                    self.response.extensions[_IS_CUT] = True
                    yield piece[: max(0, len(piece) - (waiting - self.most))]
                    return
                yield piece

    def _unpacked(self, packed: bytes) -> Iterator[bytes]:
        is_more = True
        while is_more:
            try:
                piece = self.unpacker.decompress(packed, _PIECE)
            except zlib.error as error:
                raise openai_httpx.DecodingError(str(error), request=self.response.request) from error
            yield piece
            packed = self.unpacker.unconsumed_tail
            is_more = bool(packed) or len(piece) == _PIECE

    async def aclose(self) -> None:
        await self.below.aclose()
