"""One text from a model, streamed or whole, continued where it breaks off: what was sent is never taken back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, HumanMessage

from sot_graph.expansion.sending import SendingWriter
from sot_graph.llm.call import BrokenStreamError, ModelCall, Prompt, Reply, made

if TYPE_CHECKING:
    from sot_graph.expansion.cleaning import TextCleaner

__all__ = ["TextWriter"]

logger = logging.getLogger("sot_graph")

_GO_ON = (
    "Your reply broke off. Go on exactly where it ends, with the very next word. Repeat nothing of it, and add no "
    "remark."
)
_LONGEST_OVERLAP = 200


class TextWriter(SendingWriter):
    """Has a model write a text, cleans it, and sends it while it is written.

    Args:
        call: How to call the model.
        messages: The prompt.
        make_cleaner: A new cleaner, for each try that begins at the beginning.
        send: Takes the pieces of the cleaned text. A reply that isn't streamed is one piece.
        on_attempt: Called as each call begins.
    """

    who = "the model"

    def __init__(
        self,
        call: ModelCall,
        messages: Prompt,
        *,
        make_cleaner: Callable[[], TextCleaner],
        send: Callable[[str], None],
        on_attempt: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(call, make_cleaner=make_cleaner, send=send)
        self._call = call
        self._messages = messages
        self._on_attempt = on_attempt

    async def _write(self) -> None:
        stream = self._call.task.stream
        restarts = 0
        while True:
            self._cleaner = self._make_cleaner()
            try:
                reply = await self._call.ask(
                    self._messages, on_text=self._take if stream else None, on_attempt=self._on_attempt
                )
                break
            except BrokenStreamError as error:
                if self._cleaner.text:
                    await self._go_on(error.text)
                    return
                restarts += 1
                if restarts > self._call.task.options.max_retries:
                    raise
        if not stream:
            self._take(reply.text)
        self._finish(reply)

    def _take(self, piece: str) -> None:
        self._sender.add(self._cleaner.feed(piece))

    async def _go_on(self, written: str) -> None:
        logger.info("A streamed reply broke off after %d characters; going on from there", len(written))
        messages = [*made(self._messages), AIMessage(written), HumanMessage(_GO_ON)]
        reply = await self._call.ask(messages, on_attempt=self._on_attempt)
        self._take(_continuation(written, reply.text))
        self._finish(reply)

    def _finish(self, reply: Reply) -> None:
        self.truncated = reply.was_cut_off
        self._sender.add(self._cleaner.finish(cut_off=reply.was_cut_off))


def _continuation(written: str, reply: str) -> str:
    """What a reply adds to a text: without what it repeats, with the space that a reply doesn't begin with."""
    rest = reply[_overlap(written, reply) :]
    repeats = len(rest) < len(reply)
    if not repeats and _ends_in_word(written) and rest[:1].isalnum() and not _is_unspaced(rest[0]):
        return " " + rest
    return rest


def _ends_in_word(text: str) -> bool:
    return (text[-1:].isalnum() or text[-1:] in ",.;:!?)") and not _is_unspaced(text[-1])


def _is_unspaced(char: str) -> bool:
    """Whether the character's script puts no spaces between words: Chinese, Japanese, Thai and others."""
    return "\u0e00" <= char <= "\u0eff" or "\u2e80" <= char <= "\u9fff" or char > "\uff00"


def _overlap(written: str, continued: str) -> int:
    """How many characters at the start of a continuation repeat the end of what it continues."""
    longest = min(len(written), len(continued), _LONGEST_OVERLAP)
    for length in range(longest, 2, -1):
        if written.endswith(continued[:length]):
            return length
    return 0
