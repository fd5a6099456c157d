"""Writing again, on the same thread, only the points that failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from langgraph.graph import START
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Overwrite

from sot_graph.errors import SotConfigError
from sot_graph.nodes import ANSWER_DIRECTLY, DRAFT_SKELETON, EXPAND_POINT, JOIN, REVIEW_SKELETON, ROUTE
from sot_graph.state import add_usage, merge_timings
from sot_graph.usage import usage_metadata

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateSnapshot

    from sot_graph.types import Frame, Timings

__all__ = ["aretry_failed_points", "retry_failed_points"]

_OTHERWISE = (
    'Pass back what there is instead: graph.invoke({"question": ..., "given_skeleton": result["skeleton"], '
    '"given_expansions": result["expansions"]}) writes the same points and no others.'
)
_RESULT_KEYS = (
    "answer",
    "sources",
    "finish_reason",
    "skeleton",
    "expansions",
    "frame",
    "usage",
    "timings",
    "route",
    "route_reason",
    "messages",
)


def retry_failed_points(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    config: RunnableConfig,
    context: Any = None,
    *,
    node: str | None = None,
) -> dict[str, Any]:
    """Expand the points of a thread's last run that are not `ok`, join again, and replace the answer's message.

    So with an introduction and a conclusion; a conclusion is also written again where points are.

    Nothing else is requested: neither a skeleton nor a point that is there. It also heals a run that ended in an
    `ExpansionError` (`on_point_failure="raise"`).

    Args:
        graph: A graph of `create_sot_graph` with a checkpointer, or a parent with one whose SoT subgraph was made
            with `checkpointer=True`.
        config: The thread's config.
        context: The run's context, as for `graph.invoke`.
        node: In a parent with several SoT subgraphs: the node whose points are meant.

    Returns:
        The result as `graph.invoke` gives it, of the SoT graph itself; the parent's thread gets the new message.
        `usage` counts the retry's calls on top of the earlier ones.

    Raises:
        SotConfigError: There is no checkpointer, no such run, or a subgraph whose state isn't kept: the message says
            how to get the same by passing back the result. Or the thread's newest run is still before its points: it
            waits for a review, or ended while its skeleton was drafted.
        ExpansionError: Points failed again, with `on_point_failure="raise"`.
    """
    child = _child(graph, node)
    config = _thread(graph, config)
    if child is None:
        snapshot = graph.get_state(config)
        healed = graph.update_state(_repeatable(snapshot), _afresh(snapshot), as_node=_before_points(graph))
        return dict(graph.invoke(None, _watched(config, healed), **_with(context)))
    name, subgraph = child
    kept = _kept(graph.get_state(_child_config(config, name)), name)
    retried = _Retried(
        kept, subgraph.copy({"checkpointer": None}).invoke(_given(kept), _watched(config), **_with(context))
    )
    graph.update_state(_child_config(config, name), retried.child_update(), as_node=JOIN)
    graph.update_state(config, retried.parent_update(graph), as_node=name)
    return retried.result


async def aretry_failed_points(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    config: RunnableConfig,
    context: Any = None,
    *,
    node: str | None = None,
) -> dict[str, Any]:
    """The same as `retry_failed_points`, asynchronously."""
    child = _child(graph, node)
    config = _thread(graph, config)
    if child is None:
        snapshot = await graph.aget_state(config)
        healed = await graph.aupdate_state(_repeatable(snapshot), _afresh(snapshot), as_node=_before_points(graph))
        return dict(await graph.ainvoke(None, _watched(config, healed), **_with(context)))
    name, subgraph = child
    kept = _kept(await graph.aget_state(_child_config(config, name)), name)
    retried = _Retried(
        kept, await subgraph.copy({"checkpointer": None}).ainvoke(_given(kept), _watched(config), **_with(context))
    )
    await graph.aupdate_state(_child_config(config, name), retried.child_update(), as_node=JOIN)
    await graph.aupdate_state(config, retried.parent_update(graph), as_node=name)
    return retried.result


def _with(context: Any) -> dict[str, Any]:
    return {} if context is None else {"context": context}


def _watched(config: RunnableConfig, thread: RunnableConfig | None = None) -> RunnableConfig:
    """A thread's config with the callbacks, tags and metadata that the caller gave; without a thread, only these."""
    own = {key: value for key, value in config.items() if key != "configurable"}
    return {**own, **(thread or {})}  # type: ignore[typeddict-item]


def _is_sot(graph: Any) -> bool:
    return {DRAFT_SKELETON, EXPAND_POINT, JOIN} <= set(getattr(graph, "nodes", ()))


def _before_points(graph: CompiledStateGraph[Any, Any, Any, Any]) -> str:
    """The node after which points are fanned out."""
    return REVIEW_SKELETON if REVIEW_SKELETON in graph.nodes else DRAFT_SKELETON


def _child(graph: Any, node: str | None) -> tuple[str, Any] | None:
    """The SoT subgraph that is meant; `None`: the graph is one itself."""
    if not isinstance(graph, CompiledStateGraph):
        message = (
            f"retry_failed_points: pass a graph of create_sot_graph, or a parent of one, not {type(graph).__name__}."
        )
        raise SotConfigError(message)
    if _is_sot(graph):
        return None
    children: dict[str, Any] = {name: child for name, child in graph.get_subgraphs() if _is_sot(child)}
    if node is not None:
        children = {name: child for name, child in children.items() if name == node}
    if len(children) != 1:
        known = sorted(name for name, child in graph.get_subgraphs() if _is_sot(child))
        message = (
            f"retry_failed_points: {'no SoT node ' + repr(node) if node else 'which SoT node is meant?'} "
            f"The graph has: {known or 'none'}. "
            + ("Say node=..." if known else "Pass a graph of create_sot_graph, or a parent of one.")
        )
        raise SotConfigError(message)
    name, child = next(iter(children.items()))
    if child.checkpointer is not True:
        message = (
            f"retry_failed_points: what the subgraph {name!r} did isn't kept after its parent has gone on; make it "
            f"with create_sot_graph(..., checkpointer=True). {_OTHERWISE}"
        )
        raise SotConfigError(message)
    return name, child


def _thread(graph: CompiledStateGraph[Any, Any, Any, Any], config: Any) -> RunnableConfig:
    if not graph.checkpointer or graph.checkpointer is True:
        message = (
            f"retry_failed_points needs the thread of a graph with a checkpointer, and there is none. {_OTHERWISE}"
        )
        raise SotConfigError(message)
    if not (isinstance(config, Mapping) and (config.get("configurable") or {}).get("thread_id")):
        message = 'retry_failed_points needs the thread: config={"configurable": {"thread_id": ...}}.'
        raise SotConfigError(message)
    return cast("RunnableConfig", config)


def _child_config(config: RunnableConfig, name: str) -> RunnableConfig:
    return {**config, "configurable": {**config.get("configurable", {}), "checkpoint_ns": name}}


def _kept(snapshot: StateSnapshot, where: str) -> Mapping[str, Any]:
    _check_no_question_is_open(snapshot)
    values = snapshot.values
    if not (isinstance(values, Mapping) and values.get("skeleton")):
        message = f"retry_failed_points: the thread holds no run with a skeleton ({where}): there is nothing to retry."
        raise SotConfigError(message)
    return values


def _check_no_question_is_open(snapshot: StateSnapshot) -> None:
    """While a run is still before its points, what is kept is of an earlier question, or not approved."""
    waiting = set(snapshot.next)
    if REVIEW_SKELETON in waiting:
        message = (
            "retry_failed_points: the thread's run waits for the review of its skeleton; no point has been written. "
            "Resume it first: graph.invoke(Command(resume=True), config)."
        )
        raise SotConfigError(message)
    if waiting & {START, ROUTE, DRAFT_SKELETON, ANSWER_DIRECTLY}:
        message = (
            "retry_failed_points: the thread's last question has no skeleton yet: its run ended before "
            f"({', '.join(sorted(waiting))}). Go on with it by graph.invoke(None, config), or ask it again."
        )
        raise SotConfigError(message)


def _repeatable(snapshot: StateSnapshot) -> RunnableConfig:
    _kept(snapshot, "this graph")
    return snapshot.config


def _afresh(snapshot: StateSnapshot) -> dict[str, Any]:
    """The state as if only what is good had been written: the rest is fanned out again, in the order of its needs."""
    good = [expansion for expansion in snapshot.values["expansions"] if expansion["status"] == "ok"]
    healed = len(good) < len(snapshot.values["skeleton"])
    parts: Frame = snapshot.values.get("frame", {})
    frame = {
        name: part
        for name, part in parts.items()
        if part["status"] == "ok" and not (name == "conclusion" and healed)  # type: ignore[index]
    }
    return {"is_written": False, "expansions": Overwrite(good), "frame": Overwrite(frame)}


def _given(kept: Mapping[str, Any]) -> dict[str, Any]:
    """A child's kept state as the input of a run that writes only what is missing."""
    return {
        "question": kept["asked"],
        "messages": _before_answer(kept),
        "given_skeleton": kept["skeleton"],
        "given_expansions": kept["expansions"],
        "given_frame": kept.get("frame"),
    }


def _before_answer(kept: Mapping[str, Any]) -> list[Any]:
    """The messages as they were when the question was asked: the same question after them has the same ids."""
    answer_ids = {kept["answer_id"]}
    return [message for message in kept.get("messages", []) if message.id not in answer_ids]


class _Retried:
    """A child's retry, a run of its own, as a part of the run that it mends.

    Attributes:
        result: As the graph itself would have given it: with all that its question has cost.
    """

    def __init__(self, kept: Mapping[str, Any], retry: Mapping[str, Any]) -> None:
        self._usage = retry["usage"]
        # Nothing was drafted: when the skeleton was is kept.
        self._timings = {key: value for key, value in retry["timings"].items() if key != "skeleton"}
        usage = add_usage(kept.get("usage"), self._usage)
        # Its id is that of the answer in the parent: the message is to be replaced.
        changed = {"id": kept["answer_id"], "usage_metadata": usage_metadata(usage)}
        answer = retry["messages"][-1].model_copy(update=changed)
        self.result: dict[str, Any] = {
            **retry,
            "usage": usage,
            "timings": merge_timings(kept.get("timings"), cast("Timings", self._timings)),
            "messages": [*retry["messages"][:-1], answer],
        }

    def child_update(self) -> dict[str, Any]:
        """For the child's kept state, whose reducers add usage and timings to what is there."""
        result = self.result
        return {
            "expansions": result["expansions"],
            "frame": Overwrite(result["frame"]),
            "answer": result["answer"],
            "messages": result["messages"][-1:],
            "usage": self._usage,
            "timings": self._timings,
        }

    def parent_update(self, graph: CompiledStateGraph[Any, Any, Any, Any]) -> dict[str, Any]:
        """For those of the parent's keys that the child shares."""
        update = {key: self.result[key] for key in _RESULT_KEYS if key in graph.channels}
        if "messages" in update:
            update["messages"] = update["messages"][-1:]
        return update
