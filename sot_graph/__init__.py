"""Skeleton-of-Thought as a drop-in LangGraph subgraph.

    from langchain_openai import ChatOpenAI
    from sot_graph import create_sot_graph

    graph = create_sot_graph(ChatOpenAI(model="gpt-4o-mini"))
    print(graph.invoke({"question": "What are the most effective ways to deal with stress?"})["answer"])

Names are loaded when they are first used: importing langgraph and langchain-openai takes seconds.
"""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from importlib.util import find_spec as _find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sot_graph.errors import (
        ExpansionError,
        ModelOutputError,
        RoutingError,
        SkeletonError,
        SotConfigError,
        SotError,
    )
    from sot_graph.events import SotEvent
    from sot_graph.expansion import Expander, ExpanderInput
    from sot_graph.graph import build_sot_graph, create_sot_graph
    from sot_graph.integrations.middleware import SkeletonOfThoughtMiddleware
    from sot_graph.integrations.tool import create_sot_tool
    from sot_graph.joiners import Join, PointwiseJoin, join_headings, join_markdown, join_plain
    from sot_graph.limiting import CallLimiter
    from sot_graph.local import local_model
    from sot_graph.nodes import (
        ANSWER_DIRECTLY,
        DRAFT_SKELETON,
        EXPAND_POINT,
        JOIN,
        REVIEW_SKELETON,
        ROUTE,
        WRITE_CONCLUSION,
        WRITE_INTRODUCTION,
    )
    from sot_graph.options import SotContext, SotOptions
    from sot_graph.prompts import SotPrompts
    from sot_graph.report import RunFigures, measure_run, result_timeline
    from sot_graph.retrying import aretry_failed_points, retry_failed_points
    from sot_graph.routing.cascade import CascadeRouter
    from sot_graph.routing.deciding import Router
    from sot_graph.routing.decision import RouteDecision
    from sot_graph.routing.learned import LearnedRouter
    from sot_graph.routing.model import ModelRouter
    from sot_graph.state import SotInput, SotOutput, SotState
    from sot_graph.streaming import AnswerReader, AnswerTransformer, astream_answer, stream_answer
    from sot_graph.types import Expansion, Frame, FramePart, SkeletonPoint, Source, StageUsage, Timings, Usage

__all__ = [
    "ANSWER_DIRECTLY",
    "DRAFT_SKELETON",
    "EXPAND_POINT",
    "JOIN",
    "REVIEW_SKELETON",
    "ROUTE",
    "WRITE_CONCLUSION",
    "WRITE_INTRODUCTION",
    "AnswerReader",
    "AnswerTransformer",
    "CallLimiter",
    "CascadeRouter",
    "Expander",
    "ExpanderInput",
    "Expansion",
    "ExpansionError",
    "Frame",
    "FramePart",
    "Join",
    "LearnedRouter",
    "ModelOutputError",
    "ModelRouter",
    "PointwiseJoin",
    "RouteDecision",
    "Router",
    "RoutingError",
    "RunFigures",
    "SkeletonError",
    "SkeletonOfThoughtMiddleware",
    "SkeletonPoint",
    "SotConfigError",
    "SotContext",
    "SotError",
    "SotEvent",
    "SotInput",
    "SotOptions",
    "SotOutput",
    "SotPrompts",
    "SotState",
    "Source",
    "StageUsage",
    "Timings",
    "Usage",
    "__version__",
    "aretry_failed_points",
    "astream_answer",
    "build_sot_graph",
    "create_sot_graph",
    "create_sot_tool",
    "join_headings",
    "join_markdown",
    "join_plain",
    "local_model",
    "measure_run",
    "result_timeline",
    "retry_failed_points",
    "stream_answer",
]

_HOMES = {
    "sot_graph.errors": (
        "ExpansionError",
        "ModelOutputError",
        "RoutingError",
        "SkeletonError",
        "SotConfigError",
        "SotError",
    ),
    "sot_graph.events": ("SotEvent",),
    "sot_graph.expansion": ("Expander", "ExpanderInput"),
    "sot_graph.graph": ("build_sot_graph", "create_sot_graph"),
    "sot_graph.integrations.middleware": ("SkeletonOfThoughtMiddleware",),
    "sot_graph.integrations.tool": ("create_sot_tool",),
    "sot_graph.joiners": ("Join", "PointwiseJoin", "join_headings", "join_markdown", "join_plain"),
    "sot_graph.limiting": ("CallLimiter",),
    "sot_graph.local": ("local_model",),
    "sot_graph.nodes": (
        "ANSWER_DIRECTLY",
        "DRAFT_SKELETON",
        "EXPAND_POINT",
        "JOIN",
        "REVIEW_SKELETON",
        "ROUTE",
        "WRITE_CONCLUSION",
        "WRITE_INTRODUCTION",
    ),
    "sot_graph.options": ("SotContext", "SotOptions"),
    "sot_graph.prompts": ("SotPrompts",),
    "sot_graph.retrying": ("aretry_failed_points", "retry_failed_points"),
    "sot_graph.routing.cascade": ("CascadeRouter",),
    "sot_graph.routing.deciding": ("Router",),
    "sot_graph.routing.decision": ("RouteDecision",),
    "sot_graph.routing.learned": ("LearnedRouter",),
    "sot_graph.routing.model": ("ModelRouter",),
    "sot_graph.state": ("SotInput", "SotOutput", "SotState"),
    "sot_graph.streaming": ("AnswerReader", "AnswerTransformer", "astream_answer", "stream_answer"),
    "sot_graph.report": ("RunFigures", "measure_run", "result_timeline"),
    "sot_graph.types": ("Expansion", "Frame", "FramePart", "SkeletonPoint", "Source", "StageUsage", "Timings", "Usage"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


_public = __all__
if _find_spec("langchain") is None:  # the extra `agents`: who asks for the name is told so; who takes all names is not
    _public.remove("SkeletonOfThoughtMiddleware")


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version("sot-graph")
    if name in _HOME_OF:
        value = globals()[name] = getattr(_import_module(_HOME_OF[name]), name)
        return value
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(__all__)
