"""`SimulatedEndpoint`: an OpenAI-compatible HTTP endpoint in a thread of this process."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

from aiohttp import web

from sot_graph.errors import SotConfigError, check_call, kind_of
from sot_graph.testing.cache_meter import CacheMeter, CacheName, PromptBill
from sot_graph.testing.conditions import (
    CutOff,
    Empty,
    Fault,
    FaultKind,
    Garbage,
    HangUp,
    Physics,
    Refusal,
    Rendezvous,
    RendezvousError,
    Reset,
    Stall,
    Status,
)
from sot_graph.testing.openai_wire import ChatRequest, Generation, Reply, error_body
from sot_graph.testing.skeleton_responder import SkeletonResponder

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

_HOST = "127.0.0.1"
_BACKLOG = 4096  # a thousand clients may connect at once; a full queue costs each a second
_SHUTDOWN_SECONDS = 0.05  # aiohttp takes 0 for "wait for ever"
_LARGEST_BODY = 64 * 1024 * 1024
_JSON = {"Content-Type": "application/json"}
_EVENT_STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with RST instead of FIN


@dataclass
class LoggedRequest:
    """One request. Its fields fill while it is answered. Times are of `time.monotonic()`, in seconds."""

    id: int
    """From 1, in order of arrival."""
    request: ChatRequest
    arrived_at: float
    first_byte_at: float | None = None
    """When the first byte of an answer was sent."""
    ended_at: float | None = None
    """When the last byte was about to be sent, or the connection was lost."""
    status: int | None = None
    """The HTTP status that was sent; `None`: none yet."""
    outcome: str | None = None
    """`None`: in flight. `"ok"`; `"fault:<name>"`; `"client_closed"`: the client left before the end,
    whatever else went on; `"rejected"`: a bad request (400, 401, 404); `"held_too_long"`: a hold that
    never filled (504); `"responder_error"`: the responder raised (500); `"stopped"`: the endpoint stopped
    before the end."""
    fault: str | None = None
    """The name of the fault that hit it."""
    tokens_sent: int = 0
    prompt: PromptBill | None = None
    """What its prompt costs, where the endpoint has a cache."""


@dataclass(eq=False, repr=False)
class SimulatedEndpoint:
    """A simulated OpenAI-compatible HTTP endpoint on 127.0.0.1, with the latency of a hosted model.

    It serves `POST /v1/chat/completions`, streamed or not, from a thread with an event loop of its own. Its
    arguments are attributes that may be changed while it runs, but for `port`. Another `cache` counts from the next
    `reset()` on.

    Args:
        responder: What it answers; by default `SkeletonResponder()`. It runs in the endpoint's event loop, so it may
            await, but must not block.
        physics: How fast it writes; by default `Physics()`, a hosted model's.
        faults: What goes wrong.
        port: To listen at; 0: any free one.
        cache: Whose prompt cache it has, by the documented rules: usage tells what was read and written, and `prompt`
            of each logged request what that costs. `None`: none.

    Attributes:
        in_flight: How many requests are being answered now.
        max_in_flight: How many were being answered together at most, since the start or the last `reset()`.

    Examples:
        >>> with SimulatedEndpoint(physics=Physics.instant()) as endpoint:
        ...     reply = endpoint.chat_model().invoke("Why is the sky blue?")
        >>> endpoint.requests[0].outcome
        'ok'
    """

    most_logged: ClassVar[int | None] = None
    """Requests that the log keeps, the newest; `None`: all."""

    responder: Callable[[ChatRequest], Reply | str | Awaitable[Reply | str]] = field(default_factory=SkeletonResponder)
    physics: Physics = field(default_factory=Physics, kw_only=True)
    faults: list[Fault] = field(default_factory=list, kw_only=True)
    port: int = field(default=0, kw_only=True)
    cache: CacheName | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.cache is not None and self.cache not in get_args(CacheName):
            message = f"SimulatedEndpoint.cache is {', '.join(get_args(CacheName))} or None, not {self.cache!r}."
            raise SotConfigError(message)
        self._meter = None if self.cache is None else CacheMeter(self.cache)
        if not isinstance(self.physics, Physics):
            message = f"SimulatedEndpoint.physics is a Physics, not {self.physics!r}."
            raise SotConfigError(message)
        if not callable(self.responder):
            message = f"SimulatedEndpoint.responder is a function of a request, not {self.responder!r}."
            raise SotConfigError(message)
        if isinstance(self.faults, Fault) or not all(isinstance(fault, Fault) for fault in self.faults):
            message = f"SimulatedEndpoint.faults is a list of Fault(...), not {self.faults!r}."
            raise SotConfigError(message)
        self.faults = list(self.faults)  # the caller's own stays as it is
        self._has_started = False
        self.in_flight = self.max_in_flight = 0
        # The endpoint's thread writes it, any thread may copy it.
        self._log: deque[LoggedRequest] = deque(maxlen=self.most_logged)
        self._ids = itertools.count(1)
        self._holds: list[tuple[Rendezvous, Callable[[ChatRequest], bool] | None]] = []
        self._since = time.monotonic()
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """Such as `http://127.0.0.1:40123/v1`."""
        return f"http://{_HOST}:{self.port}/v1"

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every chat request since the start or the last `reset()`, in order of arrival."""
        return list(self._log)

    def reset(self) -> None:
        """Forget the log and the cache, and begin with the faults anew: their hits, random numbers and time."""
        self._log.clear()
        self._meter = None if self.cache is None else CacheMeter(self.cache)
        self.max_in_flight = self.in_flight
        for fault in self.faults:
            fault.reset()
        self._since = time.monotonic()

    @contextmanager
    def hold(
        self, n: int, match: Callable[[ChatRequest], bool] | None = None, *, timeout: float = 10.0
    ) -> Iterator[Rendezvous]:
        """Hold the first n matching requests until all of them are in flight together: proof of concurrency.

        A held request's physics begin when it is let go. Later ones pass. The handle has `waiting`,
        `complete` (true when all were there together) and `release()`, which lets them go by hand, as the
        end of the block does.

        Args:
            n: How many.
            match: Which requests; `None`: all.
            timeout: Seconds that one waits; then all of them, and those that match later, are answered with
                504.

        Examples:
            >>> with SimulatedEndpoint(physics=Physics.instant()) as endpoint, endpoint.hold(1) as hold:
            ...     reply = endpoint.chat_model().invoke("Why?")
            >>> hold.complete
            True
        """
        if match is not None:
            check_call("hold: match", match, {"request": None}, hint=", or None for all requests")
        hold = Rendezvous(n, timeout)
        self._holds.append((hold, match))
        try:
            yield hold
        finally:
            hold.release()
            self._holds.remove((hold, match))

    def chat_model(self, **kwargs: Any) -> ChatOpenAI:
        """A `ChatOpenAI` for this endpoint.

        Args:
            **kwargs: Of `ChatOpenAI`; they win over the defaults.

        Raises:
            SotConfigError: The endpoint has no port yet: it isn't started.
        """
        from langchain_openai import ChatOpenAI

        if self.base_url == f"http://{_HOST}:0/v1":
            message = "This endpoint has no address before it is started: with SimulatedEndpoint() as endpoint: ..."
            raise SotConfigError(message)
        defaults: dict[str, Any] = {"model": "simulated", "base_url": self.base_url, "api_key": "test"}
        return ChatOpenAI(**{**defaults, "stream_usage": True, "use_responses_api": False, **kwargs})

    def start(self) -> None:
        """Listen, and return when it answers. After a `stop()`: at the same port, with the same log.

        Raises:
            OSError: The port is taken.
        """
        if self._thread is not None:
            return
        if not self._has_started:  # an earlier endpoint may have had the same faults
            self._has_started = True
            for fault in self.faults:
                fault.reset()
        listener = socket.create_server((_HOST, self.port), backlog=_BACKLOG)
        self.port = listener.getsockname()[1]
        self._stop: Future[None] = Future()
        answers: Future[None] = Future()
        serving = self._serve(listener, self._stop, answers)
        self._thread = threading.Thread(target=asyncio.run, args=(serving,), name="simulated-endpoint", daemon=True)
        self._thread.start()
        try:
            answers.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close every connection and the port. Requests in flight end with the outcome `"stopped"`."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set_result(None)
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def application(self) -> web.Application:
        """The routes. A subclass may add its own."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    def rejection(self, request: ChatRequest) -> tuple[int, dict[str, Any]] | None:
        """Status and body for a request that is turned away; `None`: it is answered. A subclass may be stricter."""
        if request.messages:
            return None
        return 400, error_body("Missing required parameter: 'messages'.", status=400, param="messages")

    async def _serve(self, listener: socket.socket, stop: Future[None], answers: Future[None]) -> None:
        try:
            app = self.application()
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS)
            await runner.setup()
            await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        except BaseException as error:  # noqa: BLE001  (of a subclass's routes: raised in whoever starts it)
            listener.close()
            answers.set_exception(error)
            return
        answers.set_result(None)
        try:
            await asyncio.wrap_future(stop)
        finally:
            await runner.cleanup()

    def log_changed(self) -> None:
        """Called in the endpoint's thread after every change of the log. A subclass may make something of it."""

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        request = ChatRequest.received(await http.read(), http.headers)
        entry = LoggedRequest(next(self._ids), request, time.monotonic())
        if self._meter is not None:
            entry.prompt = self._meter.bill(request)
        self._log.append(entry)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.log_changed()
        try:
            return await _Response(self, http, entry).answer()
        except asyncio.CancelledError:
            self._log_end(entry, "stopped" if self._stop.done() else "client_closed")
            raise
        except ConnectionError:
            self._log_end(entry, "client_closed")
            return web.Response()  # goes nowhere
        except Exception as error:  # noqa: BLE001 - a `match` of the test's own, or a request of an odd form
            self._log_end(entry, "responder_error")
            entry.status = entry.status or 500
            return web.json_response(error_body(f"The endpoint failed: {error!r}.", status=500), status=500)

    def _log_end(self, entry: LoggedRequest, outcome: str = "") -> None:
        """Log an end. Where a client leaves during the last write, another call of this changes the outcome alone."""
        if entry.outcome is None:
            self.in_flight -= 1
            entry.ended_at = time.monotonic()
        entry.outcome = outcome or (f"fault:{entry.fault}" if entry.fault else "ok")
        self.log_changed()


class _Response:
    """The answer to one request: each token at its time, broken off where a fault says so.

    The log is told about an end just before the last bytes go out: whoever has read an answer finds it in
    the log.
    """

    def __init__(self, endpoint: SimulatedEndpoint, http: web.Request, entry: LoggedRequest) -> None:
        self.endpoint, self.http, self.entry = endpoint, http, entry
        self.physics, self.start = endpoint.physics, entry.arrived_at
        self.kind: FaultKind | None = None

    async def answer(self) -> web.StreamResponse:
        request = self.entry.request
        if rejection := self.endpoint.rejection(request):
            return self._send_now(*rejection, outcome="rejected")
        try:
            for hold, match in list(self.endpoint._holds):
                if match is None or match(request):
                    await hold.arrive()
                    self.start = time.monotonic()  # the model begins when it is let go
        except RendezvousError as error:
            return self._send_now(504, error_body(f"Held too long: {error}", status=504), outcome="held_too_long")
        elapsed = time.monotonic() - self.endpoint._since
        if fault := next((fault for fault in list(self.endpoint.faults) if fault.takes(request, elapsed)), None):
            self.kind, self.entry.fault = fault.kind, fault.name
        if isinstance(self.kind, Status | Reset | Garbage):
            return self._send_fault(self.kind)
        try:
            reply = await self._reply()
        except Exception as error:  # noqa: BLE001 - the test's own code, which must not kill the server
            body = error_body(f"The responder raised {error!r}.", status=500)
            return self._send_now(500, body, outcome="responder_error")
        limit = self.kind.max_tokens if isinstance(self.kind, CutOff) else None
        try:
            generation = Generation(reply, request, number=self.entry.id, limit=limit)
        except (TypeError, ValueError, AttributeError) as error:  # such as a limit that is no number
            body = error_body(f"This request, or its reply, can't be read: {error!r}.", status=400)
            return self._send_now(400, body, outcome="rejected")
        if self.entry.prompt is not None:
            generation.count_prompt(self.entry.prompt)
        return await (self._send_stream(generation) if request.stream else self._send_whole(generation))

    def _send_now(
        self, status: int, body: Any, headers: dict[str, str] | None = None, *, outcome: str = ""
    ) -> web.StreamResponse:
        self._log_begin(status)
        self.endpoint._log_end(self.entry, outcome)
        if isinstance(body, str):
            return web.Response(status=status, text=body, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    def _send_fault(self, kind: Status | Reset | Garbage) -> web.StreamResponse:
        match kind:
            case Status(code, retry_after, body, message):
                if body is None:
                    body = error_body(message or f"Simulated error {code}.", status=code)
                return self._send_now(code, body, {} if retry_after is None else {"Retry-After": f"{retry_after:g}"})
            case Garbage(text) if self.entry.request.stream:
                return self._send_now(200, f"data: {text}\n\ndata: [DONE]\n\n", _EVENT_STREAM)
            case Garbage(text):
                return self._send_now(200, text, _JSON)
            case Reset():
                pass
        self.endpoint._log_end(self.entry)
        if (transport := self.http.transport) is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        return web.Response()  # goes nowhere

    async def _reply(self) -> Reply | str:
        match self.kind:
            case Reply():
                return self.kind
            case Empty():
                return ""
            case Refusal(text):
                return Reply(refusal=text)
        answer = self.endpoint.responder(self.entry.request)
        answer = await answer if inspect.isawaitable(answer) else answer
        if not isinstance(answer, (Reply, str)):
            message = f"The responder returned {kind_of(answer)}; it must return a text or a Reply."
            raise SotConfigError(message)
        return answer

    async def _send_whole(self, generation: Generation) -> web.StreamResponse:
        await self._sleep_until(self.physics.due(len(generation.tokens)))
        if isinstance(self.kind, Stall):
            await asyncio.Event().wait()
        body = generation.body()
        self._log_begin(200)
        if isinstance(self.kind, HangUp):
            response = web.StreamResponse(headers=_JSON)
            response.content_length = len(body)
            await response.prepare(self.http)
            await response.write(body[: len(body) // 2])
            return self._hang_up(response)
        self.entry.tokens_sent = len(generation.tokens)
        self.endpoint._log_end(self.entry)
        return web.Response(body=body, headers=_JSON)

    async def _send_stream(self, generation: Generation) -> web.StreamResponse:
        count = len(generation.tokens)
        if isinstance(self.kind, HangUp | Stall):
            count = min(count, self.kind.after_tokens)
        events = generation.events()
        await self._sleep_until(self.physics.due(0))
        self._log_begin(200)
        response = web.StreamResponse(headers=_EVENT_STREAM)
        await response.prepare(self.http)
        await response.write(next(events))
        sent = 0
        while sent < count:
            await self._sleep_until(self.physics.due(sent))
            elapsed = time.monotonic() - self.start
            due = sent + 1
            while due < count and self.physics.due(due) <= elapsed:
                due += 1
            self.entry.tokens_sent = due
            self.endpoint.log_changed()
            await response.write(b"".join(itertools.islice(events, due - sent)))
            sent = due
        await self._sleep_until(self.physics.due(count))
        if isinstance(self.kind, HangUp):
            return self._hang_up(response)
        if isinstance(self.kind, Stall):
            await asyncio.Event().wait()
        self.endpoint._log_end(self.entry)
        await response.write_eof(generation.closing_events())
        return response

    def _log_begin(self, status: int) -> None:
        self.entry.status, self.entry.first_byte_at = status, time.monotonic()
        if self.endpoint._meter is not None and self.entry.prompt is not None:
            self.endpoint._meter.keep(self.entry.prompt)
        self.endpoint.log_changed()

    def _hang_up(self, response: web.StreamResponse) -> web.StreamResponse:
        self.endpoint._log_end(self.entry)
        if self.http.transport is not None:
            self.http.transport.close()  # what was written before still goes out
        return response

    async def _sleep_until(self, moment: float) -> None:
        """Sleep until so many seconds after the start, not a moment less."""
        while (remaining := self.start + moment - time.monotonic()) > 0:  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(remaining)
