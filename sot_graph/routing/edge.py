"""A router as a conditional edge of a parent graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config

from sot_graph.concurrency.background_loop import run_sync
from sot_graph.errors import SotConfigError
from sot_graph.options import SotOptions
from sot_graph.routing.protocol import Router, decide
from sot_graph.run import open_run

if TYPE_CHECKING:
    from sot_graph.types import RouteName


class RouterEdge(Runnable[Any, str]):
    """Goes where a router says. Made by `router.as_edge({...})`.

    Reads `question` from the parent's state, else its last human message. A router that fails goes `"direct"`.
    """

    def __init__(self, router: Router, targets: Mapping[RouteName, str]) -> None:
        if set(targets) != {"skeleton", "direct"}:
            message = f'as_edge takes {{"skeleton": node, "direct": node}}, not the keys {sorted(map(str, targets))}.'
            raise SotConfigError(message)
        self.router = router
        self.targets = dict(targets)
        self.name = "route"

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> str:
        """Decide, and give the node's name."""
        return run_sync(self.ainvoke(input, config))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> str:
        """Decide, and give the node's name."""
        with open_run(ensure_config(config), SotOptions(), reads_context=False) as run:
            run.ended = True
            decision = await decide(self.router, _question(input), (), run=run, model=None)
        return self.targets[decision.route]


def _question(state: Any) -> str:
    values = state if isinstance(state, Mapping) else vars(state)
    question = values.get("question")
    if isinstance(question, str) and question.strip():
        return question
    for message in reversed(values.get("messages") or []):
        if isinstance(message, HumanMessage):
            return str(message.text)
    message = "The state has neither a question nor a human message to route by."
    raise SotConfigError(message)
