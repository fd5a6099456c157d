"""The names of the nodes: people stream and interrupt by them."""

__all__ = ["ANSWER_DIRECTLY", "DRAFT_SKELETON", "EXPAND_POINT", "JOIN", "REVIEW_SKELETON", "ROUTE"]

ROUTE = "route"
DRAFT_SKELETON = "draft_skeleton"
REVIEW_SKELETON = "review_skeleton"
EXPAND_POINT = "expand_point"
JOIN = "join"
ANSWER_DIRECTLY = "answer_directly"
