"""The graph's nodes: a module each, named as the node.

The names are constants, since people stream and interrupt by them.
"""

ROUTE = "route"
DRAFT_SKELETON = "draft_skeleton"
REVIEW_SKELETON = "review_skeleton"
WRITE_OPENING = "write_opening"
WRITE_INTRODUCTION = "write_introduction"
EXPAND_POINT = "expand_point"
WRITE_CONCLUSION = "write_conclusion"
JOIN = "join"
ANSWER_DIRECTLY = "answer_directly"
