"""The call of an agent's model that may draft: what becomes of its reply.

One reply is either the model's own turn (calls of tools, a short answer) or the skeleton of a long answer. The prompt
is the graph's (`SotPrompts.draft_or_answer`), and so is the form that tells the two apart (`SkeletonForm`). This module
buffers whole messages, because an agent's reply may call tools; `DraftReader` buffers text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langgraph.constants import TAG_NOSTREAM

from sot_graph._seams import streaming_handlers
from sot_graph.agents.chat_model import RunnablePart
from sot_graph.concurrency.background_loop import run_sync
from sot_graph.errors import SkeletonError
from sot_graph.events import BREAKS_OFF
from sot_graph.llm.call import unbound
from sot_graph.llm.reply import Reply
from sot_graph.llm.thoughts import without_thoughts
from sot_graph.observability.redaction import GIVEN_UP, secrets_of
from sot_graph.observability.run_trace import CallTrace, NodeTrace
from sot_graph.skeleton.answering_drafter import SkeletonForm
from sot_graph.skeleton.points import clean_titles

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from sot_graph.agents.stand_in_model import AgentTurn, StandInModel
    from sot_graph.llm.loop_bound_model import LoopModel


class _OutOfTimeError(Exception):
    """The deadline is over, and the next piece isn't there."""


class ModelReply(RunnablePart):
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
        self.was_cut_off = False
        """Whether the skeleton ran into a token limit."""
        self.whole: Any = None
        """The reply as far as it has come, while it may be a skeleton."""
        self._form = SkeletonForm(model.turn.options.min_points, model.turn.options.max_points)
        self._may_be_skeleton = may_draft
        """As long as that isn't known, the reply is held back."""
        self._held: list[AIMessage] = []
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
            self.whole = piece if self.whole is None else self.whole + piece
            is_streamed = isinstance(piece, AIMessageChunk)  # of a whole reply, `end` says what it is
            is_own_text = is_streamed and not self._form.may_become(without_thoughts(str(self.whole.text)))
            self._may_be_skeleton = not (is_own_text or _has_calls(self.whole))
        return [] if self._may_be_skeleton else self._show()

    def end(self) -> list[AIMessage]:
        """The reply is whole: give back what is still to be shown, of a skeleton nothing."""
        if self._may_be_skeleton and self.whole is not None:
            reply = Reply.of(self.whole)
            self.was_cut_off = reply.was_cut_off
            titles = self._form.titles_in(reply.text, was_cut_off=self.was_cut_off)
            self.titles = titles if titles is None else clean_titles(titles)[: self._form.most]
        if self.titles is None:
            return self._show()
        self.turn.add_usage(self.whole.usage_metadata)
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
