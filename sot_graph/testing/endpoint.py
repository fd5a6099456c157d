"""`SimulatedEndpoint`: a simulated OpenAI-compatible endpoint in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sot_graph.testing.extra import web
from sot_graph.testing.log import LoggedRequest, LogPredicate
from sot_graph.testing.requests import ChatRequest
from sot_graph.testing.service import ChatService, Hold

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

__all__ = ["SimulatedEndpoint"]

T = TypeVar("T")

_HOST = "127.0.0.1"
_BACKLOG = 4096  # a thousand clients may connect at once; a full queue costs each a second
_SHUTDOWN_SECONDS = 0.05  # aiohttp takes 0 for "wait for ever"


@dataclass(eq=False, repr=False)
class SimulatedEndpoint(ChatService):
    """A simulated OpenAI-compatible HTTP endpoint on 127.0.0.1, with the latency of a hosted model.

    It serves `POST /v1/chat/completions`, streamed or not, and `GET /v1/models`, from a thread with an event
    loop of its own. What it answers with, `responder`, `physics`, `faults`, `api_keys`, `models`, `supports`
    and `echo_prefill`, are attributes that may be changed while it runs.

    Args:
        responder: What it answers; by default `SkeletonResponder()`.
        physics: How fast it writes; by default `Physics()`, a hosted model's.
        faults: What goes wrong.
        api_keys: Keys that it accepts, others get 401; `None`: any, and none.
        models: Models that it knows, others get 404; `None`: any.
        supports: Of `"tools"`, `"json_schema"` and `"json_object"`, those that it knows; others get 400.
        echo_prefill: What becomes of a trailing assistant message. `False`, as hosted models mostly do: it is
            ignored. `True`, as llama.cpp does: the answer goes on after it, and repeats it if it isn't
            streamed.
        port: To listen at; 0: any free one.

    Raises:
        SotConfigError: `supports` holds an unknown name.

    Example:
        >>> with SimulatedEndpoint(physics=Physics.instant()) as endpoint:
        ...     reply = endpoint.chat_model().invoke("Why is the sky blue?")
        >>> endpoint.requests[0].outcome
        'ok'
    """

    port: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    @property
    def base_url(self) -> str:
        """Such as `http://127.0.0.1:40123/v1`."""
        return f"http://{_HOST}:{self.port}/v1"

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every chat request since the start or the last `reset()`, in order of arrival."""
        return self.log.entries

    @property
    def in_flight(self) -> int:
        """How many requests are being answered now."""
        return self.log.in_flight

    @property
    def max_in_flight(self) -> int:
        """How many were being answered together at most, since the start or the last `reset()`."""
        return self.log.max_in_flight

    def wait_for(self, predicate: LogPredicate[T], timeout: float = 10.0) -> T:
        """Block until the log is as wanted.

        Args:
            predicate: Gets the list of requests whenever something changes in it; done when it returns a
                truthy value.
            timeout: Seconds.

        Returns:
            The truthy value.

        Raises:
            TimeoutError: It never was; the message lists the requests and their outcomes.
        """
        return self.log.wait_for(predicate, timeout)

    async def wait_for_async(
        self,
        predicate: LogPredicate[T],
        timeout: float = 10.0,  # noqa: ASYNC109 - as `wait_for`
    ) -> T:
        """The same without blocking the event loop."""
        return await self.log.wait_for_async(predicate, timeout)

    @contextmanager
    def hold(
        self, n: int, match: Callable[[ChatRequest], bool] | None = None, *, timeout: float = 10.0
    ) -> Iterator[Hold]:
        """Hold the first n matching requests until all of them are in flight together: proof of concurrency.

        A held request's physics begin when it is let go. Later ones pass. The handle has `waiting`,
        `complete` (true when all were there together) and `release()`, which lets them go by hand, as the
        end of the block does.

        Args:
            n: How many.
            match: Which requests; `None`: all.
            timeout: Seconds that one waits; then all of them, and those that match later, are answered with
                504.

        Example:
            >>> with SimulatedEndpoint(physics=Physics.instant()) as endpoint, endpoint.hold(1) as hold:
            ...     reply = endpoint.chat_model().invoke("Why?")
            >>> hold.complete
            True
        """
        hold = Hold(n, match, timeout)
        self.holds.append(hold)
        try:
            with hold:
                yield hold
        finally:
            self.holds.remove(hold)

    def chat_model(self, **kwargs: Any) -> ChatOpenAI:
        """A `ChatOpenAI` for this endpoint.

        Args:
            **kwargs: Of `ChatOpenAI`; they win over the defaults.
        """
        from langchain_openai import ChatOpenAI

        defaults: dict[str, Any] = {
            "model": next(iter(sorted(self.models or ())), "simulated"),
            "base_url": self.base_url,
            "api_key": next(iter(sorted(self.api_keys or ())), "test"),
            "stream_usage": True,
            "use_responses_api": False,
        }
        return ChatOpenAI(**{**defaults, **kwargs})

    def start(self) -> None:
        """Listen. After a `stop()`: at the same port, with the same log.

        Raises:
            OSError: The port is taken.
        """
        if self._thread is not None:
            return
        self.stopping = False
        started: list[BaseException | None] = []
        ready = threading.Event()

        def run() -> None:
            try:
                asyncio.run(self._serve(ready))
            except OSError as error:  # of binding the port; told to whoever starts it
                started.append(error)
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, name="simulated-endpoint", daemon=True)
        self._thread.start()
        ready.wait()
        if started and started[0] is not None:
            self._thread.join()
            self._thread = None
            raise started[0]

    def stop(self) -> None:
        """Close every connection and the port. Requests in flight end with the outcome `"stopped"`."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        thread.join()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        runner = web.AppRunner(
            self.application(), access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, _HOST, self.port, backlog=_BACKLOG)
            await site.start()
            self.port = runner.addresses[0][1]
            ready.set()
            await self._stop.wait()
        finally:
            self.stopping = True
            await runner.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.to_thread(self.stop)
