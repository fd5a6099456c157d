"""The skeleton: asked for, parsed, cleaned, numbered."""

from sot_graph.skeleton.asking import Draft, Drafting, NoSkeletonError, Revision, skeleton_call_messages
from sot_graph.skeleton.drafting import draft_skeleton
from sot_graph.skeleton.giving import given_points
from sot_graph.skeleton.growing import GrowingSkeleton, skeleton_as_written
from sot_graph.skeleton.parsing import clean_title, clean_titles, number_points, parse_skeleton

__all__ = [
    "Draft",
    "Drafting",
    "GrowingSkeleton",
    "NoSkeletonError",
    "Revision",
    "clean_title",
    "clean_titles",
    "draft_skeleton",
    "given_points",
    "number_points",
    "parse_skeleton",
    "skeleton_as_written",
    "skeleton_call_messages",
]
