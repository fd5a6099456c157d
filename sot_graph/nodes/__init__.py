"""The graph's nodes: a module each, named as the node.

The names are constants, since people stream and interrupt by them.
"""

ROUTE = "route"
DRAFT_SKELETON = "draft_skeleton"
REVIEW_SKELETON = "review_skeleton"
EXPAND_POINT = "expand_point"
JOIN = "join"
ANSWER_DIRECTLY = "answer_directly"
