"""What every writer of a text has: a cleaner for each try, and what has been sent of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sot_graph.listening import TextSender

if TYPE_CHECKING:
    from sot_graph.expansion.cleaning import TextCleaner
    from sot_graph.llm.call import ModelCall
    from sot_graph.types import Source

__all__ = ["SendingWriter"]


class SendingWriter(ABC):
    """Writes a text, cleans it, and sends it as it is written.

    Args:
        call: Of the model: its task has the options.
        make_cleaner: A new cleaner, for each try that begins at the beginning.
        send: Takes the pieces of the cleaned text. A text that isn't streamed is one piece.
    """

    who: str
    """For messages."""
    sources: Sequence[Source] = ()
    """What the text rests on."""
    truncated = False
    """Whether the text ends where the model ran into a token limit."""

    def __init__(
        self, call: ModelCall, *, make_cleaner: Callable[[], TextCleaner], send: Callable[[str], None]
    ) -> None:
        self._task = call.task
        self._make_cleaner = make_cleaner
        self._sender = TextSender(send, call.task.options.stream_max_delay)
        self._cleaner = make_cleaner()

    @property
    def text(self) -> str:
        """What has been sent, at any time: also of a text that broke off."""
        return self._cleaner.text

    @property
    def says_something(self) -> bool:
        """Whether there is a word in what has been sent."""
        return self._cleaner.says_something

    async def write(self) -> None:
        """Have it written to its end.

        Raises:
            Exception: When trying again and going on are used up. `text` holds what was sent.
        """
        try:
            await self._write()
        finally:
            self._sender.flush()

    @abstractmethod
    async def _write(self) -> None:
        """Write it, trying again where that can help."""
