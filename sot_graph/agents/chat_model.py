"""`SotChatModel`: a graph where only a chat model fits, and what it shares with the middleware's model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.constants import TAG_NOSTREAM
from langgraph.pregel import Pregel
from pydantic import Field

from sot_graph.errors import SotConfigError
from sot_graph.llm.reply import as_chunk
from sot_graph.run import ANSWER_ID_KEY
from sot_graph.streaming import AnswerReader

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable, RunnableConfig

RUN_ID_PREFIX = "lc_run--"
"""The beginning of the id that LangChain gives to the message of a model's run."""
_IN_METADATA = ("skeleton", "usage", "timings", "sources")
_OF_A_POINT = ("index", "status", "error")


@dataclass
class RunnablePart:
    """What is run for a part of a message, a model or a graph, and with what."""

    message_id: str | None
    """The id of the whole message, of which this is a part."""
    runnable: Any
    given: Any
    config: RunnableConfig
    settings: Mapping[str, Any]
    streamed: bool

    def pieces(self) -> Iterator[Any]:
        """What the runnable gives: all at once, or piece by piece as it is written."""
        if self.streamed:
            yield from self.runnable.stream(self.given, self.config, **self.settings)
        else:
            yield self.runnable.invoke(self.given, self.config, **self.settings)

    async def apieces(self) -> AsyncGenerator[Any]:
        """The same, asynchronously."""
        if self.streamed:
            async with aclosing(self.runnable.astream(self.given, self.config, **self.settings)) as pieces:
                async for piece in pieces:
                    yield piece
        else:
            yield await self.runnable.ainvoke(self.given, self.config, **self.settings)

    def guarded(self) -> AbstractContextManager[None]:
        """A context in which the pieces are read: it may handle what they raise."""
        return nullcontext()

    def take(self, piece: Any) -> list[AIMessage]:
        """Take a piece; give back what can be read now."""
        raise NotImplementedError

    def end(self) -> list[AIMessage]:
        """All pieces have come: give back what is left."""
        raise NotImplementedError


class GraphAnswer(RunnablePart):
    """The answer of a graph, as a model's message. Nobody hears the graph itself: the model says what it writes."""

    def __init__(
        self,
        graph: Any,
        given: Mapping[str, Any],
        message_id: str | None,
        config: RunnableConfig,
        *,
        context: Any = None,
        streamed: bool,
    ) -> None:
        self._reader = AnswerReader()
        self.result: Any = None
        self.about: Mapping[str, Any] = {}
        """What else its `response_metadata` says."""
        config = {
            **config,
            "tags": [*(config.get("tags") or ()), TAG_NOSTREAM],
            "configurable": {**config.get("configurable", {}), ANSWER_ID_KEY: message_id},
        }
        settings: dict[str, Any] = {"stream_mode": ["custom", "values"]} if streamed else {}
        if context is not None:
            # Within a parent's run, a graph reads what stands under `sot` alone.
            has_sot = "sot" in context if isinstance(context, Mapping) else hasattr(context, "sot")
            settings["context"] = context if has_sot else {"sot": context}
        super().__init__(message_id, graph, given, config, settings, streamed)

    def take(self, piece: Any) -> list[AIMessage]:
        """Take a part of the graph's stream; give back what can be read now."""
        mode, data = piece if self.streamed else ("values", piece)
        if mode == "values":
            self.result = data
            return []
        return self._read(data)

    def end(self) -> list[AIMessage]:
        """The graph has ended: give back what is left of the message."""
        known = {key: self.result[key] for key in _IN_METADATA if key in self.result}
        known["points"] = [{key: each[key] for key in _OF_A_POINT} for each in self.result["expansions"]]
        answer = self.result["answer"]
        metadata = {**self.about, "finish_reason": self.result["finish_reason"], "sot": known}
        if not self.streamed:
            return [AIMessage(answer, id=self.message_id, response_metadata=metadata)]
        last = AIMessageChunk(content="", id=self.message_id, response_metadata=metadata, chunk_position="last")
        return [*self._read({"type": "sot.answer", "answer": answer}), last]

    def _read(self, event: Mapping[str, Any]) -> list[AIMessage]:
        text = self._reader.feed(event)
        return [AIMessageChunk(content=text, id=self.message_id)] if text else []


class PartwiseChatModel(BaseChatModel):
    """A chat model whose message is made of parts, each of which has ended before the next one is asked for."""

    cache: Any = False
    """A process's cache of replies can't tell what this model stands for. The model's own calls use it as ever."""

    def parts(
        self, messages: list[BaseMessage], settings: Mapping[str, Any], run_manager: Any, *, streamed: bool
    ) -> Iterator[RunnablePart]:
        """The parts of a message."""
        raise NotImplementedError

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        (message,) = self._answer(self.parts(messages, _settings(kwargs, stop), run_manager, streamed=False))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        parts = self.parts(messages, _settings(kwargs, stop), run_manager, streamed=False)
        (message,) = [message async for message in self._aanswer(parts)]
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._answer(self.parts(messages, _settings(kwargs, stop), run_manager, streamed=True)):
            yield ChatGenerationChunk(message=as_chunk(chunk))

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        parts = self.parts(messages, _settings(kwargs, stop), run_manager, streamed=True)
        async with aclosing(self._aanswer(parts)) as chunks:
            async for chunk in chunks:
                yield ChatGenerationChunk(message=as_chunk(chunk))

    def _answer(self, parts: Iterator[RunnablePart]) -> Iterator[AIMessage]:
        """The whole message, or its chunks."""
        for part in parts:
            with part.guarded():
                for piece in part.pieces():
                    yield from part.take(piece)
            yield from part.end()

    async def _aanswer(self, parts: Iterator[RunnablePart]) -> AsyncGenerator[AIMessage]:
        """The same, asynchronously. What is run runs where the caller does: in its thread, or on its loop."""
        for part in parts:
            with part.guarded():
                async with aclosing(part.apieces()) as pieces:
                    async for piece in pieces:
                        for message in part.take(piece):
                            yield message
            for message in part.end():
                yield message


def _settings(settings: dict[str, Any], stop: list[str] | None) -> dict[str, Any]:
    return settings if stop is None else {**settings, "stop": stop}


class SotChatModel(PartwiseChatModel):
    """A graph of `create_sot_graph` as a chat model: for chains, evaluators, and agents that take models only.

    `invoke` gives the answer as an `AIMessage`, `stream` its pieces in reading order. `response_metadata["sot"]` has
    the skeleton, each point's status, sources, usage and timings. The model's own `usage_metadata` is empty: each call
    that the graph makes tells its tokens to the same callbacks, and would be counted twice.

    Raises:
        SotConfigError: Not such a graph, or one with a checkpointer. In `bind_tools`: the graph calls no tools. In a
            run: `stop` and other settings of a call.

    Examples:
        >>> from sot_graph import create_sot_graph
        >>> from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought
        >>> model = SotChatModel(graph=create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought())))
        >>> model.invoke("How do plants grow?").text.startswith("**1. ")
        True
    """

    graph: Any = Field(repr=False)
    """The graph."""
    context: Any = Field(default=None, repr=False)
    """What each run may set, as in `graph.invoke(..., context=...)`: options, or what has them as `sot`."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        graph = self.graph
        while hasattr(graph, "bound"):  # by `with_retry`, for one
            graph = graph.bound
        if not (isinstance(graph, Pregel) and {"messages", "answer", "finish_reason"} <= set(graph.channels)):
            message = f"SotChatModel takes a compiled graph of create_sot_graph, not {type(self.graph).__name__}."
            raise SotConfigError(message)
        if graph.checkpointer:
            message = "SotChatModel's graph has a checkpointer, but a model's call has no thread: leave it out."
            raise SotConfigError(message)

    @property
    def _llm_type(self) -> str:
        return "sot-graph"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Refuse tools.

        Raises:
            SotConfigError: Always.
        """
        message = (
            "SotChatModel calls no tools: its graph answers at once. Give the agent SkeletonOfThoughtMiddleware(), or "
            "the graph as a tool, create_sot_tool(graph); let points use tools by create_sot_graph(expander=...)."
        )
        raise SotConfigError(message)

    def parts(
        self, messages: list[BaseMessage], settings: Mapping[str, Any], run_manager: Any, *, streamed: bool
    ) -> Iterator[RunnablePart]:
        """The graph's answer."""
        if settings:
            names = ", ".join(sorted(settings))
            message = f"SotChatModel takes no {names} in a call: bind it to the graph's own model."
            raise SotConfigError(message)
        config: RunnableConfig = {**(var_child_runnable_config.get() or {})}
        if run_manager is not None:
            # Only asynchronous run managers have `get_sync`. What the graph's calls tell, its own run tells the same.
            kind = AsyncCallbackManager if hasattr(run_manager, "get_sync") else CallbackManager
            config["callbacks"] = kind(
                run_manager.inheritable_handlers,
                run_manager.inheritable_handlers,
                run_manager.run_id,
                inheritable_tags=run_manager.inheritable_tags,
                inheritable_metadata=run_manager.inheritable_metadata,
            )
        message_id = f"{RUN_ID_PREFIX}{uuid4() if run_manager is None else run_manager.run_id}"
        given = {"messages": messages}
        yield GraphAnswer(self.graph, given, message_id, config, context=self.context, streamed=streamed)
