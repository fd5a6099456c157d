"""`AnsweringModel`: an agent's model whose long answers are written by Skeleton-of-Thought.

It stands in the model's place for one call, so that everything around it stays the agent's: tools are bound to it, its
settings reach the model, its tokens are the agent's tokens. The first call carries the agent's tools, and its reply is
either the agent's turn (calls of tools, a short answer) or the skeleton: no token is paid for twice.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langgraph.constants import TAG_NOSTREAM

from sot_graph.errors import ExpansionError
from sot_graph.integrations.deciding import instruction, skeleton_in
from sot_graph.integrations.streams import Deciding, Writing
from sot_graph.models import Reply
from sot_graph.usage import usage_metadata

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from sot_graph.types import FinishReason

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
        options: Of the graph.
        spent: Takes what it costs.
    """

    asked: Any
    graph: Any
    options: Any
    spent: Any
    cache: Any = False
    """A process's cache of replies can't tell what this one stands for; the model's own calls use it as ever."""

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
        reply = self.asked.invoke(self._told(messages), _config(run_manager, "decide"), **_settings(stop, kwargs))
        titles = self._titles(reply)
        if titles is None:
            return _result(self._passed_on(reply))
        try:
            result = self.graph.invoke(_given(messages, titles), _config(run_manager, "write the answer"))
        except ExpansionError as error:
            return _result(self._marked(error))
        return _result(self._answer(result))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        reply = await self.asked.ainvoke(
            self._told(messages), _config(run_manager, "decide"), **_settings(stop, kwargs)
        )
        titles = self._titles(reply)
        if titles is None:
            return _result(self._passed_on(reply))
        try:
            result = await self.graph.ainvoke(_given(messages, titles), _config(run_manager, "write the answer"))
        except ExpansionError as error:
            return _result(self._marked(error))
        return _result(self._answer(result))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        deciding = Deciding(self.options)
        pieces = self.asked.stream(self._told(messages), _config(run_manager, "decide"), **_settings(stop, kwargs))
        for piece in pieces:
            for chunk in deciding.take(piece):
                yield self._chunk(chunk)
        titles = self._titles(deciding.whole) if deciding.is_open else None
        if titles is None:
            for chunk in deciding.rest():
                yield self._chunk(chunk)
            return
        writing = Writing()
        parts = self.graph.stream(
            _given(messages, titles), _config(run_manager, "write the answer"), stream_mode=["custom", "values"]
        )
        with writing.to_its_end():
            for part in parts:
                if text := writing.take(part):
                    yield _text_chunk(text)
        yield from self._end(writing)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        deciding = Deciding(self.options)
        pieces = self.asked.astream(self._told(messages), _config(run_manager, "decide"), **_settings(stop, kwargs))
        async for piece in pieces:
            for chunk in deciding.take(piece):
                yield self._chunk(chunk)
        titles = self._titles(deciding.whole) if deciding.is_open else None
        if titles is None:
            for chunk in deciding.rest():
                yield self._chunk(chunk)
            return
        writing = Writing()
        parts = self.graph.astream(
            _given(messages, titles), _config(run_manager, "write the answer"), stream_mode=["custom", "values"]
        )
        with writing.to_its_end():
            async for part in parts:
                if text := writing.take(part):
                    yield _text_chunk(text)
        for closing in self._end(writing):
            yield closing

    def _told(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        return [*messages, HumanMessage(instruction(self.options))]

    def _titles(self, reply: AIMessage | None) -> list[str] | None:
        """The skeleton that a reply is; `None`: it is the agent's turn as it stands."""
        if reply is None or reply.tool_calls or reply.invalid_tool_calls:
            return None
        text = str(reply.text)
        was_cut_off = Reply(text, reply).was_cut_off
        # What stands last may be half a title.
        titles = skeleton_in(text.rpartition("\n")[0] if was_cut_off else text, self.options)
        if titles is not None:
            self.spent.add(reply.usage_metadata)
            if was_cut_off:
                logger.warning("The skeleton was cut off at a token limit; its %d whole titles are used.", len(titles))
        return titles

    def _passed_on(self, reply: AIMessage) -> AIMessage:
        """A reply without its usage, which its own run in the trace has; the agent's message gets it back."""
        self.spent.add(reply.usage_metadata)
        return reply.model_copy(update={"usage_metadata": None})

    def _chunk(self, chunk: AIMessageChunk) -> ChatGenerationChunk:
        self.spent.add(chunk.usage_metadata)
        return ChatGenerationChunk(message=chunk.model_copy(update={"usage_metadata": None}))

    def _answer(self, result: Any) -> AIMessage:
        known = {key: result[key] for key in _IN_METADATA if key in result}
        return self._message(result["answer"], known, result["finish_reason"])

    def _marked(self, error: ExpansionError) -> AIMessage:
        """The answer of which no point could be written: an agent's turn ends with a message, unless "raise" is asked.

        Raises:
            ExpansionError: There is nothing to show.
        """
        if not error.answer or error.usage is None:
            raise error
        logger.warning("The agent's answer has only marks. %s", error)
        return self._message(error.answer, {"usage": error.usage}, "stop")

    def _end(self, writing: Writing) -> Iterator[ChatGenerationChunk]:
        """What is left of a streamed answer once its graph has ended."""
        message = self._answer(writing.result) if writing.error is None else self._marked(writing.error)
        if rest := message.text[writing.length :]:
            yield _text_chunk(rest)
        yield _last_chunk(message)

    def _message(self, answer: str, known: dict[str, Any], finish_reason: FinishReason) -> AIMessage:
        self.spent.by_skeleton = True
        self.spent.add(usage_metadata(known["usage"]))
        return AIMessage(answer, response_metadata={"finish_reason": finish_reason, "sot": known})


def _given(messages: Sequence[BaseMessage], titles: list[str]) -> dict[str, Any]:
    return {"messages": list(messages), "given_skeleton": titles}


def _settings(stop: list[str] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    return kwargs if stop is None else {**kwargs, "stop": stop}


def _config(
    run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None, run_name: str
) -> RunnableConfig:
    """For the runs below this one. Their tokens are not the agent's own: those come from here, in reading order."""
    config: RunnableConfig = {"tags": [TAG_NOSTREAM], "run_name": run_name}
    if run_manager is not None:
        is_async = isinstance(run_manager, AsyncCallbackManagerForLLMRun)
        # A model's run manager makes no children: models have none, as a rule.
        below = (AsyncCallbackManager if is_async else CallbackManager)([], parent_run_id=run_manager.run_id)
        below.set_handlers(run_manager.inheritable_handlers)
        below.add_tags(run_manager.inheritable_tags)
        below.add_metadata(run_manager.inheritable_metadata)
        config["callbacks"] = below
    return config


def _result(message: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


def _text_chunk(text: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text))


def _last_chunk(message: AIMessage) -> ChatGenerationChunk:
    last = AIMessageChunk(content="", response_metadata=message.response_metadata, chunk_position="last")
    return ChatGenerationChunk(message=last)
