"""The page with its one service, a race of the two ways, as an ASGI application; and its serving on this machine."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from markupsafe import escape
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sot_graph.errors import SotConfigError, SotError
from sot_graph.graph import create_sot_graph
from sot_graph.llm.provider_errors import explain
from sot_graph.options import SotOptions, with_changes
from sot_graph.report import result_timeline
from sot_graph.report.page import page_templates
from sot_graph.routing.protocol import always_direct
from sot_graph.streaming.answer_reader import AnswerReader, is_sot_event

if TYPE_CHECKING:
    from types import FrameType

    from langchain_core.runnables import Runnable

DIRECT, SKELETON = "direct", "skeleton"

_HOST = "127.0.0.1"
_QUESTION = "What are the most effective ways to deal with stress?"
_LARGEST_BODY = 1_000_000
_SETTINGS = ("max_points", "point_length", "dispatch", "frame")
"""The options that the page has fields for."""
_HEADERS = {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
# Styles of the timeline's frame are its own, inline; scripts are the page's one, by its nonce.
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def playground(
    model: Runnable[Any, Any], options: SotOptions, *, name: str, local: bool, question: str = "", key: str = ""
) -> Starlette:
    """The page as an ASGI application.

    Args:
        model: It answers both ways.
        options: Where the page begins. Its fields change a few of them, for one race.
        name: What the page calls the model.
        local: Whether the model runs on this machine: then the two ways go one after the other, unless told otherwise.
        question: What stands in its field.
        key: What every path begins with, so that nobody else finds them.
    """

    async def show(_request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        page = page_templates("sot_graph.play").get_template("page.html")
        # The question is the caller's own, and is asked as it stands: it is escaped here, and not cleaned.
        own_question = escape(question or _QUESTION)
        text = page.render(name=name, local=local, nonce=nonce, options=options, question=own_question)
        return HTMLResponse(text, headers={**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)})

    async def run(request: Request) -> Response:
        try:
            fields = await _read_fields(request)
            # An empty field says nothing.
            changes = {name: fields[name] for name in _SETTINGS if fields.get(name) not in (None, "")}
            chosen = with_changes(options, changes)
        except ClientDisconnect:
            return Response(status_code=400)
        except SotConfigError as error:
            return JSONResponse({"reason": str(error)}, status_code=400, headers=_HEADERS)
        news = race(model, fields["question"], chosen, in_turn=fields.get("in_turn") is True, local=local)
        return StreamingResponse(_lines(news), media_type="application/x-ndjson", headers=_HEADERS)

    prefix = f"/{key}" if key else ""
    return Starlette(routes=[Route(f"{prefix}/", show), Route(f"{prefix}/race", run, methods=["POST"])])


def serve(application: Starlette, *, port: int, ready: Callable[[int], None]) -> None:
    """Serve it on 127.0.0.1 until Ctrl-C.

    Args:
        application: What `playground` made.
        port: 0: any free one.
        ready: Told the port once it is listened at.

    Raises:
        SotConfigError: The port is taken.
    """
    try:
        listening = socket.create_server((_HOST, port))
    except OSError as error:
        message = f"port {port} can't be had: {error}. Choose another one: --port {port + 1}, or 0 for any."
        raise SotConfigError(message) from error
    with listening:
        ready(listening.getsockname()[1])
        server_of(application).run(sockets=[listening])


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is given up now is no error
        super().handle_exit(sig, frame)


def server_of(application: Starlette) -> uvicorn.Server:
    """The server of a page, which isn't started yet."""
    # A race that is still run as the server ends is given up at once. h11 bounds a request's headers; httptools, which
    # uvicorn prefers where it is installed, doesn't.
    return _Server(
        uvicorn.Config(application, log_level="warning", lifespan="off", timeout_graceful_shutdown=1, http="h11")
    )


async def _lines(news: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """As JSON, a line each. Whoever leaves the page or stops the race closes it, and its model calls with it."""
    async with aclosing(news):  # type: ignore[type-var]  # an asynchronous generator, which can be closed
        async for each in news:
            yield json.dumps(each) + "\n"


async def _read_fields(request: Request) -> dict[str, Any]:
    """The page's fields, as it sends them.

    Raises:
        SotConfigError: They are too long, or there is no question among them.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_BODY:
            message = "the question is too long for this page."
            raise SotConfigError(message)
    fields: dict[str, Any] = {}
    with suppress(ValueError, RecursionError):
        sent = json.loads(body)
        fields = sent if isinstance(sent, dict) else {}
    question = fields.get("question")
    if not isinstance(question, str) or not question.strip():
        message = "there is no question."
        raise SotConfigError(message)
    return fields


async def race(
    model: Runnable[Any, Any], question: str, options: SotOptions, *, in_turn: bool = False, local: bool = False
) -> AsyncIterator[dict[str, Any]]:
    """Answer a question directly and with a skeleton, and tell what happens, as it happens.

    Leaving the iterator early closes every model call.

    Args:
        model: It answers both ways. The direct way is the graph's own, so that both count and fail alike.
        question: The question.
        options: Of both ways.
        in_turn: The direct answer first, then the other. Otherwise both at once.
        local: Whether the model runs on this machine, where parallel calls share the cores.

    Yields:
        Dicts that fit into JSON, each with `way` (`"direct"` or `"skeleton"`), `at` (seconds from the start of that
        way) and `what`: `"begun"`; `"event"` with an `event` of the graph's; `"first_word"`, when somebody could
        read it; `"done"` with its `seconds` and other figures, the answer and a `timeline`; or `"failed"` with a
        `reason`.
    """
    news: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    ways = {
        DIRECT: create_sot_graph(model, options=options, router=always_direct),
        SKELETON: create_sot_graph(model, options=options),
    }

    async def run() -> None:
        go = partial(_run_way, question=question, tell=news.put_nowait, local=local)
        if not in_turn:
            await asyncio.gather(*(go(name, graph) for name, graph in ways.items()))
            return
        for name, graph in ways.items():
            await go(name, graph)

    running = asyncio.create_task(run())
    running.add_done_callback(lambda _: news.put_nowait(None))
    try:
        while (item := await news.get()) is not None:
            yield item
        await running
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _run_way(
    name: str, graph: Any, question: str, tell: Callable[[dict[str, Any]], None], *, local: bool
) -> None:
    """Run one way to its end. It tells what becomes of it, and raises nothing for what a model did."""
    started = time.monotonic()

    def now() -> float:
        return round(time.monotonic() - started, 3)

    def say(what: str, **more: Any) -> None:
        tell({"way": name, "what": what, "at": now(), **more})

    reader, result, first_word = AnswerReader(), {}, None
    say("begun")
    try:
        async with aclosing(graph.astream({"question": question}, stream_mode=["custom", "values"])) as parts:
            async for mode, value in parts:
                if mode == "values":
                    result = value
                elif is_sot_event(value):
                    # A title is no word of the answer's text: both ways are measured by what somebody reads first.
                    if reader.feed(value).strip() and value.get("text") and first_word is None:
                        first_word = now()
                        say("first_word")
                    say("event", event=value)
    except SotError as error:
        say("failed", reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a model did, the other way goes on
        say("failed", reason=explain(error))
    else:
        ended, total = now(), result["usage"]["total"]
        figures = {key: total[key] for key in ("calls", "input_tokens", "output_tokens")}
        figures |= {"answer": result["answer"], "route": result["route"]}
        timeline = result_timeline(result, local=local)
        say("done", seconds=ended, first_word=first_word, timeline=timeline, **figures)
