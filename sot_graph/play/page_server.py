"""The page and its one service, as an ASGI application, and its serving on this machine."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import uvicorn
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sot_graph.errors import SotConfigError
from sot_graph.options import SotOptions
from sot_graph.play.race import race

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

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
        page = _page().render(name=name, local=local, nonce=nonce, options=options, question=question or _QUESTION)
        return HTMLResponse(page, headers={**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)})

    async def run(request: Request) -> Response:
        try:
            asked = await _read(request)
            chosen = _with_settings(options, asked)
        except ClientDisconnect:
            return Response(status_code=400)
        except SotConfigError as error:
            return JSONResponse({"reason": str(error)}, status_code=400, headers=_HEADERS)
        told = race(model, asked["question"], chosen, in_turn=asked.get("in_turn") is True, local=local)
        return StreamingResponse(_lines(told), media_type="application/x-ndjson", headers=_HEADERS)

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
    except (OSError, OverflowError) as error:
        message = f"port {port} can't be had: {error}. Choose another one: --port {port + 1}, or 0 for any."
        raise SotConfigError(message) from error
    with listening:
        ready(listening.getsockname()[1])
        server_of(application).run(sockets=[listening])


def server_of(application: Starlette) -> uvicorn.Server:
    """The server of a page, which isn't started yet."""
    # A race that is still run as the server ends is given up at once. h11 bounds a request's headers; httptools, which
    # uvicorn prefers where it is installed, doesn't.
    return uvicorn.Server(
        uvicorn.Config(application, log_level="warning", lifespan="off", timeout_graceful_shutdown=1, http="h11")
    )


async def _lines(told: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """As JSON, a line each. Whoever leaves the page or stops the race closes it, and its model calls with it."""
    async with aclosing(told):  # type: ignore[type-var]  # an asynchronous generator, which can be closed
        async for news in told:
            yield json.dumps(news) + "\n"


async def _read(request: Request) -> dict[str, Any]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_BODY:
            message = "the question is too long for this page."
            raise SotConfigError(message)
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict) or not isinstance(asked.get("question"), str) or not asked["question"].strip():
        message = "there is no question."
        raise SotConfigError(message)
    return asked


def _with_settings(options: SotOptions, asked: Mapping[str, Any]) -> SotOptions:
    """The options with what the page's fields say; an empty field says nothing.

    Raises:
        SotConfigError: A field says what its option can't be.
    """
    changes = {name: asked[name] for name in _SETTINGS if asked.get(name) not in (None, "")}
    most = changes.get("max_points")
    if isinstance(most, int) and 0 < most < options.min_points:
        changes["min_points"] = most
    return replace(options, **changes)


@cache
def _page() -> Any:
    loader = PackageLoader("sot_graph.play", package_path="")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("page.html")
