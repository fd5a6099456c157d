"""Telling those who listen how a text comes along: its tries, and its pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sot_graph.events import SotEvent
    from sot_graph.runs import Task

__all__ = ["Teller"]


class Teller:
    """Tells of one text, and keeps when its first piece was there.

    Args:
        task: Emits the events.
        start: The event of a try's beginning; gets its number, from 1 over all calls for this text.
        delta: The event of a piece.
    """

    def __init__(self, task: Task, *, start: Callable[[int], SotEvent], delta: Callable[[str], SotEvent]) -> None:
        self.first_text_at: float | None = None
        """In seconds from the run's start; `None` where nothing was streamed."""
        self._task = task
        self._start = start
        self._delta = delta
        self._attempts = 0

    def begin(self, _attempt: int) -> None:
        """Another try begins, whatever its number within one call."""
        self._attempts += 1
        self._task.emit(self._start(self._attempts))

    def send(self, text: str) -> None:
        """The next piece is there."""
        if self._task.stream and self.first_text_at is None:
            self.first_text_at = self._task.shared.elapsed()
        self._task.emit(self._delta(text))
