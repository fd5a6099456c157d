"""The OpenAI client that the graph calls a model with: the caller's, with connections and a request path of its own."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from functools import cache
from typing import Any, cast
from urllib.request import getproxies

import httpx2
import openai
from openai import not_given, omit
from openai.resources.chat import AsyncCompletions
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from sot_graph.models.connections import ManyConnections

__all__ = ["MOST_CONNECTIONS", "for_one_loop"]

MOST_CONNECTIONS = 1000
"""As many as the OpenAI client's own pool: one process has no CPU for more calls at once."""
_KEEPALIVE_SECONDS = 2.0
"""Local servers close idle connections after about five: let go of ours before a request can meet that."""


def for_one_loop(root: openai.AsyncOpenAI, proxy: str | None, *, own_connections: bool) -> openai.AsyncOpenAI:
    """A copy of a client for one event loop, without the client's hidden retries.

    Args:
        root: The caller's.
        proxy: The caller's.
        own_connections: Whether it gets connections of its own; else it goes on with those of the caller.
    """
    client = root.copy(max_retries=0, http_client=_http_client(proxy) if own_connections else None)
    client.chat.__dict__["completions"] = _Completions(client)  # a cached property: there it is looked for
    return client


def _http_client(proxy: str | None) -> openai.DefaultAsyncHttpxClient:
    if proxy is None and not getproxies().keys() & {"http", "https", "all"}:
        transport = ManyConnections(_ssl_context(), most=MOST_CONNECTIONS, keepalive=_KEEPALIVE_SECONDS)
        return openai.DefaultAsyncHttpxClient(transport=transport)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=1000, keepalive_expiry=_KEEPALIVE_SECONDS)
    return openai.DefaultAsyncHttpxClient(verify=_ssl_context(), limits=limits, proxy=proxy)


@cache
def _ssl_context() -> ssl.SSLContext:
    """Loading the certificates takes 50 ms of a core: once a process, not once a client."""
    return httpx2.create_ssl_context()


class _Completions(AsyncCompletions):
    """Sends requests as they are.

    The client's own looks up each field of the request, down to each message's, in its type, for names to translate,
    of which chat completions have none: a third of all that it does for a call.
    """

    async def create(  # type: ignore[override]
        self,
        *,
        stream: bool | None = None,
        extra_headers: Any = None,
        extra_query: Any = None,
        extra_body: Any = None,
        timeout: Any = not_given,  # noqa: ASYNC109  (it goes on to the client)
        **body: Any,
    ) -> Any:
        """Ask for a completion."""
        given = {"headers": extra_headers, "params": extra_query, "extra_json": extra_body}
        options: Any = {name: value for name, value in given.items() if value is not None}
        if timeout is not not_given:
            options["timeout"] = timeout
        if stream is not None:
            body["stream"] = stream
        return await self._client.post(
            "/chat/completions",
            cast_to=ChatCompletion,
            body=body,
            options=options,
            stream=bool(stream),
            stream_cls=openai.AsyncStream[ChatCompletionChunk],
        )

    async def parse(self, *, messages: Iterable[Any], extra_body: Any = None, **others: Any) -> Any:
        """Ask for a completion in a form that the client checks."""
        body = {"messages": list(messages), **(extra_body or {})}
        return await super().parse(messages=cast("Any", omit), extra_body=body, **others)
