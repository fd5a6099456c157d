"""The graph's nodes: a module each, named as the node.

The names are constants, since people stream and interrupt by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

ROUTE = "route"
DRAFT_SKELETON = "draft_skeleton"
REVIEW_SKELETON = "review_skeleton"
EXPAND_POINT = "expand_point"
JOIN = "join"
ANSWER_DIRECTLY = "answer_directly"


def is_sot_graph(graph: object) -> TypeGuard[Any]:
    """Whether something is a graph with these nodes, by whomever it was compiled."""
    nodes = getattr(graph, "nodes", None)
    return isinstance(nodes, Mapping) and nodes.keys() >= {DRAFT_SKELETON, EXPAND_POINT, JOIN}
