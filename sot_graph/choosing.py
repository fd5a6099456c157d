"""Which model a program takes that nobody hands one: the command, and the graphs of Studio."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sot_graph.errors import SotConfigError

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

__all__ = ["DEFAULT_OPENAI_MODEL", "ModelChoice", "choose_from_environment", "choose_model"]

DEFAULT_OPENAI_MODEL = "gpt-4o-mini"
"""Where only a key is there. The library itself has no default model."""

_UNRELIABLE = "Its form is good, its facts are often wrong: it is here to show the graph at work."


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelChoice:
    """A model that is going to be used."""

    name: str | None
    """A name, the path of a `.gguf` file, or `None`: the embedded model's own weights."""
    base_url: str | None = None
    """An OpenAI-compatible endpoint."""
    notice: str = ""
    """What the user has to know about a choice that they didn't make; empty: nothing."""

    @property
    def is_embedded(self) -> bool:
        """Whether it runs inside this process."""
        return self.base_url is None and (self.name is None or self.name.endswith(".gguf"))

    def check(self) -> None:
        """Find out whether it can be had, without starting or asking it.

        Raises:
            SotConfigError: There is no such model, or something that it needs is missing.
        """
        if self.is_embedded:
            from sot_graph.local import LocalServer

            LocalServer(self.name)
        else:
            self._resolve()

    @contextmanager
    def opened(self) -> Iterator[Runnable[Any, Any]]:
        """The chat model, as long as the block lasts.

        Raises:
            SotConfigError: As `check`, or the embedded model could not be started.
        """
        if self.is_embedded:
            from sot_graph.local import local_model

            with local_model(self.name) as chat:
                yield chat
        else:
            yield self._resolve()

    def _resolve(self) -> Runnable[Any, Any]:
        from sot_graph.models import ModelWords, resolve_model

        words = ModelWords(
            model="--model (SOT_GRAPH_MODEL)",
            base_url="--base-url (SOT_GRAPH_BASE_URL)",
            examples="Give a name such as gpt-4o-mini or openai:gpt-4o-mini, or the path of a .gguf file.",
            without_key="name a server of your own by --base-url, or leave --model out for the embedded model",
            without_langchain="name a server that speaks OpenAI's protocol by --base-url",
            own_server="give --base-url (SOT_GRAPH_BASE_URL) too",
        )
        return resolve_model(self.name, base_url=self.base_url, words=words)


def choose_model(model: str | None = None, base_url: str | None = None) -> ModelChoice:
    """What the arguments and the environment ask for.

    In this order: the name given (`--model`, `SOT_GRAPH_MODEL`), OpenAI's default where `OPENAI_API_KEY` is
    set, the embedded model.

    Args:
        model: A name, or a path that ends in `.gguf`.
        base_url: An OpenAI-compatible endpoint.

    Raises:
        SotConfigError: A base URL without a name.
    """
    if base_url is not None and model is None:
        message = (
            "--base-url needs --model (SOT_GRAPH_BASE_URL needs SOT_GRAPH_MODEL): which of that server's models is to "
            "answer?"
        )
        raise SotConfigError(message)
    if model is None and os.environ.get("OPENAI_API_KEY"):
        notice = f"Using {DEFAULT_OPENAI_MODEL} (OPENAI_API_KEY is set; choose with --model or SOT_GRAPH_MODEL)."
        return ModelChoice(name=DEFAULT_OPENAI_MODEL, notice=notice)
    choice = ModelChoice(name=model, base_url=base_url)
    if not choice.is_embedded:
        return choice
    if model is None:
        notice = "Using the embedded model SmolLM2-135M on this CPU (no --model, SOT_GRAPH_MODEL or OPENAI_API_KEY). "
        return ModelChoice(name=None, notice=notice + _UNRELIABLE)
    return ModelChoice(name=model, notice=f"Using {model} on this CPU.")


def choose_from_environment() -> ModelChoice:
    """What the environment alone asks for: `SOT_GRAPH_MODEL` and `SOT_GRAPH_BASE_URL` are the options of the command.

    Raises:
        SotConfigError: A base URL without a name.
    """
    return choose_model(os.environ.get("SOT_GRAPH_MODEL") or None, os.environ.get("SOT_GRAPH_BASE_URL") or None)
