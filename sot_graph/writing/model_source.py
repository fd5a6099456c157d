"""`ModelSource`: a model writes a text, streamed or whole, continued where it breaks off."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, HumanMessage

from sot_graph.llm.call import BrokenStreamError, ModelCall, Prompt
from sot_graph.llm.reply import WithheldReplyError

if TYPE_CHECKING:
    from sot_graph.writing.writer import TextDraft

logger = logging.getLogger("sot_graph")

_GO_ON = (
    "Your reply broke off. Go on exactly where it ends, with the very next word. Repeat nothing of it, and add no "
    "remark."
)
_LONGEST_OVERLAP = 200


class ModelSource:
    """Has a model write a text.

    Args:
        call: How to call the model.
        messages: The prompt, or what makes it.
    """

    who = "the model"

    def __init__(self, call: ModelCall, messages: Prompt) -> None:
        self._call = call
        self._messages = messages

    async def write(self, draft: TextDraft) -> None:
        """Write the text. A reply from which nothing was sent is asked for again; another is continued from its text.

        Raises:
            WithheldReplyError: A filter, or the model itself, ended it. What there is of it stays in the draft.
            Exception: Trying again and going on are used up.
        """
        call, stream = self._call, self._call.run.stream
        restarts = 0
        while True:
            draft.restart()
            try:
                reply = await call.ask(
                    self._messages, on_text=draft.write if stream else None, on_attempt=draft.begin_attempt
                )
                text = "" if stream else reply.text
                break
            except BrokenStreamError as error:
                if draft.cleaner.text:
                    logger.info("A streamed reply broke off after %d characters; going on from there", len(error.text))
                    prompt = self._messages() if callable(self._messages) else self._messages
                    messages = [*prompt, AIMessage(error.text), HumanMessage(_GO_ON)]
                    reply = await call.ask(messages, on_attempt=draft.begin_attempt)
                    text = _continuation(error.text, reply.text)
                    break
                restarts += 1
                if restarts > call.run.options.max_retries:
                    raise
        if text:
            draft.write(text)
        draft.end(reply.ending)
        if reply.was_withheld and draft.cleaner.says_something:
            raise WithheldReplyError(reply.ending)


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
