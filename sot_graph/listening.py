"""Whether anybody listens to a run's tokens, and sending them in handy pieces.

LangGraph has no public signal for the first question, so its answer stands alone here, and a test holds it against
every way of running a graph with the installed version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from langchain_core.tracers._streaming import _StreamingCallbackHandler

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.runtime import Runtime

__all__ = ["TextSender", "somebody_listens"]


def somebody_listens(config: RunnableConfig, runtime: Runtime[Any] | None) -> bool:
    """Whether a run's tokens reach anybody: by `stream_mode="custom"` or `"messages"`, or by event streaming.

    Where it can't be told, the answer is yes: streaming to nobody costs a little, silence costs the feature.
    """
    if runtime is None:
        return False
    # Where nobody listens, LangGraph hands out a writer that does nothing: a function that refers to nothing.
    code = getattr(runtime.stream_writer, "__code__", None)
    if code is None or code.co_freevars or code.co_names:
        return True
    return _has_streaming_handler(config)


def _has_streaming_handler(config: RunnableConfig) -> bool:
    """The sign by which LangChain itself decides to stream inside `ainvoke`."""
    callbacks = config.get("callbacks")
    handlers = callbacks if isinstance(callbacks, list) else getattr(callbacks, "handlers", None) or []
    return any(isinstance(handler, _StreamingCallbackHandler) for handler in handlers)


class TextSender:
    """Sends a growing text in pieces: the first at once, later ones together when they come close on each other.

    Each piece that is sent costs a queue entry and a wake-up of the reader; at sixty tokens a second and ten points
    nobody can read them one by one.

    Args:
        send: Takes a piece.
        longest_delay: Seconds that a piece may wait for the next; 0: none.
    """

    def __init__(self, send: Callable[[str], None], longest_delay: float) -> None:
        self._send = send
        self._longest_delay = longest_delay
        self._waiting: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sent_any = False

    def add(self, text: str) -> None:
        """Send this, now or within `longest_delay`."""
        if not text:
            return
        self._waiting.append(text)
        if not self._sent_any or not self._longest_delay:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._longest_delay, self.flush)

    def flush(self) -> None:
        """Send what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._sent_any = True
            self._send(text)
