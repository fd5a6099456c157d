"""What the runs of the nodes, and that of their graph, say of themselves in a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from langgraph.types import TracePolicy

from sot_graph.caching import fingerprint
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
from sot_graph.report import measure_run

if TYPE_CHECKING:
    from sot_graph.nodes.kit import Kit
    from sot_graph.runs import Task
    from sot_graph.types import Expansion, FramePart, FramePartName, SkeletonPoint

__all__ = [
    "describe_answer",
    "describe_end",
    "describe_figures",
    "describe_frame",
    "describe_frame_end",
    "describe_point",
    "describe_run",
    "trace_policy",
]

_DIGITS = 3


def describe_run(task: Task, kit: Kit, state: Mapping[str, Any]) -> None:
    """What the run of the graph can be filtered by from its beginning on: also a run that fails has it.

    A run that goes on gets its question, too: LangGraph records what it was resumed with.
    """
    if not task.trace.is_watched or task.shared.is_described:
        return
    task.shared.is_described = True
    task.trace.describe_graph(
        {"sot_version": _version(), "sot_fingerprint": fingerprint(kit.prompts, task.options)},
        inputs=None if task.shared.begun_here else {"question": state["asked"]},
    )


@cache
def _version() -> str:
    return version("sot-graph")


def describe_point(point: SkeletonPoint, task: Task) -> None:
    """A point's run bears its number and its title."""
    trace = task.trace
    trace.describe_node(
        name=trace.name(f"expand {point['index']}", point["title"]), stage="expansion", **about_point(point, task)
    )


def about_point(point: SkeletonPoint, task: Task) -> dict[str, Any]:
    """What the runs of a point, and of its model calls, can be filtered by."""
    about: dict[str, Any] = {"sot_point_index": point["index"]}
    if task.trace.shows_content:
        about["sot_point_title"] = point["title"]
    return about


def describe_end(expansion: Expansion, task: Task, *, cached: bool = False) -> None:
    """What became of a point. A failed one is an error in the trace, though its node ended well."""
    task.trace.describe_node(
        error=expansion["error"], sot_point_status=expansion["status"], sot_cache_hit=True if cached else None
    )


def describe_frame(name: FramePartName, task: Task) -> None:
    """The run of the introduction, or of the conclusion, says which it is."""
    task.trace.describe_node(stage="frame", sot_frame_part=name)


def describe_frame_end(part: FramePart, task: Task, *, cached: bool = False) -> None:
    """What became of it. A failed one is an error in the trace, though its node ended well."""
    task.trace.describe_node(
        error=part["error"], sot_frame_status=part["status"], sot_cache_hit=True if cached else None
    )


def describe_figures(result: Mapping[str, Any], task: Task) -> None:
    """The figures of a run, on the run of the graph.

    Args:
        result: What the graph returns, as far as it is known.
        task: The last node's execution.
    """
    if task.trace.is_watched:
        task.trace.describe_graph(_figures(result, task))


def describe_answer(result: Mapping[str, Any], task: Task) -> None:
    """The same for a run that has its answer. LangGraph alone records every channel, where the run is streamed."""
    if task.trace.is_watched:
        # Without the question among the messages: who hides inputs may well show outputs.
        outputs = {**result, "messages": result["messages"][-1:]}
        task.trace.describe_graph(_figures(result, task), outputs=outputs)


def _figures(result: Mapping[str, Any], task: Task) -> dict[str, Any]:
    figures = measure_run(result, question="")
    seconds: dict[str, float | None] = {"sot_seconds": figures.total}
    if task.shared.begun_here:  # the times of a run that goes on are of several clocks
        seconds |= {
            "sot_time_to_first_word": figures.time_to_first_word if figures.streamed else None,
            "sot_critical_path": figures.critical_path,
            "sot_speed_up_estimate": figures.speed_up_estimate,
        }
    return {
        "sot_route": result["route"],
        "sot_points": len(figures.points),
        "sot_failed_points": sum(point.status != "ok" for point in figures.points),
        "sot_streamed": figures.streamed,
        **{name: None if value is None else round(value, _DIGITS) for name, value in seconds.items()},
    }


def trace_policy(node: str, *, begins: bool = False) -> TracePolicy:
    """What a node's run records: what one wants to read, in place of every channel of the state.

    Args:
        node: Its name.
        begins: Whether it is the graph's first: it reads the question from what the caller gave.
    """
    inputs = _given if begins else _INPUTS[node]
    return TracePolicy(process_inputs=inputs, process_outputs=_OUTPUTS.get(node, _settled))


def _given(state: Mapping[str, Any]) -> dict[str, Any]:
    return _present(state, "question", "messages", "given_skeleton", "given_expansions")


def _asked(state: Mapping[str, Any]) -> dict[str, Any]:
    return {"question": state["asked"], **_present(state, "history")}


def _settled(update: Mapping[str, Any]) -> dict[str, Any]:
    return _present(update, "answer", "skeleton", "route", "route_reason", "review_comment")


def _written(update: Mapping[str, Any]) -> dict[str, Any]:
    (expansion,) = update["expansions"]
    return _present(expansion, "text", "status", "error")


def _written_around(update: Mapping[str, Any]) -> dict[str, Any]:
    (part,) = update["frame"].values()
    return _present(part, "text", "status", "error")


def _statuses(state: Mapping[str, Any]) -> dict[str, Any]:
    return {"points": [_present(expansion, "index", "status") for expansion in state["expansions"]]}


def _present(source: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: source[key] for key in keys if source.get(key)}


_INPUTS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    ROUTE: _given,
    DRAFT_SKELETON: _asked,
    REVIEW_SKELETON: lambda state: _present(state, "skeleton"),
    EXPAND_POINT: lambda payload: {"point": payload["point"]},
    WRITE_INTRODUCTION: lambda payload: {**_asked(payload), **_present(payload, "skeleton")},
    WRITE_CONCLUSION: lambda state: {**_asked(state), **_statuses(state)},
    JOIN: _statuses,
    ANSWER_DIRECTLY: _asked,
}
_OUTPUTS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    EXPAND_POINT: _written,
    WRITE_INTRODUCTION: _written_around,
    WRITE_CONCLUSION: _written_around,
}
