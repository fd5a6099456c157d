"""`StandInModel`: stands in an agent's model's place for one call whose answer may be written by Skeleton-of-Thought.

Everything around the call stays the agent's: its tools are bound to the stand-in, its settings reach the model, its
tokens are the agent's tokens. The first call carries the agent's tools, and its reply is either the agent's turn or the
skeleton (`DraftDecision`). A skeleton goes to a graph, which writes the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config
from langgraph.constants import TAG_NOSTREAM
from pydantic import Field

from sot_graph.agents.draft_decision import DraftDecision, decision_instruction
from sot_graph.concurrency.background_loop import run_sync
from sot_graph.errors import ExpansionError, SkeletonError
from sot_graph.llm.call import as_chunk, unbound
from sot_graph.nodes.answer_directly import BREAKS_OFF
from sot_graph.nodes.question_input import last_human, other_blocks
from sot_graph.observability.redaction import GIVEN_UP, Redactor, secrets_of
from sot_graph.observability.run_trace import CallTrace, NodeTrace
from sot_graph.options import SotContext
from sot_graph.run import ANSWER_ID
from sot_graph.streaming import AnswerReader, is_sot_event
from sot_graph.usage import usage_metadata

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

    from sot_graph.options import SotOptions
    from sot_graph.types import ChatTurn

__all__ = ["AgentTurn", "StandInModel"]

T = TypeVar("T")

logger = logging.getLogger("sot_graph")

_IN_METADATA = ("skeleton", "usage", "timings")
_LEAST_SECONDS = 0.001
"""The points' deadline where deciding has taken all the time: the answer then says which of them are missing."""


class _OutOfTimeError(Exception):
    """The deadline is over, and the next piece isn't there."""


class AgentTurn:
    """One call of an agent's model, from its request to its response.

    Args:
        question: What a person has said last.
        history: The conversation before that, without what tools have found since.
        options: Of the graph, for this call. `deadline` counts from now on.

    Attributes:
        usage: The tokens of all that was asked for it.
        by_skeleton: Whether its answer was written from a skeleton.
    """

    def __init__(self, question: str, history: list[ChatTurn], options: SotOptions) -> None:
        self.question = question
        self.history = history
        self.options = options
        self.usage: UsageMetadata | None = None
        self.by_skeleton = False
        self._began = time.monotonic()

    def add_usage(self, usage: UsageMetadata | None) -> None:
        """Add a call's tokens."""
        self.usage = add_usage(self.usage, usage)

    def seconds_left(self) -> float | None:
        """Until the deadline; `None`: there is none."""
        deadline = self.options.deadline
        return None if deadline is None else max(0.0, self._began + deadline - time.monotonic())


class _OwnRun(BaseCallbackHandler):
    """Knows the run of the model that it is put on: LangChain doesn't tell a model that it streams by itself."""

    run_inline = True

    def __init__(self) -> None:
        self.id: UUID | None = None

    def on_chat_model_start(self, *_: Any, run_id: UUID, **__: Any) -> None:
        self.id = run_id

    @property
    def message_id(self) -> str | None:
        """The id that LangChain gives to the run's message."""
        return None if self.id is None else f"lc_run--{self.id}"

    def callbacks_below(self) -> BaseCallbackManager | None:
        """The agent's callbacks for a run below this one. LangChain makes none: models have no runs below them."""
        around = ensure_config().get("callbacks")
        if not isinstance(around, BaseCallbackManager):
            return None
        below = around.copy()
        below.parent_run_id = self.id or below.parent_run_id
        return below


class StandInModel(BaseChatModel):
    """Answers one call in the place of an agent's model.

    Args:
        asked: The agent's model, with its tools once they are bound.
        graph: Writes a long answer from its skeleton.
        turn: The call, with its time and its cost.
    """

    # What these hold stands in traces, as the model's `repr`.
    asked: Any = Field(repr=False)
    graph: Any = Field(repr=False)
    turn: Any = Field(repr=False)
    run: Any = Field(default_factory=_OwnRun, repr=False)
    cache: Any = False
    """A process's cache of replies can't tell what this model stands for. The model's own calls use it as ever."""

    def model_post_init(self, context: Any, /) -> None:
        """Have the model's run be known."""
        super().model_post_init(context)
        self.callbacks = [self.run]

    @property
    def _llm_type(self) -> str:
        return "skeleton-of-thought"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Bind the agent's tools to its model."""
        return self.model_copy(update={"asked": self.asked.bind_tools(tools, **kwargs)})

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        (message,) = self._answer(self._parts(messages, stop, kwargs, streamed=False))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        parts = self._parts(messages, stop, kwargs, streamed=False)
        (message,) = [message async for message in self._aanswer(parts)]
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._answer(self._parts(messages, stop, kwargs, streamed=True)):
            yield ChatGenerationChunk(message=as_chunk(chunk))

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self._aanswer(self._parts(messages, stop, kwargs, streamed=True))) as chunks:
            async for chunk in chunks:
                yield ChatGenerationChunk(message=as_chunk(chunk))

    def _answer(self, parts: Iterator[_ModelCall | _GraphRun]) -> Iterator[AIMessage]:
        """The whole message, or its chunks."""
        for part in parts:
            with part.guarded():
                for piece in part.pieces():
                    yield from part.take(piece)
            yield from part.end()

    async def _aanswer(self, parts: Iterator[_ModelCall | _GraphRun]) -> AsyncGenerator[AIMessage]:
        """The same, asynchronously. The agent's model runs where the agent does: in its thread, or on its loop."""
        for part in parts:
            with part.guarded():
                async with aclosing(part.apieces()) as pieces:
                    async for piece in pieces:
                        for message in part.take(piece):
                            yield message
            for message in part.end():
                yield message

    def _parts(
        self, messages: list[BaseMessage], stop: list[str] | None, settings: Mapping[str, Any], *, streamed: bool
    ) -> Iterator[_ModelCall | _GraphRun]:
        """What the answer is made of. Each part has ended before the next one is asked for."""
        settings = settings if stop is None else {**settings, "stop": stop}
        told = [*messages, HumanMessage(decision_instruction(self.turn.options))]
        draft = _ModelCall(self, "decide", told, settings, streamed=streamed, may_draft=True)
        yield draft
        decision = draft.decision
        self.turn.add_usage(decision.usage)
        if decision.titles:
            if decision.was_cut_off:
                count = len(decision.titles)
                logger.warning("The skeleton was cut off at a token limit; its %d whole titles are used.", count)
            yield _GraphRun(self, messages, decision, streamed=streamed)
        elif decision.titles is not None:
            logger.warning(
                "The skeleton was cut off at a token limit, with too few titles: the agent answers by itself."
            )
            yield _ModelCall(self, "answer", messages, settings, streamed=streamed, may_draft=False)


@dataclass
class _Part:
    """A part of the answer: what is run for it, the agent's model or the graph, and with what."""

    runnable: Any
    given: Any
    config: RunnableConfig
    settings: Mapping[str, Any]
    streamed: bool

    def pieces(self) -> Iterator[Any]:
        """What comes: all at once, or as it is written."""
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


class _ModelCall(_Part):
    """A call of the agent's model, within the turn's deadline. What it raises is clean of keys and hidden content."""

    def __init__(
        self,
        model: StandInModel,
        name: str,
        prompt: list[BaseMessage],
        settings: Mapping[str, Any],
        *,
        streamed: bool,
        may_draft: bool,
    ) -> None:
        self.decision = DraftDecision(model.turn.options, may_draft=may_draft)
        self._turn: AgentTurn = model.turn
        self._message_id = model.run.message_id
        self._trace = CallTrace()
        config: RunnableConfig = {"tags": [TAG_NOSTREAM], "run_name": name, "callbacks": model.run.callbacks_below()}
        trace = NodeTrace(config)
        self._redactor = Redactor(secrets_of(model.asked), hides_content=not trace.shows_content)
        config["callbacks"] = trace.callbacks_below(config["callbacks"])
        runnable, config, settings = unbound(model.asked, config, settings)
        super().__init__(runnable, prompt, self._trace.begin(config, self._redactor), settings, streamed)

    def pieces(self) -> Iterator[AIMessage]:
        """The reply. Where there is a deadline, threads read it. They can't be ended: one that is late is given up."""
        reply = super().pieces()
        if self._turn.options.deadline is None:
            yield from reply
            return
        while (piece := run_sync(self._in_time(asyncio.to_thread(next, reply, None)))) is not None:
            yield piece

    async def apieces(self) -> AsyncGenerator[AIMessage]:
        """The same, asynchronously: on an event loop, a reply that is late is cancelled."""
        async with aclosing(super().apieces()) as reply:
            try:
                while True:
                    yield await self._in_time(anext(reply))
            except StopAsyncIteration:
                return
            except (_OutOfTimeError, asyncio.CancelledError):
                await self._trace.end(asyncio.CancelledError(GIVEN_UP))
                raise

    async def _in_time(self, piece: Awaitable[T]) -> T:
        """Wait for one piece, not for all of them: between two of them the reader's own code runs."""
        try:
            async with asyncio.timeout(self._turn.seconds_left()) as timer:
                return await piece
        except TimeoutError:
            if not timer.expired():
                raise
            raise _OutOfTimeError from None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Around the pieces.

        Raises:
            SkeletonError: The reply was late. Of a text that is being read, what is there is the answer, marked as cut.
        """
        try:
            yield
        except _OutOfTimeError:
            if self.decision.break_off(BREAKS_OFF):
                return
            message = (
                f"The agent's model had not answered at the deadline ({self._turn.options.deadline:.3g} s). Give it "
                "more time (SotOptions.deadline), or put LangChain's ModelRetryMiddleware or ModelFallbackMiddleware "
                "before SkeletonOfThoughtMiddleware."
            )
            raise SkeletonError(message) from None
        except Exception as error:
            self._redactor.failure(error)
            raise

    def take(self, piece: AIMessage) -> list[AIMessage]:
        """Take a piece of the reply; give back what may be shown."""
        return [self._counted(message) for message in self.decision.take(piece)]

    def end(self) -> list[AIMessage]:
        """What is still to be shown."""
        shown = [self._counted(message) for message in self.decision.end()]
        if self.decision.titles and self.streamed:
            # An empty chunk begins the answer's message. LangGraph shows what subgraphs write, too; by the chunk it
            # knows that this message is shown here.
            shown.append(AIMessageChunk(content="", id=self._message_id))
        return shown

    def _counted(self, message: AIMessage) -> AIMessage:
        """A message without its usage, which this call's own run tells; the agent's message gets it back at the end."""
        self._turn.add_usage(message.usage_metadata)
        return message.model_copy(update={"usage_metadata": None})


class _GraphRun(_Part):
    """The graph's run, which writes the answer from its skeleton."""

    def __init__(
        self, model: StandInModel, messages: list[BaseMessage], decision: DraftDecision, *, streamed: bool
    ) -> None:
        self._turn: AgentTurn = model.turn
        self._about_model = decision.about_model
        self._message_id = model.run.message_id
        self._reader = AnswerReader()
        self._result: Any = None
        self._error: ExpansionError | None = None
        # Its callbacks are the agent's, by themselves. A tracer that it is given beside them would trace it twice.
        config: RunnableConfig = {
            "tags": [TAG_NOSTREAM],
            "run_name": "write the answer",
            "configurable": {ANSWER_ID: self._message_id},
        }
        left = self._turn.seconds_left()
        context = {name: getattr(self._turn.options, name) for name in SotContext.__annotations__}
        context["deadline"] = left if left is None else max(left, _LEAST_SECONDS)
        settings = {"context": context, **({"stream_mode": ["custom", "values"]} if streamed else {})}
        given = {"messages": _with_pictures_apart(messages), "given_skeleton": decision.titles}
        super().__init__(model.graph, given, config, settings, streamed)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Around the pieces: an error is kept, for it may hold an answer."""
        try:
            yield
        except ExpansionError as error:
            self._error = error

    def take(self, piece: Any) -> list[AIMessage]:
        """Take a part of the graph's stream; give back what can be read now."""
        mode, data = piece if self.streamed else ("values", piece)
        if mode == "values":
            self._result = data
            return []
        return self._read(data) if is_sot_event(data) else []

    def end(self) -> list[AIMessage]:
        """What is left of the answer's message.

        Raises:
            ExpansionError: There is nothing to show. Otherwise an agent's turn ends with a message.
        """
        message = self._message()
        if not self.streamed:
            return [message]
        last = self._chunk("", response_metadata=message.response_metadata, chunk_position="last")
        return [*self._read({"type": "sot.answer", "answer": message.text}), last]

    def _read(self, event: Mapping[str, Any]) -> list[AIMessage]:
        text = self._reader.feed(event)
        return [self._chunk(text)] if text else []

    def _message(self) -> AIMessage:
        error, result = self._error, self._result
        if error is None:
            answer, reason = result["answer"], result["finish_reason"]
            known = {key: result[key] for key in _IN_METADATA if key in result}
        elif error.answer and error.usage is not None:
            logger.warning("The agent's answer has only marks. %s", error)
            answer, reason, known = error.answer, "stop", {"usage": error.usage}
        else:
            raise error
        self._turn.by_skeleton = True
        self._turn.add_usage(usage_metadata(known["usage"]))
        metadata = {**self._about_model, "finish_reason": reason, "sot": known}
        return AIMessage(answer, id=self._message_id, response_metadata=metadata)

    def _chunk(self, text: str, **fields: Any) -> AIMessageChunk:
        return AIMessageChunk(content=text, id=self._message_id, **fields)


def _with_pictures_apart(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The conversation, with what its question shows in a message before that: to the graph, a question is a text."""
    position = last_human(messages)
    shown = [] if position is None else other_blocks(messages[position])
    if position is None or not shown:
        return list(messages)
    asked = messages[position]
    question = asked.model_copy(update={"content": str(asked.text)})
    return [*messages[:position], HumanMessage(shown), question, *messages[position + 1 :]]
