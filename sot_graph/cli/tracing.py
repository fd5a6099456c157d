"""LangSmith's tracing in the command: one warning at most, and an end soon after the answer."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langsmith import Client
    from rich.console import Console

    from sot_graph.observability.langsmith_log_filter import OutageFilter

__all__ = ["CommandTracing"]

_PATIENCE_SECONDS = 2.0
_PATIENCE = "SOT_GRAPH_TRACE_PATIENCE"
"""Seconds that the command waits for its traces, where two are too few."""
_NO_KEY = "LANGSMITH_TRACING is set, but LANGSMITH_API_KEY is not: this run is not traced."


class CommandTracing:
    """Follows what LangSmith's client does with the command's traces. Without tracing, it does nothing."""

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
            self._problem = _NO_KEY
        except Exception as error:  # noqa: BLE001  (a setting of LangSmith's is never worth the answer)
            self._problem = f"LangSmith's settings are wrong, so this run is not traced: {one_line(str(error))}"
        langsmith.configure(client=self._client, enabled=None if self._client is not None else False)

    def finish(self, errors: Console) -> bool:
        """After the answer: give the last traces a moment, and say what became of them if it is nothing good.

        Returns:
            Whether the process has to be left by `leave`, since the client's threads may not let it end.
        """
        if self._client is not None:
            # `flush(timeout=...)` bounds its waiting, not its sending.
            flushing = threading.Thread(target=self._client.flush, daemon=True)
            flushing.start()
            patience = _patience()
            flushing.join(patience)
            if self._outages is not None and self._outages.first:
                self._problem = f"LangSmith did not take this run's trace, or not all of it: {self._outages.first}"
            elif flushing.is_alive():
                self._problem = (
                    f"LangSmith did not take this run's trace within {patience:g} s; it may be missing there."
                )
        if self._problem:
            errors.print(f"sot-graph: warning: {self._problem}", style="yellow", markup=False)
        return self._client is not None


def _patience() -> float:
    try:
        seconds = float(os.environ.get(_PATIENCE) or _PATIENCE_SECONDS)
    except ValueError:
        return _PATIENCE_SECONDS
    return min(seconds, threading.TIMEOUT_MAX) if seconds >= 0 else _PATIENCE_SECONDS
