"""The graphs that `langgraph.json` names. Importing this module starts the model that the environment asks for.

None of them has a checkpointer: the server brings its own.
"""

from __future__ import annotations

import atexit
import logging
from contextlib import ExitStack

from sot_graph.default_model import choose_model
from sot_graph.graph import create_sot_graph
from sot_graph.options import SotOptions
from sot_graph.studio import build_agent

_choice = choose_model()
if _choice.notice:
    logging.getLogger("sot_graph").info(_choice.notice)

_until_exit = ExitStack()
atexit.register(_until_exit.close)
_model = _until_exit.enter_context(_choice.opened())

sot_graph = create_sot_graph(_model)
"""The graph as `create_sot_graph(model)` makes it."""

sot_graph_with_review = create_sot_graph(_model, options=SotOptions(review_skeleton=True), name="sot_graph_with_review")
"""The same, stopping at each skeleton until somebody has approved, edited or rejected it."""

agent = build_agent(_model)
"""A chat with the graph inside."""
