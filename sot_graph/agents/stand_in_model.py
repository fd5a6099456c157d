"""`StandInModel`: stands in an agent's model's place for one call whose answer may be written by Skeleton-of-Thought.

Everything around the call stays the agent's: its tools are bound to the stand-in, its settings reach the model, its
tokens are the agent's tokens. The first call carries the agent's tools, and its reply is either the agent's own turn
(calls of tools, a short answer) or the skeleton of a long answer, which a graph writes then.

The prompt is the graph's (`SotPrompts.draft_or_answer`), and so is the form that tells the two apart (`SkeletonForm`).
The reply is held back as whole messages, because it may call tools; `DraftReader` holds back text.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config
from langgraph.config import get_stream_writer
from langgraph.constants import TAG_NOSTREAM
from pydantic import Field

from sot_graph._seams import streaming_handlers
from sot_graph.agents.chat_model import RUN_ID_PREFIX, GraphAnswer, PartwiseChatModel, RunnablePart
from sot_graph.concurrency.background_loop import run_sync
from sot_graph.errors import ExpansionError, SkeletonError
from sot_graph.events import BREAKS_OFF
from sot_graph.llm.call import unbound
from sot_graph.llm.reply import WHOLE, Reply
from sot_graph.llm.thoughts import ThoughtFilter
from sot_graph.observability.redaction import GIVEN_UP, secrets_of
from sot_graph.observability.run_trace import CallTrace, NodeTrace
from sot_graph.options import SotContext
from sot_graph.skeleton.answering_drafter import DraftLines, SkeletonForm
from sot_graph.skeleton.points import clean_titles
from sot_graph.usage import usage_metadata

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

    from sot_graph.llm.loop_bound_model import LoopModel
    from sot_graph.options import SotOptions
    from sot_graph.types import ChatTurn

logger = logging.getLogger("sot_graph")

_ABOUT_MODEL = ("model_name", "model_provider")
_LEAST_SECONDS = 0.001
"""The points' deadline where deciding has taken all the time: the answer then says which of them are missing."""


@dataclass(slots=True)
class AgentTurn:
    """One call of an agent's model, from its request to its response."""

    question: str
    """What a person has said last."""
    history: list[ChatTurn]
    """The conversation before that, without what tools have found since."""
    options: SotOptions
    """The graph's options for this call. `deadline` counts from the turn's beginning."""
    usage: UsageMetadata | None = None
    """The tokens of all calls that were made for it."""
    by_skeleton: bool = False
    """Whether its answer was written from a skeleton."""
    began: float = field(default_factory=time.monotonic)

    def add_usage(self, usage: UsageMetadata | None) -> None:
        """Add a call's tokens."""
        self.usage = add_usage(self.usage, usage)

    def seconds_left(self) -> float | None:
        """Seconds until the deadline; `None`: there is none."""
        deadline = self.options.deadline
        return None if deadline is None else max(0.0, self.began + deadline - time.monotonic())


class _OwnRun(BaseCallbackHandler):
    """Knows the model's run: where LangChain streams inside `invoke`, it gives `_stream` no run manager."""

    run_inline = True

    def __init__(self) -> None:
        self.id: UUID | None = None

    def on_chat_model_start(self, *_: Any, run_id: UUID, **__: Any) -> None:
        self.id = run_id

    @property
    def message_id(self) -> str | None:
        """The id that LangChain gives to the run's message."""
        return None if self.id is None else f"{RUN_ID_PREFIX}{self.id}"

    def callbacks_below(self) -> BaseCallbackManager | None:
        """The agent's callbacks for a run below this one. LangChain makes none: models have no runs below them."""
        around = ensure_config().get("callbacks")
        if not isinstance(around, BaseCallbackManager):
            return None
        below = around.copy()
        below.parent_run_id = self.id or below.parent_run_id
        return below


class StandInModel(PartwiseChatModel):
    """Answers one call in the place of an agent's model."""

    # Nothing of these is in the model's `repr`, which stands in traces.
    agent_model: Any = Field(repr=False)
    """The agent's model, with its tools once they are bound."""
    graph: Any = Field(repr=False)
    """Writes a long answer from its skeleton."""
    loop_model: Any = Field(repr=False)
    """The same model without its tools, on whatever event loop it is called."""
    instruction: str = Field(repr=False)
    """The message by which the model may write a skeleton in place of its answer."""
    form: Any = Field(repr=False)
    """How many points that skeleton may have (`SkeletonForm`)."""
    turn: Any = Field(repr=False)
    """The call, with its time and its cost."""
    run: Any = Field(default_factory=_OwnRun, repr=False)

    def model_post_init(self, context: Any, /) -> None:
        """Have the model's run be known."""
        super().model_post_init(context)
        self.callbacks = [self.run]

    @property
    def _llm_type(self) -> str:
        return "skeleton-of-thought"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Bind the agent's tools to its model."""
        return self.model_copy(update={"agent_model": self.agent_model.bind_tools(tools, **kwargs)})

    def parts(
        self, messages: list[BaseMessage], settings: Mapping[str, Any], run_manager: Any, *, streamed: bool
    ) -> Iterator[RunnablePart]:
        """The deciding call, and what it decides for."""
        draft = _ModelReply(self, messages, settings, streamed=streamed, may_draft=True)
        yield draft
        if draft.titles:
            if draft.is_half:
                logger.warning("The skeleton was cut off; its %d whole titles are used.", len(draft.titles))
            yield _WrittenAnswer(self, messages, draft)
        elif draft.titles is not None:
            logger.warning("The skeleton was cut off, with too few titles: the agent answers by itself.")
            yield _ModelReply(self, messages, settings, streamed=streamed, may_draft=False)


class _OutOfTimeError(Exception):
    """The deadline is over, and the next piece isn't there."""


class _ModelReply(RunnablePart):
    """A reply of the agent's model, within the turn's deadline.

    With `may_draft`, the model is told that it may write a skeleton, and the reply is held back as long as it may be
    one.
    """

    def __init__(
        self,
        model: StandInModel,
        prompt: list[BaseMessage],
        settings: Mapping[str, Any],
        *,
        streamed: bool,
        may_draft: bool,
    ) -> None:
        self.titles: list[str] | None = None
        """Once the reply is whole, those of the skeleton that it is; none of them where it was cut off too soon to be
        one. `None`: the reply is the model's own turn."""
        self.is_half = False
        """Whether the skeleton was cut off: its last title may be half of one."""
        self.reply: Any = None
        """Once it is whole, the message of a reply that may be a skeleton."""
        self._form: SkeletonForm = model.form
        self._may_be_skeleton = may_draft
        """As long as that isn't known, the reply is held back."""
        self._held: list[Any] = []
        self._thoughts, self._lines = ThoughtFilter(), DraftLines()
        self._shows_text = False
        self._calls_tools = False
        self._trace = CallTrace()
        self.turn: AgentTurn = model.turn
        self._loop_model: LoopModel = model.loop_model
        if may_draft:
            prompt = [*prompt, HumanMessage(model.instruction)]
        name = "decide" if may_draft else "answer"
        config: RunnableConfig = {"tags": [TAG_NOSTREAM], "run_name": name, "callbacks": model.run.callbacks_below()}
        trace = NodeTrace(config)
        # What the call raises is clean of keys and hidden content.
        self._redactor = trace.redactor(secrets_of(model.agent_model))
        config["callbacks"] = trace.callbacks_below(config["callbacks"], unheard=streaming_handlers(config))
        runnable, config, settings = unbound(model.agent_model, config, settings)
        config = self._trace.begin(config, self._redactor)
        super().__init__(model.run.message_id, runnable, prompt, config, settings, streamed)

    def pieces(self) -> Iterator[AIMessage]:
        """The reply. Where there is a deadline, threads read it. They can't be ended: one that is late is given up."""
        reply = super().pieces()
        if self.turn.options.deadline is None:
            yield from reply
            return
        while (piece := run_sync(self._in_time(asyncio.to_thread(next, reply, None)))) is not None:
            yield piece

    async def apieces(self) -> AsyncGenerator[AIMessage]:
        """The same, asynchronously: on an event loop, a reply that is late is cancelled."""
        if self.runnable is self._loop_model.model:
            # LangChain's own client may be that of an earlier loop: the first try would arrive, fail, and be paid.
            self.runnable = await self._loop_model.for_running_loop()
        async with aclosing(super().apieces()) as reply:
            try:
                while True:
                    yield await self._in_time(anext(reply))
            except StopAsyncIteration:
                return

    async def _in_time(self, piece: Awaitable[Any]) -> Any:
        """Wait for the next piece. The time is limited for each, for between two of them the reader's code runs."""
        try:
            async with asyncio.timeout(self.turn.seconds_left()) as timer:
                return await piece
        except (TimeoutError, asyncio.CancelledError) as error:
            is_late = isinstance(error, TimeoutError)
            if is_late and not timer.expired():
                raise
            await self._trace.end(asyncio.CancelledError(GIVEN_UP))
            raise (_OutOfTimeError() if is_late else error) from None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """A context in which the pieces are read.

        Raises:
            SkeletonError: The reply was late. Of a text that is being read, what is there is the answer, marked as cut.
        """
        try:
            yield
        except _OutOfTimeError:
            if self._shows_text and not self._calls_tools:
                self._held.append(AIMessageChunk(content=BREAKS_OFF))
                return
            message = (
                f"The agent's model had not answered at the deadline ({self.turn.options.deadline:.3g} s). Give it "
                "more time (SotOptions.deadline), or put LangChain's ModelRetryMiddleware or ModelFallbackMiddleware "
                "before SkeletonOfThoughtMiddleware."
            )
            raise SkeletonError(message) from None
        except Exception as error:
            self._redactor.redact_failure(error)
            raise

    def take(self, piece: AIMessage) -> list[AIMessage]:
        """Take the next piece, or all of it at once; give back what may be shown."""
        self._held.append(piece)
        if self._may_be_skeleton:
            is_own_text = False
            if isinstance(piece, AIMessageChunk):  # of a whole reply, `end` says what it is
                text = self._thoughts.feed(str(piece.text))
                is_own_text = not self._form.may_become(text, self._lines)
            self._may_be_skeleton = not (is_own_text or _has_calls(piece))
        return [] if self._may_be_skeleton else self._show()

    def end(self) -> list[AIMessage]:
        """The reply is whole: give back what is still to be shown, of a skeleton nothing."""
        if self._may_be_skeleton and self._held:
            first, *others = self._held
            self.reply = first + others if others else first
            reply = Reply.of(self.reply)
            self.is_half = reply.ending not in WHOLE
            titles = self._form.titles_in(reply.text, is_half=self.is_half)
            self.titles = titles if titles is None else clean_titles(titles)[: self._form.most]
        if self.titles is None:
            return self._show()
        self.turn.add_usage(self.reply.usage_metadata)
        # An empty chunk begins the answer's message. LangGraph shows what subgraphs write, too; by the chunk it knows
        # that this message is shown here.
        return [AIMessageChunk(content="", id=self.message_id)] if self.titles and self.streamed else []

    def _show(self) -> list[AIMessage]:
        """What was held back, without its usage: this call's own run tells it, and at the end the agent's message."""
        shown, self._held = self._held, []
        for message in shown:
            self._shows_text |= bool(message.text)
            self._calls_tools |= _has_calls(message)
            self.turn.add_usage(message.usage_metadata)
        return [message.model_copy(update={"usage_metadata": None}) for message in shown]


def _has_calls(message: AIMessage) -> bool:
    begun = message.tool_call_chunks if isinstance(message, AIMessageChunk) else []
    return bool(message.tool_calls or message.invalid_tool_calls or begun)


class _WrittenAnswer(GraphAnswer):
    """The answer that the graph writes from the draft's skeleton."""

    def __init__(self, model: StandInModel, messages: list[BaseMessage], draft: _ModelReply) -> None:
        self._turn = draft.turn
        self._error: ExpansionError | None = None
        left = draft.turn.seconds_left()
        context = {name: getattr(draft.turn.options, name) for name in SotContext.__annotations__}
        context["deadline"] = left if left is None else max(left, _LEAST_SECONDS)
        given = {"messages": messages, "given_skeleton": draft.titles}
        # It inherits the agent's callbacks from the context. With these in its config, it would be traced twice.
        config: RunnableConfig = {"run_name": "write the answer"}
        super().__init__(model.graph, given, draft.message_id, config, context=context, streamed=draft.streamed)
        # A graph that is streamed in a node keeps its events to itself.
        self._write = get_stream_writer() if draft.streamed else None
        written_by = draft.reply.response_metadata
        self.about = {key: written_by[key] for key in _ABOUT_MODEL if key in written_by}

    def take(self, piece: Any) -> list[AIMessage]:
        """Take a part of the graph's stream, and hand on its events to those who stream the agent."""
        if self._write is not None and piece[0] == "custom":
            self._write(piece[1])
        return super().take(piece)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """A context in which the pieces are read: an error of the points is kept, for it may hold an answer."""
        try:
            yield
        except ExpansionError as error:
            self._error = error

    def end(self) -> list[AIMessage]:
        """What is left of the answer's message.

        Raises:
            ExpansionError: There is nothing to show. Otherwise an agent's turn ends with a message.
        """
        error = self._error
        if error is None:
            self._turn.add_usage(usage_metadata(self.result["usage"]))
        elif error.answer and error.usage is not None:
            logger.warning("The agent's answer has only marks. %s", error)
            self._turn.add_usage(usage_metadata(error.usage))
            told = {"usage": error.usage, "expansions": error.expansions}
            self.result = {"answer": error.answer, "finish_reason": "stop", **told}
        else:
            raise error
        self._turn.by_skeleton = True
        return super().end()
