"""What our routers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sot_graph.routing.edges import RouterEdge
    from sot_graph.types import RouteName

__all__ = ["RoutesEdges"]


class RoutesEdges:
    """A router that can be a parent's conditional edge."""

    def as_edge(self, targets: Mapping[RouteName, str]) -> RouterEdge:
        """This router as a conditional edge.

        Args:
            targets: The node for each route, such as `{"skeleton": "long_answer", "direct": "chat"}`.

        Raises:
            SotConfigError: The targets aren't these two.

        Example:
            >>> from sot_graph import LearnedRouter
            >>> edge = LearnedRouter().as_edge({"skeleton": "long_answer", "direct": "chat"})
            >>> edge.invoke({"question": "What is 17 * 23?"})
            'chat'
        """
        from sot_graph.routing.edges import RouterEdge  # imports LangChain, which a learned router alone does without

        return RouterEdge(self, targets)  # type: ignore[arg-type]
