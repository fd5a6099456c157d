"""The graph's nodes: one function each, named by what it does."""

from sot_graph.nodes.answering import answer_directly, join
from sot_graph.nodes.drafting import draft_skeleton, to_review
from sot_graph.nodes.expanding import expand_point, fan_out_points
from sot_graph.nodes.kit import Edge, Kit, Node
from sot_graph.nodes.names import ANSWER_DIRECTLY, DRAFT_SKELETON, EXPAND_POINT, JOIN, REVIEW_SKELETON
from sot_graph.nodes.reviewing import review_skeleton

__all__ = [
    "ANSWER_DIRECTLY",
    "DRAFT_SKELETON",
    "EXPAND_POINT",
    "JOIN",
    "REVIEW_SKELETON",
    "Edge",
    "Kit",
    "Node",
    "answer_directly",
    "draft_skeleton",
    "expand_point",
    "fan_out_points",
    "join",
    "review_skeleton",
    "to_review",
]
