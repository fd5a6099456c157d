"""Going on from where a streamed reply broke off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, HumanMessage

from sot_graph.llm.provider_errors import meaning_of
from sot_graph.llm.retry_policy import RetryPolicy

if TYPE_CHECKING:
    from sot_graph.llm.call import BrokenStreamError, ModelCall, Prompt
    from sot_graph.llm.reply import Reply

logger = logging.getLogger("sot_graph")

_GO_ON = (
    "Your reply broke off. Go on exactly where it ends, with the very next word. Repeat nothing of it, and add no "
    "remark."
)
_LONGEST_OVERLAP = 200


async def go_on(
    call: ModelCall, prompt: Prompt, broken: BrokenStreamError, *, on_attempt: Callable[[], None] | None = None
) -> tuple[str, Reply]:
    """Have the model go on from what it has written: at once, or when a busy provider may be asked again.

    Args:
        call: How to call the model.
        prompt: What it was asked.
        broken: Its reply, as far as it came.
        on_attempt: As in `ModelCall.ask`.

    Returns:
        What is to be put behind it, and the whole reply that this is of.

    Raises:
        Exception: The provider's own.
    """
    cause, written = broken.__cause__, broken.text
    if cause is not None and meaning_of(cause) == "busy":
        wait = RetryPolicy(call.run.options).wait_after(cause)
        if wait is None:
            raise cause
        await asyncio.sleep(wait)
    logger.info("A streamed reply broke off after %d characters; going on from there", len(written))
    messages = [*(prompt() if callable(prompt) else prompt), AIMessage(written), HumanMessage(_GO_ON)]
    reply = await call.ask(messages, on_attempt=on_attempt)
    return _continuation(written, reply.text), reply


def _continuation(written: str, reply: str) -> str:
    """What a reply adds to a text: without what it repeats, with the space that a reply doesn't begin with."""
    overlap = _overlap(written, reply)
    if overlap or not (written and reply) or _is_unspaced(written[-1]) or _is_unspaced(reply[0]):
        return reply[overlap:]
    needs_space = (written[-1].isalnum() or written[-1] in ",.;:!?)") and reply[0].isalnum()
    return " " + reply if needs_space else reply


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
