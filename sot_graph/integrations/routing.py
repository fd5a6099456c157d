"""Which calls of an agent's model are for an answer that the router wants written by Skeleton-of-Thought."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config
from langgraph.constants import TAG_NOSTREAM

from sot_graph.errors import RoutingError
from sot_graph.models import LoopModel
from sot_graph.nodes.inputs import identity_of, last_human, length_of, turns_of
from sot_graph.routing.deciding import ModelRouting, after_failure, ask_in_time
from sot_graph.routing.edges import NO_MODEL
from sot_graph.runs import open_task

if TYPE_CHECKING:
    from sot_graph.options import SotOptions
    from sot_graph.routing.deciding import Router
    from sot_graph.types import ChatTurn, RouteName

__all__ = ["AgentQuestion", "AgentRouting", "Recent", "read_agent_question"]

K = TypeVar("K")
V = TypeVar("V")

logger = logging.getLogger("sot_graph")

_MOST_DECISIONS = 256
_MOST_MODELS = 16


@dataclass(frozen=True)
class AgentQuestion:
    """What an agent is asked."""

    text: str
    history: list[ChatTurn]
    """The conversation before it, without what tools have found since."""

    @property
    def key(self) -> str:
        """The same for the same question after the same conversation."""
        return identity_of(self.text, self.history)


def read_agent_question(messages: Sequence[BaseMessage], options: SotOptions) -> AgentQuestion | None:
    """The last thing that a person has said; `None`: there is nothing in it to answer, or too much around it."""
    position = last_human(messages)
    if position is None or not (text := str(messages[position].text).strip()):
        return None
    others = turns_of([*messages[:position], *messages[position + 1 :]])
    length = length_of(text, others)
    if length > options.max_question_chars:
        logger.warning(
            "The conversation has %s characters, options.max_question_chars allows %s: the agent answers by itself.",
            f"{length:,}",
            f"{options.max_question_chars:,}",
        )
        return None
    return AgentQuestion(text, turns_of(messages[:position]))


class AgentRouting:
    """Asks a router once a question, however many calls the agent makes for it. A failure is no decision.

    Args:
        router: Decides. One of ours without a model of its own asks the agent's.
    """

    def __init__(self, router: Router | ModelRouting) -> None:
        self._router = router
        self._decided: Recent[str, RouteName] = Recent(_MOST_DECISIONS)
        self._models: Recent[int, LoopModel] = Recent(_MOST_MODELS)
        """By their model's identity, which isn't given to another as long as they hold theirs."""

    async def route(self, question: AgentQuestion, model: Runnable[Any, Any], options: SotOptions) -> RouteName:
        """Where a question goes.

        Args:
            question: The agent's.
            model: The agent's.
            options: For `router_timeout` and `on_router_failure`.

        Raises:
            RoutingError: The router failed, and `on_router_failure` is `"raise"`.
        """
        key = question.key
        known = self._decided.get(key)
        if known is not None:
            return known
        # What a router's model says is no part of the agent's answer.
        config = ensure_config({"tags": [TAG_NOSTREAM]})
        with open_task(None, config, options, reads_context=False) as task:
            task.ended = True
            try:
                decision = await ask_in_time(
                    self._router, question.text, question.history, task=task, model=self._model(model)
                )
            except RoutingError as error:
                return after_failure(error, options).route
        return self._decided.put(key, decision.route)

    def _model(self, model: Runnable[Any, Any]) -> LoopModel:
        if not isinstance(self._router, ModelRouting):
            return NO_MODEL
        kept = self._models.get(id(model))
        if kept is None:
            kept = self._models.put(id(model), LoopModel(model))
        return kept


class Recent(Generic[K, V]):
    """The values that were put last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, if it is still there."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> V:
        """Keep a value; of two that are put at once, the first stays."""
        with self._lock:
            value = self._values.setdefault(key, value)
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value
