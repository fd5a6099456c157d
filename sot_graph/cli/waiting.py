"""Signs of life: a clock that runs on standard error while nothing else can be shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sot_graph.choosing import choose_model

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

__all__ = ["OpenedModel", "opened_model", "waiting"]


@contextmanager
def waiting(errors: Console, what: str, *, in_pipe: bool = True) -> Iterator[None]:
    """Show what is waited for: with a running clock on a terminal, in one plain line elsewhere.

    Args:
        errors: Standard error.
        what: What is being done, such as `"Loading the model"`.
        in_pipe: Whether it is worth a line where standard error is no terminal.
    """
    if not errors.is_terminal or os.environ.get("TERM") == "dumb":
        if in_pipe:
            errors.print(f"{what} ...", style="dim")
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # What is printed meanwhile stays where it goes: standard output may be a file.
    with Progress(*columns, console=errors, transient=True, redirect_stdout=False) as progress:
        progress.add_task(what, total=None)
        yield


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model that can be asked."""

    chat: Runnable[Any, Any]
    is_embedded: bool
    """Whether it runs on this CPU: what runs side by side then shares it."""


@contextmanager
def opened_model(model: str | None, base_url: str | None, errors: Console) -> Iterator[OpenedModel]:
    """The chat model that the options and the environment ask for, loaded with everything that it is needed with.

    Args:
        model: As for `choose_model`.
        base_url: As for `choose_model`.
        errors: Where the user is told about a choice that they didn't make, and that it takes a moment.

    Raises:
        SotConfigError: There is no such model, or something that it needs is missing.
    """
    choice = choose_model(model, base_url)
    if choice.is_embedded:
        choice.check()  # what is not there is not said to be loading
    if choice.notice:
        errors.print(choice.notice, style="dim", markup=False)
    what = "Loading the model" if choice.is_embedded else "Starting"
    with ExitStack() as stack:
        with waiting(errors, what, in_pipe=choice.is_embedded):
            chat = stack.enter_context(choice.opened())
            import sot_graph.graph  # noqa: F401 - LangGraph takes as long to import as a small model to load
        yield OpenedModel(chat, choice.is_embedded)
