"""What the runs of the nodes, and that of their graph, say of themselves in a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from langgraph.types import TracePolicy

from sot_graph.cache import fingerprint
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
from sot_graph.report import measure_run

if TYPE_CHECKING:
    from sot_graph.run import RunContext

__all__ = ["describe_result", "describe_run", "trace_policy"]

_DIGITS = 3


def describe_run(run: RunContext, state: Mapping[str, Any]) -> None:
    """What the run of the graph can be filtered by from its beginning on: also a run that fails has it.

    A run that goes on gets its question, too: LangGraph records what it was resumed with.
    """
    if not run.trace.is_watched or run.invocation.is_described:
        return
    run.invocation.is_described = True
    run.trace.describe_graph(
        {"sot_version": _version(), "sot_fingerprint": fingerprint(run.graph.prompts, run.options)},
        inputs=None if run.invocation.begun_here else {"question": state["asked"]},
    )


@cache
def _version() -> str:
    return version("sot-graph")


def describe_result(result: Mapping[str, Any], run: RunContext, *, has_answer: bool = True) -> None:
    """The figures of a run, on the run of the graph.

    Args:
        result: What the graph returns, as far as it is known.
        run: The last node's execution.
        has_answer: Whether the result is whole: then it is shown in place of what LangGraph alone would record of a
            streamed run, which is every channel.
    """
    if run.trace.is_watched:
        # Without the question among the messages: who hides inputs may well show outputs.
        outputs = {**result, "messages": result["messages"][-1:]} if has_answer else None
        run.trace.describe_graph(_figures(result, run), outputs=outputs)


def _figures(result: Mapping[str, Any], run: RunContext) -> dict[str, Any]:
    figures = measure_run(result, question="")
    seconds: dict[str, float | None] = {"sot_seconds": figures.total}
    if run.invocation.begun_here:  # the times of a run that goes on are of several clocks
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
