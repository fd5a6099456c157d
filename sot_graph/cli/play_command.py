"""`sot-graph play`: both ways to an answer, side by side, on a page on this machine."""

from __future__ import annotations

import importlib.util
import secrets
from typing import Any

from sot_graph.cli.ask_command import ask_options
from sot_graph.cli.process import error_console, opened_model, read_question
from sot_graph.errors import SotConfigError


def serve_playground(question: str | None, *, model: str | None, base_url: str | None, port: int, **given: Any) -> None:
    """Serve the page until Ctrl-C. The arguments are those of the command; those that aren't named here are options."""
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        message = "the page's server is not installed: pip install 'sot-graph[play]'."
        raise SotConfigError(message)
    from sot_graph.play.page_server import playground, serve

    question = "" if question is None else read_question(question)
    options = ask_options(**given)
    errors = error_console()
    # Other users of this machine, and web pages in a browser on it, reach the port. They don't know the key.
    key = secrets.token_urlsafe(24)

    def ready(port: int) -> None:
        errors.print(f"Open http://127.0.0.1:{port}/{key}/ in a browser. Ctrl-C ends it.", markup=False)

    with opened_model(model, base_url) as (chat, choice):
        page = playground(chat, options, name=choice.label, local=choice.is_embedded, question=question, key=key)
        serve(page, port=port, ready=ready)
