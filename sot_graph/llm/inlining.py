"""Whole replies are made into LangChain's form where they are.

LangChain has a thread do that for each reply. What is done there takes 50 µs, and handing it over and back several
times as long: where cores are idle, the threads contend for the interpreter, for a tenth of a question's CPU time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from langchain_openai.chat_models.base import BaseChatOpenAI
from pydantic import ConfigDict

if TYPE_CHECKING:
    from langchain_core.outputs import ChatResult

__all__ = ["WholeReply", "reading_in_place"]


class WholeReply(Exception):
    """A reply on its way past that thread, from the client to the model that has asked.

    Attributes:
        reply: As `_create_chat_result` takes it.
    """

    def __init__(self, reply: object) -> None:
        super().__init__("a whole reply, for a model of `reading_in_place`")
        self.reply = reply


@cache
def reading_in_place(kind: type[BaseChatOpenAI]) -> type[BaseChatOpenAI]:
    """A class of models, but that `WholeReply` is taken from the client. It goes by the same name in traces."""

    class Reading(kind):  # type: ignore[misc,valid-type]
        model_config = ConfigDict(defer_build=True)

        async def _agenerate(
            self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
        ) -> ChatResult:
            result: ChatResult
            try:
                result = await super()._agenerate(messages, stop, run_manager, **kwargs)
            except WholeReply as whole:
                reply = whole.reply
            else:
                return result
            result = self._create_chat_result(reply)
            return result

    Reading.__name__, Reading.__qualname__ = kind.__name__, kind.__qualname__
    return Reading
