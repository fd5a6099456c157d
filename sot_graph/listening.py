"""Sending a growing text in handy pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["TextSender"]


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
