"""What the nodes' runs, and the graph's run, tell in a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from langgraph.types import TracePolicy

from sot_graph._seams import state_reader
from sot_graph.nodes import ANSWER_DIRECTLY, DRAFT_SKELETON, EXPAND_POINT, JOIN, REVIEW_SKELETON
from sot_graph.report import measure_run

if TYPE_CHECKING:
    from sot_graph.run import RunContext

_DIGITS = 3
_version = cache(version)


def describe_run(run: RunContext, state: Mapping[str, Any]) -> None:
    """Tell the trace what the graph's run can be filtered by. It is told first, so that a run that fails has it, too.

    A run that goes on gets its question, too: LangGraph records what it was resumed with.
    """
    if not run.trace.is_watched or run.invocation.is_described:
        return
    run.invocation.is_described = True
    inputs = None
    if not run.invocation.begun_here:
        read = state_reader(run.config)
        holder = state if "question_text" in state or read is None else read(["question_text"])
        inputs = {"question": holder["question_text"]}
    # Runs are compared by their settings: the same settings have the same fingerprint.
    settings = f"{run.graph.prompts!r}\n{run.options!r}".encode("utf-8", "surrogatepass")
    run.trace.describe_graph(
        {"sot_version": _version("sot-graph"), "sot_fingerprint": sha256(settings).hexdigest()[:12]},
        inputs=inputs,
    )


def describe_result(result: Mapping[str, Any], run: RunContext, *, has_answer: bool = True) -> None:
    """The figures of a run, on the run of the graph.

    Args:
        result: What the graph returns, as far as it is known.
        run: The last node's execution.
        has_answer: Whether the result is whole: then it is shown in place of what LangGraph alone would record of a
            streamed run, which is every channel.
    """
    if not run.trace.is_watched:
        return
    figures = measure_run(result, question="")
    seconds: dict[str, float | None] = {"sot_seconds": figures.total}
    if run.invocation.begun_here:  # the times of a run that goes on are of several clocks
        seconds |= {
            "sot_time_to_first_word": figures.time_to_first_word if figures.streamed else None,
            "sot_critical_path": figures.critical_path,
            "sot_speed_up_estimate": figures.speed_up_estimate,
        }
    run.trace.describe_graph(
        {
            "sot_route": result["route"],
            "sot_points": len(figures.points),
            "sot_failed_points": sum(point.status != "ok" for point in figures.points),
            "sot_streamed": figures.streamed,
            **{name: None if value is None else round(value, _DIGITS) for name, value in seconds.items()},
        },
        outputs=dict(result) if has_answer else None,
    )


_INPUT_KEYS: Mapping[str, tuple[str, ...]] = {
    DRAFT_SKELETON: ("question_text", "messages"),
    REVIEW_SKELETON: ("skeleton",),
    EXPAND_POINT: ("point", "part"),
    JOIN: ("expansions",),
    ANSWER_DIRECTLY: ("question_text", "messages"),
}
_GIVEN_KEYS = ("question", "messages", "given_skeleton", "given_expansions")
_OUTPUT_KEYS = ("answer", "skeleton", "route", "route_reason", "review_comment")


def trace_policy(node: str, *, begins: bool = False) -> TracePolicy:
    """What a node's run records: what one wants to read, in place of every channel of the state.

    Args:
        node: Its name.
        begins: Whether it is the graph's first: it reads the question from what the caller gave.
    """
    return TracePolicy(
        process_inputs=partial(_shown, _GIVEN_KEYS if begins else _INPUT_KEYS[node]),
        process_outputs=_section if node == EXPAND_POINT else partial(_shown, _OUTPUT_KEYS),
    )


def _shown(keys: Sequence[str], state: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: state[key] for key in keys if state.get(key)}
    if "question_text" in shown:
        shown = {"question": shown.pop("question_text"), **shown}
    if "expansions" in shown:
        statuses = [{"index": each["index"], "status": each["status"]} for each in shown.pop("expansions")]
        shown["points"] = statuses
    return shown


def _section(update: Mapping[str, Any]) -> dict[str, Any]:
    """The text of a node that writes one section; nothing where an opening was dropped."""
    sections: list[Any] = [*update.get("expansions", ()), *update.get("frame", {}).values()]
    return {key: section[key] for section in sections for key in ("text", "status", "error") if section[key]}
