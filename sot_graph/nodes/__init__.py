"""The graph's nodes: one function each, named by what it does."""

from sot_graph.nodes.answering import BREAKS_OFF, answer_directly, join
from sot_graph.nodes.describing import trace_policy
from sot_graph.nodes.drafting import draft_skeleton, to_review
from sot_graph.nodes.expanding import expand_point, fan_out_points, fan_out_rest
from sot_graph.nodes.framing import write_conclusion, write_introduction
from sot_graph.nodes.kit import Edge, Kit, Node, NodeFunction
from sot_graph.nodes.names import (
    ANSWER_DIRECTLY,
    DRAFT_SKELETON,
    EXPAND_POINT,
    JOIN,
    REVIEW_SKELETON,
    ROUTE,
    WRITE_CONCLUSION,
    WRITE_INTRODUCTION,
)
from sot_graph.nodes.reviewing import review_skeleton
from sot_graph.nodes.routing import after_route, after_route_to_review, route

__all__ = [
    "ANSWER_DIRECTLY",
    "BREAKS_OFF",
    "DRAFT_SKELETON",
    "EXPAND_POINT",
    "JOIN",
    "REVIEW_SKELETON",
    "ROUTE",
    "WRITE_CONCLUSION",
    "WRITE_INTRODUCTION",
    "Edge",
    "Kit",
    "Node",
    "NodeFunction",
    "after_route",
    "after_route_to_review",
    "answer_directly",
    "draft_skeleton",
    "expand_point",
    "fan_out_points",
    "fan_out_rest",
    "join",
    "review_skeleton",
    "route",
    "to_review",
    "trace_policy",
    "write_conclusion",
    "write_introduction",
]
