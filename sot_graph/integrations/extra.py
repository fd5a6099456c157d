"""What needs the extra `agents`: LangChain's middleware, or an error that says how to install it."""

from __future__ import annotations

from sot_graph.errors import SotConfigError

__all__ = ["AgentMiddleware", "MissingAgentsExtraError", "ModelRequest", "ModelResponse"]


class MissingAgentsExtraError(SotConfigError, ImportError):
    """LangChain is not installed: an `ImportError` that the caller can fix."""

    def __init__(self) -> None:
        super().__init__(
            "SkeletonOfThoughtMiddleware is for LangChain's create_agent, and langchain is not installed: "
            "pip install 'sot-graph[agents]'"
        )


try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
except ModuleNotFoundError as missing:
    raise MissingAgentsExtraError from missing
