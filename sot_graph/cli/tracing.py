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

__all__ = ["CommandTracing"]

_PATIENCE_SECONDS = 2.0
_SWITCHES = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")
_LONGEST_REASON = 160
_NO_KEY = "LANGSMITH_TRACING is set, but LANGSMITH_API_KEY is not: this run is not traced."


class CommandTracing:
    """Follows what LangSmith's client does with the command's traces. Without tracing, it does nothing."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._complaints = _Complaints()
        self._problem = ""

    def start(self) -> None:
        """Before the first run: the environment says whether it is traced, and where to."""
        if not any(os.environ.get(name, "").lower() in {"true", "1"} for name in _SWITCHES):
            return
        os.environ.setdefault("LANGSMITH_USE_DAEMON", "true")
        import langsmith
        from langsmith.utils import LangSmithMissingAPIKeyWarning

        # The client logs a line for each request that fails; one of the command's own says it all.
        logger = logging.getLogger("langsmith")
        logger.addHandler(self._complaints)
        logger.propagate = False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", LangSmithMissingAPIKeyWarning)
                self._client = langsmith.Client()
        except LangSmithMissingAPIKeyWarning:
            self._problem = _NO_KEY
        except Exception as error:  # noqa: BLE001  (a setting of LangSmith's is never worth the answer)
            self._problem = f"LangSmith's settings are wrong, so this run is not traced: {_one_line(str(error))}"
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
            flushing.join(_PATIENCE_SECONDS)
            if self._complaints.first:
                reason = _one_line(self._complaints.first)
                self._problem = f"LangSmith did not take this run's trace, or not all of it: {reason}"
            elif flushing.is_alive():
                self._problem = (
                    f"LangSmith did not take this run's trace within {_PATIENCE_SECONDS:g} s; it may be missing there."
                )
        if self._problem:
            errors.print(f"sot-graph: warning: {self._problem}", style="yellow", markup=False)
        return self._client is not None


class _Complaints(logging.Handler):
    """Keeps the first thing that LangSmith's client complains about, in place of printing all of them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()


def _one_line(text: str) -> str:
    from sot_graph.scrubbing import without_keys

    line = without_keys(" ".join(text.split()))
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"
