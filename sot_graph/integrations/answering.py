"""`AnsweringModel`: an agent's model whose long answers are written by Skeleton-of-Thought.

It stands in the model's place for one call, so that everything around it stays the agent's: tools are bound to it, its
settings reach the model, its tokens are the agent's tokens. The first call carries the agent's tools, and its reply is
either the agent's turn (calls of tools, a short answer) or the skeleton: no token is paid for twice.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

from sot_graph.integrations.asking import Asking, OwnRun
from sot_graph.integrations.streams import Writing
from sot_graph.llm.call import as_chunk
from sot_graph.usage import usage_metadata

__all__ = ["AnsweringModel", "Spent"]

logger = logging.getLogger("sot_graph")

_IN_METADATA = ("skeleton", "usage", "timings")


class Spent:
    """What one answer has cost: the agent's message says it all, the runs in a trace each their own."""

    def __init__(self) -> None:
        self.usage: UsageMetadata | None = None
        self.by_skeleton = False

    def add(self, usage: UsageMetadata | None) -> None:
        """Add a call's tokens."""
        self.usage = add_usage(self.usage, usage)


class AnsweringModel(BaseChatModel):
    """Stands in an agent's model's place for one call.

    Args:
        asked: The agent's model, with its tools once they are bound.
        graph: Writes a long answer from its skeleton.
        options: Of the graph, for this run.
        clock: The time that the answer may take.
        spent: Takes what it costs.
    """

    asked: Any = Field(repr=False)  # what it holds stands in traces, as its `repr`
    graph: Any = Field(repr=False)
    options: Any = Field(repr=False)
    clock: Any = Field(repr=False)
    spent: Any = Field(repr=False)
    run: Any = Field(default_factory=OwnRun, repr=False)
    cache: Any = False
    """A process's cache of replies can't tell what this one stands for; the model's own calls use it as ever."""

    def model_post_init(self, context: Any, /) -> None:
        """Have its run be known."""
        super().model_post_init(context)
        self.callbacks = [self.run]

    @property
    def _llm_type(self) -> str:
        return "skeleton-of-thought"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Bind the agent's tools to its model."""
        return self.model_copy(update={"asked": self.asked.bind_tools(tools, **kwargs)})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        (message,) = self._answered(Asking(self, messages, stop, kwargs), streamed=False)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        asked = Asking(self, messages, stop, kwargs)
        (message,) = [message async for message in self._aanswered(asked, streamed=False)]
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._answered(Asking(self, messages, stop, kwargs), streamed=True):
            yield ChatGenerationChunk(message=as_chunk(chunk))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self._aanswered(Asking(self, messages, stop, kwargs), streamed=True)) as parts:
            async for chunk in parts:
                yield ChatGenerationChunk(message=as_chunk(chunk))

    def _answered(self, asked: Asking, *, streamed: bool) -> Iterator[AIMessage]:
        """The whole message, or its chunks."""
        for call in asked.calls():
            with call.watched():
                for piece in call.pieces(streamed=streamed):
                    yield from map(self._passed_on, call.reply.take(piece))
            yield from map(self._passed_on, call.reply.end())
        if asked.titles is None:
            return
        writing = Writing(self.run.message_id, streamed=streamed)
        yield from writing.begin()
        with writing.to_its_end():
            for part in self.graph.stream(**asked.to_be_written(), stream_mode=writing.modes):
                yield from writing.take(part)
        yield from writing.end(self._message(asked, writing))

    async def _aanswered(self, asked: Asking, *, streamed: bool) -> AsyncGenerator[AIMessage]:
        """The same, asynchronously."""
        for call in asked.calls():
            with call.watched():
                async with aclosing(call.apieces(streamed=streamed)) as pieces:
                    async for piece in pieces:
                        for message in map(self._passed_on, call.reply.take(piece)):
                            yield message
            for message in map(self._passed_on, call.reply.end()):
                yield message
        if asked.titles is not None:
            async for message in self._awritten(asked, Writing(self.run.message_id, streamed=streamed)):
                yield message

    async def _awritten(self, asked: Asking, writing: Writing) -> AsyncGenerator[AIMessage]:
        for message in writing.begin():
            yield message
        with writing.to_its_end():
            async for part in self.graph.astream(**asked.to_be_written(), stream_mode=writing.modes):
                for message in writing.take(part):
                    yield message
        for message in writing.end(self._message(asked, writing)):
            yield message

    def _passed_on(self, message: AIMessage) -> AIMessage:
        """A message without its usage, which its own run in the trace has; the agent's message gets it back."""
        self.spent.add(message.usage_metadata)
        return message.model_copy(update={"usage_metadata": None})

    def _message(self, asked: Asking, writing: Writing) -> AIMessage:
        """The answer, once its graph has ended.

        Raises:
            ExpansionError: There is nothing to show. Otherwise an agent's turn ends with a message.
        """
        error, result = writing.error, writing.result
        if error is None:
            answer, reason = result["answer"], result["finish_reason"]
            known = {key: result[key] for key in _IN_METADATA if key in result}
        elif error.answer and error.usage is not None:
            logger.warning("The agent's answer has only marks. %s", error)
            answer, reason, known = error.answer, "stop", {"usage": error.usage}
        else:
            raise error
        self.spent.by_skeleton = True
        self.spent.add(usage_metadata(known["usage"]))
        return AIMessage(
            answer,
            id=self.run.message_id,
            response_metadata={**asked.about_model, "finish_reason": reason, "sot": known},
        )
