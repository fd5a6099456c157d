"""`ChatService`: how a simulated endpoint answers a request. No threads and no sockets here."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from sot_graph.errors import SotConfigError
from sot_graph.testing.barriers import Rendezvous, RendezvousError
from sot_graph.testing.delivery import Delivery
from sot_graph.testing.extra import web
from sot_graph.testing.faults import CutOff, Empty, Fault, Garbage, Refusal, Reset, Status
from sot_graph.testing.log import RequestLog
from sot_graph.testing.physics import Physics
from sot_graph.testing.rejections import ALL_FEATURES, Rejection, key_rejection, request_rejection
from sot_graph.testing.replies import Reply, Responder
from sot_graph.testing.requests import ChatRequest
from sot_graph.testing.skeleton import SkeletonResponder
from sot_graph.testing.wire import Generation, error_body, generate

__all__ = ["ChatService", "Hold"]

_LARGEST_BODY = 64 * 1024 * 1024


class Hold(Rendezvous):
    """Holds the first matching requests until enough are in flight together; see `SimulatedEndpoint.hold`."""

    def __init__(self, n: int, match: Callable[[ChatRequest], bool] | None, timeout: float) -> None:
        super().__init__(n, timeout)
        self.match = match

    def takes(self, request: ChatRequest) -> bool:
        """Whether a request has to wait."""
        return not self.is_open and (self.match is None or self.match(request))


@dataclass(eq=False, repr=False)
class ChatService:
    """The behaviour of a simulated endpoint, which may be changed while it runs."""

    responder: Responder = field(default_factory=SkeletonResponder)
    """What it answers."""
    physics: Physics = field(default_factory=Physics, kw_only=True)
    """How fast it writes; by default as a hosted model does."""
    faults: list[Fault] = field(default_factory=list, kw_only=True)
    """What goes wrong."""
    api_keys: Collection[str] | None = field(default=None, kw_only=True)
    """Keys that it accepts, others get 401; `None`: any, and none."""
    models: Collection[str] | None = field(default=None, kw_only=True)
    """Models that it knows, others get 404; `None`: any."""
    supports: Collection[str] = field(default=ALL_FEATURES, kw_only=True)
    """Of `"tools"`, `"json_schema"` and `"json_object"`, those that it knows; others get 400."""
    echo_prefill: bool = field(default=False, kw_only=True)
    """Whether an answer goes on after a trailing assistant message, as llama.cpp's does, and repeats it if it isn't
    streamed. Hosted models mostly ignore such a message."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.supports) - ALL_FEATURES):
            message = f"supports={unknown[0]!r} is not known; it may hold: {', '.join(sorted(ALL_FEATURES))}."
            raise SotConfigError(message)
        self.faults = list(self.faults)  # the caller's own stays as it is
        self.holds: list[Hold] = []
        self.log = RequestLog()
        self.stopping = False
        self._since = time.monotonic()

    def reset(self) -> None:
        """Forget the log, and begin with the faults anew: their hits, their random numbers, their time."""
        self.log.clear()
        for fault in self.faults:
            fault.reset()
        self._since = time.monotonic()

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/sim/log", self._sim_log)
        app.router.add_post("/sim/reset", self._sim_reset)
        return app

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        arrived_at = time.monotonic()
        request = ChatRequest.received(_parsed(await http.read()), http.headers)
        entry = self.log.open(request, arrived_at)
        try:
            return await self._answer(Delivery(http, entry, self.log, self.physics, arrived_at))
        except asyncio.CancelledError:
            self.log.close(entry, "stopped" if self.stopping else "client_closed")
            raise
        except ConnectionError:
            self.log.close(entry, "client_closed")
            return web.Response()  # goes nowhere

    async def _answer(self, delivery: Delivery) -> web.StreamResponse:
        request = delivery.entry.request
        rejection = self._rejection(request)
        if rejection is not None:
            return delivery.error(rejection.status, rejection.body, outcome="rejected")
        try:
            await self._wait_at_holds(delivery)
        except RendezvousError as error:
            body = error_body(f"Held too long: {error}", kind="server_error")
            return delivery.error(504, body, outcome="held_too_long")
        try:
            reply = await self._reply(delivery)
        except Exception as error:  # noqa: BLE001 - the test's own code, which must not kill the server
            body = error_body(f"The responder raised {error!r}.", kind="server_error")
            return delivery.error(500, body, outcome="responder_error")
        return await self._deliver(delivery, reply)

    async def _deliver(self, delivery: Delivery, reply: Reply | str | Status | Reset | Garbage) -> web.StreamResponse:
        match reply:
            case Status():
                return delivery.status(reply)
            case Reset():
                return delivery.reset(reply)
            case Garbage():
                return await delivery.garbage(reply)
        generation = self._generation(delivery, reply)
        if delivery.entry.request.stream:
            return await delivery.stream(generation)
        return await delivery.whole(generation)

    def _rejection(self, request: ChatRequest) -> Rejection | None:
        return key_rejection(request.api_key, self.api_keys) or request_rejection(
            request, models=self.models, supports=self.supports
        )

    async def _wait_at_holds(self, delivery: Delivery) -> None:
        for hold in list(self.holds):
            if hold.takes(delivery.entry.request):
                await hold.arrive()
                delivery.start = time.monotonic()  # the model begins when it is let go

    async def _reply(self, delivery: Delivery) -> Reply | str | Status | Reset | Garbage:
        """What is to be answered, or what goes wrong before anything is."""
        request = delivery.entry.request
        elapsed = time.monotonic() - self._since
        delivery.fault = next((fault for fault in list(self.faults) if fault.takes(request, elapsed)), None)
        if delivery.fault is not None:
            delivery.entry.fault = delivery.fault.name
            match delivery.fault.kind:
                case Status() | Reset() | Garbage() | Reply() as kind:
                    return kind
                case Empty():
                    return ""
                case Refusal(text):
                    return Reply(refusal=text)
        answer = self.responder(request)
        return await answer if inspect.isawaitable(answer) else answer

    def _generation(self, delivery: Delivery, reply: Reply | str) -> Generation:
        kind = delivery.fault.kind if delivery.fault else None
        return generate(
            reply,
            delivery.entry.request,
            number=delivery.entry.id,
            created=int(time.time()),
            echo_prefill=self.echo_prefill,
            limit=kind.max_tokens if isinstance(kind, CutOff) else None,
        )

    async def _models(self, http: web.Request) -> web.Response:
        rejection = key_rejection(ChatRequest.received({}, http.headers).api_key, self.api_keys)
        if rejection is not None:
            return web.json_response(rejection.body, status=rejection.status)
        names = sorted(self.models) if self.models is not None else ["simulated"]
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "sot_graph"} for name in names]
        return web.json_response({"object": "list", "data": entries})

    async def _sim_log(self, _http: web.Request) -> web.Response:
        log = {
            "in_flight": self.log.in_flight,
            "max_in_flight": self.log.max_in_flight,
            "requests": [entry.as_json() for entry in self.log.entries],
        }
        return web.json_response(log)

    async def _sim_reset(self, _http: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})


def _parsed(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; empty if it is none, which is rejected for its missing messages."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
