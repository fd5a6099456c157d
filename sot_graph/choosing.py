"""Which model a program takes that nobody hands one: the command, and the graphs of Studio."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sot_graph.errors import SotConfigError

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

__all__ = [
    "COMMAND",
    "DEFAULT_OPENAI_MODEL",
    "ENVIRONMENT",
    "ModelChoice",
    "Settings",
    "choose_from_environment",
    "choose_model",
]

DEFAULT_OPENAI_MODEL = "gpt-4o-mini"
"""Where only a key is there. The library itself has no default model."""

_UNRELIABLE = "Its form is good, its facts are often wrong: it is here to show the graph at work."


@dataclass(frozen=True, slots=True)
class Settings:
    """What a program's user calls the two settings, for messages."""

    model: str
    base_url: str


ENVIRONMENT = Settings("SOT_GRAPH_MODEL", "SOT_GRAPH_BASE_URL")
COMMAND = Settings("--model (SOT_GRAPH_MODEL)", "--base-url (SOT_GRAPH_BASE_URL)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelChoice:
    """A model that is going to be used."""

    name: str | None
    """A name, the path of a `.gguf` file, or `None`: the embedded model's own weights."""
    base_url: str | None = None
    """An OpenAI-compatible endpoint."""
    notice: str = ""
    """What the user has to know about a choice that they didn't make; empty: nothing."""
    settings: Settings = field(default=COMMAND, compare=False)

    @property
    def is_embedded(self) -> bool:
        """Whether it runs inside this process."""
        return self.base_url is None and (self.name is None or self.name.lower().endswith(".gguf"))

    def check(self) -> None:
        """Find out whether it can be had, without starting or asking it.

        Raises:
            SotConfigError: There is no such model, or something that it needs is missing.
        """
        if not self.is_embedded:
            self._resolve()
            return
        from sot_graph.local import LocalServer

        try:
            LocalServer(self.name)
        except SotConfigError as error:
            if self.name is not None:
                raise
            message = f"{error} Or choose another model: OPENAI_API_KEY, {self.settings.model}."
            raise SotConfigError(message) from error

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
        from sot_graph.llm.resolve import resolve_model

        return resolve_model(self.name, base_url=self.base_url)


def choose_model(model: str | None = None, base_url: str | None = None, *, settings: Settings = COMMAND) -> ModelChoice:
    """What the arguments and the environment ask for.

    In this order: the name given (`--model`, `SOT_GRAPH_MODEL`), OpenAI's default where `OPENAI_API_KEY` is
    set, the embedded model.

    Args:
        model: A name, or a path that ends in `.gguf`.
        base_url: An OpenAI-compatible endpoint.
        settings: What messages call the two.

    Raises:
        SotConfigError: A base URL without a name.
    """
    if model is not None or base_url is not None:
        return _asked_for(model, base_url, settings)
    if os.environ.get("OPENAI_API_KEY"):
        name = DEFAULT_OPENAI_MODEL
        notice = f"Using {name}, since OPENAI_API_KEY is set. {settings.model} chooses another."
    else:
        name = None
        notice = (
            "Using the embedded model SmolLM2-135M on this CPU, since neither OPENAI_API_KEY nor "
            f"{settings.model} is set. {_UNRELIABLE}"
        )
    return ModelChoice(name=name, notice=notice, settings=settings)


def _asked_for(model: str | None, base_url: str | None, settings: Settings) -> ModelChoice:
    if model is None:
        message = f"{settings.base_url} needs {settings.model}: which of that server's models is to answer?"
        raise SotConfigError(message)
    choice = ModelChoice(name=model, base_url=base_url, settings=settings)
    return replace(choice, notice=f"Using {model} on this CPU.") if choice.is_embedded else choice


def choose_from_environment() -> ModelChoice:
    """What the environment alone asks for: `SOT_GRAPH_MODEL` and `SOT_GRAPH_BASE_URL` are the options of the command.

    Raises:
        SotConfigError: A base URL without a name.
    """
    given = (os.environ.get(name) or None for name in (ENVIRONMENT.model, ENVIRONMENT.base_url))
    return choose_model(*given, settings=ENVIRONMENT)
