"""The graphs that `langgraph.json` names. Importing this module starts the model that the environment asks for.

None of them has a checkpointer: the server brings its own.
"""

from __future__ import annotations

import atexit
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sot_graph.choosing import choose_from_environment
from sot_graph.graph import create_sot_graph
from sot_graph.options import SotOptions
from sot_graph.studio.agent import build_agent

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

__all__ = ["agent", "sot_graph", "sot_graph_with_review"]

logger = logging.getLogger("sot_graph")


def _started_model() -> Runnable[Any, Any]:
    """The model, for as long as the process lasts."""
    choice = choose_from_environment()
    if choice.notice:
        logger.info(choice.notice)
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(choice.opened())


_model = _started_model()

sot_graph = create_sot_graph(_model)
"""The graph as `create_sot_graph(model)` makes it."""

sot_graph_with_review = create_sot_graph(_model, options=SotOptions(review_skeleton=True), name="sot_graph_with_review")
"""The same, stopping at each skeleton until somebody has approved, edited or rejected it."""

agent = build_agent(_model)
"""A chat with the graph inside."""
