"""`TextDraft`: a text while it is being written, cleaned and sent piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sot_graph.types import Source
    from sot_graph.writing.cleaner import TextCleaner

__all__ = ["TextDraft", "TextEventEmitter"]


class TextEventEmitter:
    """Sends a growing text in pieces: the first at once, later ones together when they come close on each other.

    Each piece that is sent costs a queue entry and a wake-up of the reader. At sixty tokens a second and ten points
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


class TextDraft(TextEventEmitter):
    """A text while it is being written. What was sent of it is never taken back.

    Args:
        make_cleaner: Makes a cleaner for each try that begins at the beginning.
        send: Takes the pieces of the cleaned text. A text that isn't streamed is one piece.
        longest_delay: As for `TextEventEmitter`.
        on_attempt: Called as each try begins, with 1, 2, ... over all calls for this text.
        now: Tells the time at the first piece; `None` where nothing is streamed.
    """

    def __init__(
        self,
        make_cleaner: Callable[[], TextCleaner],
        send: Callable[[str], None],
        *,
        longest_delay: float,
        on_attempt: Callable[[int], None] | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(send, longest_delay)
        self.sources: Sequence[Source] = ()
        """What the text rests on."""
        self.truncated = False
        """Whether the text ends where the model ran into a token limit."""
        self.first_text_at: float | None = None
        self._make_cleaner = make_cleaner
        self._on_attempt = on_attempt
        self._now = now
        self._attempts = 0
        self.restart()

    def restart(self) -> None:
        """A try begins at the beginning. Nothing was sent before."""
        self._cleaner = self._make_cleaner()
        self.sources = ()

    def begin_attempt(self, _number: int) -> None:
        """A call begins, whatever its number within one try."""
        self._attempts += 1
        if self._on_attempt is not None:
            self._on_attempt(self._attempts)

    def write(self, piece: str) -> None:
        """The next piece, as it comes from the source."""
        self.add(self._cleaner.feed(piece))

    def end(self, *, cut_off: bool = False) -> None:
        """The text is whole, or ends at a token limit."""
        self.truncated = cut_off
        self.add(self._cleaner.finish(cut_off=cut_off))

    def add(self, text: str) -> None:
        """Send cleaned text."""
        if text and self._now is not None and self.first_text_at is None:
            self.first_text_at = self._now()
        super().add(text)

    @property
    def text(self) -> str:
        """What has been cleaned and sent so far, also of a text that broke off."""
        return self._cleaner.text

    @property
    def says_something(self) -> bool:
        """Whether there is a word in it."""
        return self._cleaner.says_something
