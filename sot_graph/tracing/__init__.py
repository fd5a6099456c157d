"""How a run looks in a trace: names that read like the answer, figures to filter by, nothing that is to be hidden.

Nothing here sends anything. LangChain's tracers do, LangSmith's first of all; what is said here reaches every tracer
that keeps LangChain's tree of runs, and a model call's name, tags and metadata reach every callback.
"""

from sot_graph.tracing.calls import CallTrace, OnError, with_first
from sot_graph.tracing.nodes import NodeTrace, tag_of

__all__ = ["CallTrace", "NodeTrace", "OnError", "tag_of", "with_first"]
