"""Which model the command uses, and why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sot_graph.errors import SotConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import Runnable

__all__ = ["DEFAULT_OPENAI_MODEL", "chosen_model"]

DEFAULT_OPENAI_MODEL = "gpt-4o-mini"
"""Of the command, where only a key is there. The library itself has no default model."""

_UNRELIABLE = "Its form is good, its facts are often wrong: it is here to show the graph at work."


@contextmanager
def chosen_model(model: str | None, base_url: str | None, say: Callable[[str], None]) -> Iterator[Runnable[Any, Any]]:
    """The model that the options and the environment ask for.

    In this order: the name given (`--model`, `SOT_GRAPH_MODEL`), OpenAI's default where `OPENAI_API_KEY` is
    set, the embedded model.

    Args:
        model: A name, or a path that ends in `.gguf`.
        base_url: An OpenAI-compatible endpoint.
        say: Tells the user, on standard error.

    Raises:
        SotConfigError: There is no such model, or something that it needs is missing.
    """
    if base_url is not None and model is None:
        message = "--base-url needs --model: which of that server's models is to answer?"
        raise SotConfigError(message)
    if base_url is None and (model is None or model.endswith(".gguf")):
        if model is None and os.environ.get("OPENAI_API_KEY"):
            model = DEFAULT_OPENAI_MODEL
            say(f"Using {model} (OPENAI_API_KEY is set; choose with --model).")
        else:
            with _embedded(model, say) as chat:
                yield chat
            return
    from sot_graph.models import resolve_model

    yield resolve_model(model, base_url=base_url)


@contextmanager
def _embedded(path: str | None, say: Callable[[str], None]) -> Iterator[Runnable[Any, Any]]:
    from sot_graph.local import local_model

    if path is None:
        say(
            "Using the embedded model SmolLM2-135M on this CPU (no --model, SOT_GRAPH_MODEL or OPENAI_API_KEY). "
            + _UNRELIABLE
        )
    else:
        say(f"Using {path} on this CPU.")
    with local_model(path) as chat:
        yield chat
