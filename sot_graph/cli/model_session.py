"""What a command that asks a model has open: the model, its router, and LangSmith's client where the run is traced."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sot_graph.cli.process import error_console, in_flags, waiting
from sot_graph.default_model import choose_model

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable
    from langsmith import Client

    from sot_graph.observability.langsmith_log_filter import OutageFilter

_PATIENCE_SECONDS = 2.0
_PATIENCE = "SOT_GRAPH_TRACE_PATIENCE"
"""Seconds that the command waits for its traces, where two are too few."""


@contextmanager
def opened_model(model: str | None, base_url: str | None) -> Iterator[tuple[Runnable[Any, Any], bool]]:
    """The chat model that the options and the environment ask for, loaded with everything that it is needed with.

    Yields:
        The model, and whether it runs on this CPU: what runs side by side then shares it.
    """
    errors = error_console()
    choice = choose_model(model, base_url)
    if choice.is_embedded:
        choice.check()  # what is not there is not said to be loading
    if choice.notice:
        errors.print(in_flags(choice.notice), style="dim", markup=False)
    what = "Loading the model" if choice.is_embedded else "Starting"
    with ExitStack() as stack:
        with waiting(errors, what, in_pipe=choice.is_embedded):
            chat = stack.enter_context(choice.opened())
            import sot_graph.graph  # noqa: F401 - LangGraph takes as long to import as a small model to load
        yield chat, choice.is_embedded


def make_router(name: str, model: Runnable[Any, Any]) -> Any:
    """A router by its name. `model` is asked by all but the learned one."""
    from sot_graph.routing.learned_router import LearnedRouter
    from sot_graph.routing.model_router import CascadeRouter, ModelRouter

    if name == "learned":
        return LearnedRouter()
    return ModelRouter(model) if name == "model" else CascadeRouter(LearnedRouter(), ModelRouter(model))


class CommandTracing:
    """LangSmith's tracing in the command: one warning at most, and an end soon after the answer.

    Without tracing, it does nothing.
    """

    def __init__(self) -> None:
        self._client: Client | None = None
        self._outages: OutageFilter | None = None
        self._problem = ""

    def start(self) -> None:
        """Before the first run: the environment says whether it is traced, and where to."""
        from sot_graph.observability.langsmith_log_filter import is_switched_on, one_line, quiet_langsmith

        if not is_switched_on():
            return
        os.environ.setdefault("LANGSMITH_USE_DAEMON", "true")
        import langsmith
        from langsmith.utils import LangSmithMissingAPIKeyWarning

        # What the client logs is said by the command's own line.
        self._outages = quiet_langsmith()
        logger = logging.getLogger("langsmith")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", LangSmithMissingAPIKeyWarning)
                self._client = langsmith.Client()
        except LangSmithMissingAPIKeyWarning:
            self._problem = "LANGSMITH_TRACING is set, but LANGSMITH_API_KEY is not: this run is not traced."
        except Exception as error:  # noqa: BLE001  (a setting of LangSmith's is never worth the answer)
            self._problem = f"LangSmith's settings are wrong, so this run is not traced: {one_line(str(error))}"
        langsmith.configure(client=self._client, enabled=None if self._client is not None else False)

    def finish(self) -> bool:
        """After the answer: give the last traces a moment, and say what became of them if it is nothing good.

        True if the process has to be left by `leave`, since the client's threads may not let it end.
        """
        if self._client is not None:
            # `flush(timeout=...)` bounds its waiting, not its sending.
            flushing = threading.Thread(target=self._client.flush, daemon=True)
            flushing.start()
            patience = trace_patience()
            flushing.join(patience)
            if self._outages is not None and self._outages.first:
                self._problem = f"LangSmith did not take this run's trace, or not all of it: {self._outages.first}"
            elif flushing.is_alive():
                self._problem = (
                    f"LangSmith did not take this run's trace within {patience:g} s; it may be missing there."
                )
        if self._problem:
            error_console().print(f"sot-graph: warning: {self._problem}", style="yellow", markup=False)
        return self._client is not None


def trace_patience() -> float:
    """How many seconds the command waits for its traces to be sent."""
    try:
        seconds = float(os.environ.get(_PATIENCE) or _PATIENCE_SECONDS)
    except ValueError:
        return _PATIENCE_SECONDS
    return min(seconds, threading.TIMEOUT_MAX) if seconds >= 0 else _PATIENCE_SECONDS
