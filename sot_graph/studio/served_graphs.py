"""The graphs that `langgraph.json` names. Importing this module starts the model that the environment asks for.

None of them has a checkpointer: the server brings its own.
"""

from __future__ import annotations

import atexit
import importlib
import logging
from contextlib import ExitStack, suppress

from sot_graph.default_model import choose_model
from sot_graph.graph import create_sot_graph
from sot_graph.options import SotOptions
from sot_graph.studio import build_agent

# A workaround: the server writes its address into every run's metadata, which it saves, and which LangSmith is sent.
# The address of `make studio` holds the key. Nothing reads it there.
with suppress(ImportError):
    vars(importlib.import_module("langgraph_api.stream"))["USER_API_URL"] = None

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
