"""The public API, frozen: a name that comes or goes is a decision."""

import subprocess
import sys

import pytest

import sot_graph

API = [
    "ANSWER_DIRECTLY",
    "DRAFT_SKELETON",
    "EXPAND_POINT",
    "JOIN",
    "REVIEW_SKELETON",
    "ROUTE",
    "AnswerReader",
    "AnswerTransformer",
    "CallLimiter",
    "CascadeRouter",
    "DraftRouter",
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
    "Ranker",
    "Retriever",
    "RouteDecision",
    "Router",
    "RoutingError",
    "RunFigures",
    "SkeletonError",
    "SkeletonOfThoughtMiddleware",
    "SkeletonPoint",
    "SotChatModel",
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
    "cancelled_once",
    "create_sot_graph",
    "create_sot_tool",
    "join_headings",
    "join_markdown",
    "join_plain",
    "load_documents",
    "local_model",
    "measure_run",
    "quiet_langsmith",
    "result_timeline",
    "retry_failed_points",
    "stream_answer",
]

HEAVY = ("langgraph", "langchain_core", "langchain_openai", "openai", "instructor", "pydantic", "httpx2")


def test_the_api_is_frozen():
    assert sot_graph.__all__ == API


def test_the_api_is_sorted_constants_first_then_classes_then_functions():
    def kind(name: str) -> int:
        return 0 if name.isupper() else 1 if name[0].isupper() else 2

    assert sorted(sot_graph.__all__, key=lambda name: (kind(name), name)) == sot_graph.__all__


@pytest.mark.parametrize("name", API)
def test_every_name_resolves(name: str):
    assert getattr(sot_graph, name) is not None


def test_dir_lists_the_api():
    assert dir(sot_graph) == sorted(API)


def test_without_the_extra_of_a_name_all_the_others_can_be_had():
    script = """
import sys
sys.modules["langchain"] = None
import sot_graph
from sot_graph import *
assert create_sot_graph and "SkeletonOfThoughtMiddleware" not in dir(sot_graph)
try:
    sot_graph.SkeletonOfThoughtMiddleware
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'sot-graph[agents]'" in done.stdout


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'create_graph'"):
        _ = sot_graph.create_graph


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, sot_graph; print([name for name in {HEAVY!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"
