"""How an agent's model is asked by the one that stands in its place: what it gets, in what time, and what is traced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config
from langgraph.constants import TAG_NOSTREAM

from sot_graph.errors import SkeletonError
from sot_graph.integrations.bounding import Clock, OutOfTimeError, ain_time, in_time
from sot_graph.integrations.deciding import instruction
from sot_graph.integrations.streams import HeldBack
from sot_graph.models import cleaner_of, unbound
from sot_graph.nodes import BREAKS_OFF
from sot_graph.nodes.inputs import last_human, other_blocks
from sot_graph.observability.redaction import GIVEN_UP, Redactor, secrets_of
from sot_graph.options import SotContext
from sot_graph.runs import ANSWER_ID
from sot_graph.tracing import CallTrace, NodeTrace

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

    from sot_graph.integrations.answering import AnsweringModel


__all__ = ["AgentCall", "Asking", "OwnRun"]

logger = logging.getLogger("sot_graph")

_LEAST_SECONDS = 0.001
"""For the points, where deciding has taken all the time: the answer then says which of them are missing."""


class AgentCall:
    """One call of the agent's model.

    Args:
        asked: The model, with its tools.
        prompt: What it gets.
        config: With the run's name.
        settings: Of the call.
        clock: The answer's.
        reply: Takes what comes.
    """

    def __init__(
        self,
        asked: Runnable[Any, Any],
        prompt: Sequence[BaseMessage],
        config: RunnableConfig,
        settings: Mapping[str, Any],
        clock: Clock,
        reply: HeldBack,
    ) -> None:
        self.reply = reply
        self._clock = clock
        self._prompt = list(prompt)
        self._trace = CallTrace()
        trace = NodeTrace(config)
        self._clean = cleaner_of(lambda: Redactor(secrets_of(asked), hides_content=not trace.shows_content))
        call = unbound(asked, {**config, "callbacks": trace.callbacks_below(config.get("callbacks"))}, settings)
        self._asked: Any = call.runnable
        self._config = self._trace.begin(call.config, self._clean)
        self._settings = call.settings

    def pieces(self, *, streamed: bool) -> Iterator[AIMessage]:
        """What comes of it in time."""
        return in_time(self._streamed() if streamed else self._whole(), self._clock)

    def apieces(self, *, streamed: bool) -> AsyncGenerator[AIMessage]:
        """The same, asynchronously."""
        return ain_time(self._astreamed() if streamed else self._awhole(), self._clock)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around its pieces: what it raises is clean.

        Raises:
            SkeletonError: It was late. Of a text that is being read, what is there is the answer, marked as cut.
        """
        try:
            yield
        except OutOfTimeError:
            if self.reply.shows_text and not self.reply.calls_tools:
                self.reply.break_off(BREAKS_OFF)
                return
            message = (
                f"The agent's model had not answered at the deadline ({self._clock.seconds:.3g} s). Give it more time "
                "(SotOptions.deadline), or put LangChain's ModelRetryMiddleware or ModelFallbackMiddleware before "
                "SkeletonOfThoughtMiddleware."
            )
            raise SkeletonError(message) from None
        except Exception as error:
            self._clean(error, None)
            raise

    def _streamed(self) -> Iterator[AIMessage]:
        pieces: Iterator[AIMessage] = self._asked.stream(self._prompt, self._config, **self._settings)
        return pieces

    def _whole(self) -> Iterator[AIMessage]:
        yield self._asked.invoke(self._prompt, self._config, **self._settings)

    def _astreamed(self) -> AsyncGenerator[AIMessage]:
        pieces: AsyncGenerator[AIMessage] = self._asked.astream(self._prompt, self._config, **self._settings)
        return pieces

    async def _awhole(self) -> AsyncGenerator[AIMessage]:
        try:
            yield await self._asked.ainvoke(self._prompt, self._config, **self._settings)
        except asyncio.CancelledError:
            await self._trace.end(asyncio.CancelledError(GIVEN_UP))
            raise


class Asking:
    """What an agent's model is asked, and what becomes of that.

    Args:
        model: Stands in its place.
        messages: The conversation.
        stop: Of the call.
        settings: Of the call.
    """

    def __init__(
        self,
        model: AnsweringModel,
        messages: list[BaseMessage],
        stop: list[str] | None,
        settings: Mapping[str, Any],
    ) -> None:
        self.titles: list[str] | None = None
        """Once the calls are made: those of the skeleton. `None`: they gave the agent's turn as it stands."""
        self.about_model: dict[str, Any] = {}
        """What the agent's model says of itself with every reply."""
        self._model = model
        self._messages = messages
        self._settings = settings if stop is None else {**settings, "stop": stop}

    def calls(self) -> Iterator[AgentCall]:
        """The call that decides, and the agent's ordinary one where the skeleton was cut off too soon."""
        told = [*self._messages, HumanMessage(instruction(self._model.options))]
        call = self._call("decide", told, may_decide=True)
        yield call
        titles = call.reply.titles
        self._model.spent.add(call.reply.usage)
        if titles and call.reply.was_cut_off:
            logger.warning("The skeleton was cut off at a token limit; its %d whole titles are used.", len(titles))
        if titles == []:
            logger.warning(
                "The skeleton was cut off at a token limit, with too few titles: the agent answers by itself."
            )
            yield self._call("answer", self._messages, may_decide=False)
        self.titles = titles or None
        self.about_model = call.reply.about_model

    def to_be_written(self) -> dict[str, Any]:
        """What the graph gets."""
        options, left = self._model.options, self._model.clock.left()
        context = {name: getattr(options, name) for name in SotContext.__annotations__}
        return {
            "input": {"messages": _with_pictures_apart(self._messages), "given_skeleton": self.titles},
            # Its callbacks are the agent's, by themselves. A tracer that it is given beside them would trace it twice.
            "config": {
                "tags": [TAG_NOSTREAM],
                "run_name": "write the answer",
                "configurable": {ANSWER_ID: self._model.run.message_id},
            },
            "context": {**context, "deadline": left if left is None else max(left, _LEAST_SECONDS)},
        }

    def _call(self, name: str, prompt: list[BaseMessage], *, may_decide: bool) -> AgentCall:
        model = self._model
        reply = HeldBack(model.options, may_decide=may_decide)
        config: RunnableConfig = {"tags": [TAG_NOSTREAM], "run_name": name, "callbacks": model.run.callbacks_below()}
        return AgentCall(model.asked, prompt, config, self._settings, model.clock, reply)


def _with_pictures_apart(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The conversation, with what its question shows in a message before that: to the graph, a question is a text."""
    position = last_human(messages)
    shown = [] if position is None else other_blocks(messages[position])
    if position is None or not shown:
        return list(messages)
    asked = messages[position]
    question = asked.model_copy(update={"content": str(asked.text)})
    return [*messages[:position], HumanMessage(shown), question, *messages[position + 1 :]]


class OwnRun(BaseCallbackHandler):
    """Knows the run of the model that it is put on. One that LangChain streams by itself isn't told of its run."""

    run_inline = True

    def __init__(self) -> None:
        self.id: UUID | None = None

    def on_chat_model_start(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Take note of it."""
        self.id = run_id

    @property
    def message_id(self) -> str | None:
        """The id that LangChain gives to its message."""
        return None if self.id is None else f"lc_run--{self.id}"

    def callbacks_below(self) -> BaseCallbackManager | None:
        """The agent's callbacks, for a run below it: LangChain makes none, for models have none below, as a rule."""
        around = ensure_config().get("callbacks")
        if not isinstance(around, BaseCallbackManager):
            return None
        below = around.copy()
        below.parent_run_id = self.id or below.parent_run_id
        return below
