"""A loopback server for one protocol: what is asked is read, and what is answered written, by its subclass."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar, Literal

from sot_graph.testing import ChatRequest, Reply, SkeletonResponder
from tests.support.loopback import QuietHandler, serving

TITLES = ["Light", "Water", "Soil"]
THOUGHT = "Let me see. 1. Hm. 2. So."
PIECE = 7
"""Characters in a streamed piece."""

Trouble = Literal["busy", "busy in the stream", "cut", "refused", "wrong key"]


@dataclass
class Answer:
    """What a wire writes, in its protocol's words."""

    text: str
    thought: str = ""
    call: tuple[str, dict[str, Any]] | None = None
    ending: Literal["stop", "length", "refused"] = "stop"

    @property
    def pieces(self) -> list[str]:
        """The text as it is streamed."""
        return [self.text[place : place + PIECE] for place in range(0, len(self.text), PIECE)]


@dataclass(kw_only=True)
class Wire:
    """Serves one protocol on loopback, from as many threads as there are requests.

    Attributes:
        requests: What was asked, as OpenAI's protocol has it.
        bodies: The same, to the letter.
        thinks: Whether a thought goes before each answer.
        trouble: What goes wrong, with which requests, and how often.
    """

    thinks: bool = False
    requests: list[ChatRequest] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    trouble: list[tuple[Trouble, Callable[[ChatRequest], bool]]] = field(default_factory=list)
    respond: Callable[[ChatRequest], Reply] = field(
        default_factory=lambda: SkeletonResponder(titles=TITLES, words_per_point=12)
    )

    content_type: ClassVar[str] = "text/event-stream"
    input_tokens: ClassVar[int] = 10
    output_tokens: ClassVar[int] = 5

    def read(self, path: str, body: Mapping[str, Any]) -> ChatRequest:
        """What is asked, as OpenAI's protocol has it."""
        raise NotImplementedError

    def whole(self, answer: Answer) -> Any:
        """The body of an answer that isn't streamed."""
        raise NotImplementedError

    def stream(self, answer: Answer) -> Iterable[bytes]:
        """What is streamed, its end apart as the last piece."""
        raise NotImplementedError

    def busy(self) -> tuple[int, Any]:
        """Status and body of "too busy"."""
        return 429, {"error": {"message": "Slow down.", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}

    def refused_key(self) -> tuple[int, Any]:
        """Status and body for a wrong key."""
        return 401, {"error": {"message": "Incorrect API key.", "code": "invalid_api_key"}}

    def busy_in_stream(self) -> bytes | None:
        """What tells it within a stream; `None`: the protocol has nothing for that."""
        return None

    def __enter__(self) -> Wire:
        wire, lock = self, threading.Lock()

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                request = wire.read(self.path, body)
                with lock:
                    wire.requests.append(request)
                    wire.bodies.append(body)
                wire.answer(self, request)

        self._serving = serving(Handler)
        self.url = self._serving.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)

    def answer(self, http: BaseHTTPRequestHandler, request: ChatRequest) -> None:
        """Answer one request."""
        place = next((at for at, (_, fits) in enumerate(self.trouble) if fits(request)), None)
        trouble = self.trouble.pop(place)[0] if place is not None else None
        if trouble in {"busy", "wrong key"}:
            status, body = self.busy() if trouble == "busy" else self.refused_key()
            send(http, status, json.dumps(body).encode(), "application/json")
            return
        answer = self._answer(self.respond(request), refused=trouble == "refused")
        if not request.stream:
            send(http, 200, json.dumps(self.whole(answer)).encode(), "application/json")
            return
        *pieces, end = self.stream(answer)
        if trouble == "cut":
            pieces, end = pieces[: len(pieces) // 2 + 1], b""
        elif trouble == "busy in the stream":
            pieces, end = pieces[:1], self.busy_in_stream() or b""
        http.send_response(200)
        http.send_header("Content-Type", self.content_type)
        http.send_header("Connection", "close")
        http.end_headers()
        for piece in [*pieces, end]:
            http.wfile.write(piece)
            http.wfile.flush()
        http.close_connection = True

    def _answer(self, reply: Reply, *, refused: bool) -> Answer:
        call = (reply.tool_calls[0].name, json.loads(reply.tool_calls[0].arguments_json)) if reply.tool_calls else None
        thought = THOUGHT if self.thinks else ""
        if refused:
            return Answer(reply.text[:20], thought, ending="refused")
        return Answer(reply.text, thought, call)


def send(http: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> None:
    """A whole response."""
    http.send_response(status)
    http.send_header("Content-Type", kind)
    http.send_header("Content-Length", str(len(body)))
    http.end_headers()
    http.wfile.write(body)


def event(data: Any, name: str = "") -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def text_in(content: Any) -> str:
    """A message's text, whatever the form of its content."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content or () if isinstance(part, Mapping))


def chat_request(
    messages: Iterable[tuple[str, Any]],
    *,
    stream: bool,
    tools: Iterable[tuple[str, Any]] = (),
    response_format: Any = None,
) -> ChatRequest:
    """What is asked, as OpenAI's protocol has it."""
    functions = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in tools]
    raw: dict[str, Any] = {
        "messages": [{"role": role, "content": text_in(content)} for role, content in messages],
        "stream": stream,
        "tools": functions,
    }
    return ChatRequest({**raw, "response_format": response_format} if response_format else raw)
