"""The OpenAI client that the graph calls a model with: the caller's, with connections and a request path of its own."""

from __future__ import annotations

import ssl
from functools import cache
from urllib.request import getproxies

import httpx2
import openai

from sot_graph.llm.completions import Completions, Replies
from sot_graph.llm.connections import ManyConnections

__all__ = ["MOST_CONNECTIONS", "for_one_loop"]

MOST_CONNECTIONS = 1000
"""As many as the OpenAI client's own pool: one process has no CPU for more calls at once."""
_KEEPALIVE_SECONDS = 2.0
"""Local servers close idle connections after about five: let go of ours before a request can meet that."""


def for_one_loop(
    root: openai.AsyncOpenAI, proxy: str | None, *, own_connections: bool, replies: Replies
) -> openai.AsyncOpenAI:
    """A copy of a client for one event loop, without the client's hidden retries.

    Args:
        root: The caller's.
        proxy: The caller's.
        own_connections: Whether it gets connections of its own; else it goes on with those of the caller.
        replies: How they reach the model.
    """
    client = root.copy(max_retries=0, http_client=_http_client(proxy) if own_connections else None)
    client.chat.__dict__["completions"] = Completions(client, replies)  # a cached property: there it is looked for
    client.beta.__dict__["chat"] = client.chat  # where LangChain streams a reply to a schema
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
