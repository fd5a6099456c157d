"""`ModelSource`: a model writes a text, streamed or whole, continued where it breaks off.

It repeats texts. A single call that a provider refuses, such as with 429 or 529, is repeated by `llm/call.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sot_graph.llm.call import BrokenStreamError, ModelCall, Prompt
from sot_graph.llm.continuation import go_on
from sot_graph.llm.reply import WithheldReplyError
from sot_graph.llm.retry_policy import RetryPolicy

if TYPE_CHECKING:
    from sot_graph.writing.writer import GrowingText


@dataclass(slots=True)
class ModelSource:
    """Has a model write a text."""

    call: ModelCall
    """How to call the model."""
    messages: Prompt
    """The prompt, or what makes it."""
    is_silent: bool = False
    """Whether the last reply had not a character of text."""
    who: ClassVar[str] = "the model"

    async def write(self, growing: GrowingText) -> None:
        """Write the text. A reply from which nothing was sent is asked for again; another is continued from its text.

        Raises:
            WithheldReplyError: A filter, or the model itself, ended it. What there is of it stays in the text.
            Exception: Trying again and going on are used up.
        """
        call, stream = self.call, self.call.run.stream
        retries = RetryPolicy(call.run.options)
        while True:
            growing.restart()
            try:
                reply = await call.ask(
                    self.messages, on_text=growing.write if stream else None, on_attempt=growing.begin_attempt
                )
                text = "" if stream else reply.text
                break
            except BrokenStreamError as error:
                if growing.cleaner.text:
                    text, reply = await go_on(call, self.messages, error, on_attempt=growing.begin_attempt)
                    break
                wait = retries.wait_after(error.__cause__ or error, broke_off=True)
                if wait is None:
                    raise
            await asyncio.sleep(wait)
        if text:
            growing.write(text)
        self.is_silent = not reply.text
        growing.end(reply.ending)
        if reply.was_withheld and growing.cleaner.says_something:
            raise WithheldReplyError(reply.ending)
