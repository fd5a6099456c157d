"""Which model answers where no code chooses one: in the command, and in the graphs of Studio.

Messages name the two environment variables. The command puts its own options in their place (`with_flag_names`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sot_graph.errors import SotConfigError

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

_OPENAI_MODEL = "gpt-4o-mini"
"""Where only a key is there. The library itself has no default model."""


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
        return self.base_url is None and (self.name is None or self.name.lower().endswith(".gguf"))

    @property
    def label(self) -> str:
        """How a report calls it."""
        return self.name or "the embedded model"

    def check(self) -> None:
        """Raise `SotConfigError` if it can't be had. It is neither started nor asked."""
        if not self.is_embedded:
            self._resolve()
            return
        from sot_graph.local import LocalServer

        try:
            LocalServer(self.name)
        except SotConfigError as error:
            if self.name is not None:
                raise
            message = f"{error} Or choose another model: OPENAI_API_KEY, SOT_GRAPH_MODEL."
            raise SotConfigError(message) from error

    @contextmanager
    def opened(self) -> Iterator[Runnable[Any, Any]]:
        """The chat model, as long as the block lasts. It raises as `check` does."""
        if self.is_embedded:
            from sot_graph.local import local_model

            with local_model(self.name) as chat:
                yield chat
        else:
            yield self._resolve()

    def _resolve(self) -> Runnable[Any, Any]:
        from sot_graph.llm.resolve import resolve_model

        try:
            return resolve_model(self.name, base_url=self.base_url)
        except SotConfigError as error:
            message = f"{error} Here, model is SOT_GRAPH_MODEL, and base_url is SOT_GRAPH_BASE_URL."
            raise SotConfigError(message) from error


def choose_model(model: str | None = None, base_url: str | None = None) -> ModelChoice:
    """The model that is named, else OpenAI's default where `OPENAI_API_KEY` is set, else the embedded model.

    What is `None` is taken from `SOT_GRAPH_MODEL` and `SOT_GRAPH_BASE_URL`; an empty one is not set.
    """
    model = (os.environ.get("SOT_GRAPH_MODEL") or None) if model is None else model
    base_url = (os.environ.get("SOT_GRAPH_BASE_URL") or None) if base_url is None else base_url
    if model is not None:
        choice = ModelChoice(name=model, base_url=base_url)
        return replace(choice, notice=f"Using {model} on this CPU.") if choice.is_embedded else choice
    if base_url is not None:
        message = "SOT_GRAPH_BASE_URL needs SOT_GRAPH_MODEL: which of that server's models is to answer?"
        raise SotConfigError(message)
    if os.environ.get("OPENAI_API_KEY"):
        notice = f"Using {_OPENAI_MODEL}, since OPENAI_API_KEY is set. SOT_GRAPH_MODEL chooses another."
        return ModelChoice(name=_OPENAI_MODEL, notice=notice)
    notice = (
        "Using the embedded model SmolLM2-135M on this CPU, since neither OPENAI_API_KEY nor SOT_GRAPH_MODEL is set. "
        "Its form is good, its facts are often wrong: it is here to show the graph at work."
    )
    return ModelChoice(name=None, notice=notice)
