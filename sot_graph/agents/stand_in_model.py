"""`StandInModel`: stands in an agent's model's place for one call whose answer may be written by Skeleton-of-Thought.

Everything around the call stays the agent's: its tools are bound to the stand-in, its settings reach the model, its
tokens are the agent's tokens. The first call carries the agent's tools, and its reply is either the agent's turn or the
skeleton (`ModelReply`). A skeleton goes to a graph, which writes the answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config
from pydantic import Field

from sot_graph.agents.chat_model import GraphAnswer, PartwiseChatModel, RunnablePart
from sot_graph.agents.draft_decision import ModelReply
from sot_graph.errors import ExpansionError
from sot_graph.options import SotContext
from sot_graph.usage import usage_metadata

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

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
        draft = ModelReply(self, messages, settings, streamed=streamed, may_draft=True)
        yield draft
        if draft.titles:
            if draft.was_cut_off:
                count = len(draft.titles)
                logger.warning("The skeleton was cut off at a token limit; its %d whole titles are used.", count)
            yield _WrittenAnswer(self, messages, draft)
        elif draft.titles is not None:
            logger.warning(
                "The skeleton was cut off at a token limit, with too few titles: the agent answers by itself."
            )
            yield ModelReply(self, messages, settings, streamed=streamed, may_draft=False)


class _WrittenAnswer(GraphAnswer):
    """The answer that the graph writes from the draft's skeleton."""

    def __init__(self, model: StandInModel, messages: list[BaseMessage], draft: ModelReply) -> None:
        self._turn = draft.turn
        self._written_by = draft.whole.response_metadata
        self._error: ExpansionError | None = None
        left = draft.turn.seconds_left()
        context = {name: getattr(draft.turn.options, name) for name in SotContext.__annotations__}
        context["deadline"] = left if left is None else max(left, _LEAST_SECONDS)
        given = {"messages": messages, "given_skeleton": draft.titles}
        # Its callbacks are the agent's, by themselves. A tracer that it is given beside them would trace it twice.
        config: RunnableConfig = {"run_name": "write the answer"}
        super().__init__(model.graph, given, draft.message_id, config, context=context, streamed=draft.streamed)

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
            self.result = {"answer": error.answer, "finish_reason": "stop", "usage": error.usage}
        else:
            raise error
        self._turn.by_skeleton = True
        return super().end()

    def whole(self, answer: str, metadata: Mapping[str, Any]) -> list[AIMessage]:
        """As in `GraphAnswer`, with the name of the model that drafted."""
        written_by = {key: self._written_by[key] for key in _ABOUT_MODEL if key in self._written_by}
        return super().whole(answer, {**written_by, **metadata})
