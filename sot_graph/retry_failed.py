"""Writing again, on the same thread, only the points that failed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Overwrite

from sot_graph.errors import ExpansionError, SotConfigError
from sot_graph.nodes import ANSWER_DIRECTLY, DRAFT_SKELETON, JOIN, REVIEW_SKELETON, ROUTE, is_sot_graph
from sot_graph.options import SotContext, context_changes
from sot_graph.state import fields_of, merge_timings
from sot_graph.usage import add_usage, usage_metadata

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateSnapshot

AnyGraph: TypeAlias = CompiledStateGraph[Any, Any, Any, Any]

_APPROVAL: Command[Any] = Command(resume=True)
"""A retry of a node with a review stops there, too. Its skeleton was approved when the run began."""
_OTHERWISE = (
    'Pass back what there is instead: graph.invoke({"question": ..., "given_skeleton": result["skeleton"], '
    '"given_expansions": result["expansions"]}) writes the same points and no others.'
)


def retry_failed_points(
    graph: AnyGraph, config: RunnableConfig, context: Any = None, *, node: str | None = None
) -> dict[str, Any]:
    """Expand the points of a thread's last run that are not `ok`, join again, and replace the answer's message.

    It does the same for the opening, the introduction and the conclusion. The conclusion is also written again if any
    point is.

    No model is asked for anything else: neither a skeleton nor a point that is there. A retriever is asked again. It
    also heals a run that ended in an `ExpansionError` (`on_point_failure="raise"`).

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
    child = _child(graph, config, node)
    if child is None:
        healed = graph.update_state(*_update_without_failures(graph, graph.get_state(config)))
        return dict(graph.invoke(None, _on_thread(config, healed), context=context))
    name, subgraph, childs_config = child
    kept = _finished_run(graph.get_state(childs_config), name)
    is_over = not graph.get_state(config).next
    run_config, context = _for_childs_run(config), _context(kept, context)
    try:
        retry = subgraph.invoke(_retry_input(kept), run_config, context=context)
        if "__interrupt__" in retry:
            retry = subgraph.invoke(_APPROVAL, run_config, context=context)
    except ExpansionError as error:
        graph.update_state(childs_config, _written_before(error), as_node=JOIN)
        raise
    result, childs_update, parents_update = _merge_retry(kept, retry, graph)
    graph.update_state(childs_config, childs_update, as_node=JOIN)
    healed = graph.update_state(config, parents_update, as_node=name.partition("|")[0])
    if is_over:  # the nodes after this one have run: they don't run again
        graph.update_state(healed, None, as_node=END)
    return result


async def aretry_failed_points(
    graph: AnyGraph, config: RunnableConfig, context: Any = None, *, node: str | None = None
) -> dict[str, Any]:
    """The same as `retry_failed_points`, asynchronously."""
    child = _child(graph, config, node)
    if child is None:
        healed = await graph.aupdate_state(*_update_without_failures(graph, await graph.aget_state(config)))
        return dict(await graph.ainvoke(None, _on_thread(config, healed), context=context))
    name, subgraph, childs_config = child
    kept = _finished_run(await graph.aget_state(childs_config), name)
    is_over = not (await graph.aget_state(config)).next
    run_config, context = _for_childs_run(config), _context(kept, context)
    try:
        retry = await subgraph.ainvoke(_retry_input(kept), run_config, context=context)
        if "__interrupt__" in retry:
            retry = await subgraph.ainvoke(_APPROVAL, run_config, context=context)
    except ExpansionError as error:
        await graph.aupdate_state(childs_config, _written_before(error), as_node=JOIN)
        raise
    result, childs_update, parents_update = _merge_retry(kept, retry, graph)
    await graph.aupdate_state(childs_config, childs_update, as_node=JOIN)
    healed = await graph.aupdate_state(config, parents_update, as_node=name.partition("|")[0])
    if is_over:
        await graph.aupdate_state(healed, None, as_node=END)
    return result


def _on_thread(config: RunnableConfig, thread: RunnableConfig) -> RunnableConfig:
    """The caller's config, on the thread as it is now."""
    return {**config, **thread, "configurable": {**config["configurable"], **thread["configurable"]}}


def _for_childs_run(config: RunnableConfig) -> RunnableConfig:
    """The caller's config without the place in their thread: the child's retry is a run of its own."""
    places = {"checkpoint_ns", "checkpoint_id", "checkpoint_map"}
    kept = {key: value for key, value in config["configurable"].items() if key not in places}
    return {**config, "configurable": kept}


def _written_before(error: ExpansionError) -> dict[str, Any]:
    """For a child's state: what a retry has written that ended in an error. The next one asks for the rest alone."""
    return {"expansions": error.expansions, "frame": error.frame, "usage": error.usage}


def _child(graph: Any, config: Any, node: str | None) -> tuple[str, Any, RunnableConfig] | None:
    """The SoT subgraph that is meant: its node, the graph, its thread. `None`: the graph is one itself."""
    if not isinstance(graph, CompiledStateGraph):
        message = f"retry_failed_points takes a graph of create_sot_graph, or its parent, not {type(graph).__name__}."
        raise SotConfigError(message)
    name, child = (None, graph) if is_sot_graph(graph) else _subgraph(graph, node)
    if not graph.checkpointer or graph.checkpointer is True:
        message = f"retry_failed_points needs a thread of a graph with a checkpointer; this one has none. {_OTHERWISE}"
        raise SotConfigError(message)
    if not (isinstance(config, Mapping) and (config.get("configurable") or {}).get("thread_id")):
        message = 'retry_failed_points needs the thread: config={"configurable": {"thread_id": ...}}.'
        raise SotConfigError(message)
    if name is None:
        return None
    childs_config = {**config, "configurable": {**config["configurable"], "checkpoint_ns": name}}
    saver = InMemorySaver() if REVIEW_SKELETON in child.nodes else None
    return name, child.copy({"checkpointer": saver}), cast("RunnableConfig", childs_config)


def _subgraph(graph: AnyGraph, node: str | None) -> tuple[str, Any]:
    """The node of the SoT subgraph that is meant, and the subgraph."""
    children: Any = graph.get_subgraphs(recurse=True)
    # A remote graph is a child, too, and tells no nodes.
    known = {name: child for name, child in children if is_sot_graph(child)}
    wanted = [name for name in known if node in (None, name, name.rpartition("|")[2])]
    if len(wanted) != 1:
        which = f"no SoT node {node!r}" if node else "which SoT node is meant?"
        fix = "Say node=..." if known else "Pass a graph of create_sot_graph or a parent of one with checkpointer=True."
        message = f"retry_failed_points: {which} The graph has: {sorted(known) or 'none'}. {fix}"
        raise SotConfigError(message)
    if known[wanted[0]].checkpointer is not True:
        message = (
            f"retry_failed_points: what the subgraph {wanted[0]!r} did isn't kept after its parent has gone on; make "
            f"it with create_sot_graph(..., checkpointer=True). {_OTHERWISE}"
        )
        raise SotConfigError(message)
    return wanted[0], known[wanted[0]]


def _finished_run(snapshot: StateSnapshot, where: str) -> Mapping[str, Any]:
    """The kept values of the run that is to be mended. Before its skeleton is there, they may be an older run's."""
    waiting = set(snapshot.next)
    if REVIEW_SKELETON in waiting:
        first = "Resume it first: graph.invoke(Command(resume=True), config)."
        message = f"retry_failed_points: the thread's run waits for its review; no point has been written. {first}"
        raise SotConfigError(message)
    if waiting & {START, ROUTE, DRAFT_SKELETON, ANSWER_DIRECTLY}:
        message = (
            "retry_failed_points: the thread's last question has no skeleton yet: its run ended before "
            f"({', '.join(sorted(waiting))}). Ask it again. If the thread itself waits (graph.get_state(config).next), "
            "graph.invoke(None, config) goes on with it."
        )
        raise SotConfigError(message)
    values: Mapping[str, Any] = snapshot.values
    if snapshot.created_at is None:
        message = f"retry_failed_points: nothing is kept of this thread ({where}): is its thread_id right?"
        raise SotConfigError(message)
    if not values.get("skeleton"):
        message = f"retry_failed_points: the thread's last run has no skeleton ({where}): there is nothing to retry."
        raise SotConfigError(message)
    return values


def _update_without_failures(graph: AnyGraph, snapshot: StateSnapshot) -> tuple[RunnableConfig, dict[str, Any], str]:
    """For `update_state`: as if only what is good had been written. The rest is fanned out again, by its needs."""
    kept = _finished_run(snapshot, "this graph")
    good = [expansion for expansion in kept["expansions"] if expansion["status"] == "ok"]
    frame = {name: part for name, part in kept.get("frame", {}).items() if part["status"] == "ok"}
    if len(good) < len(kept["skeleton"]):  # a conclusion is written from all points
        frame.pop("conclusion", None)
    facts = {**kept["draft_facts"], "is_written": False}
    update = {"draft_facts": facts, "expansions": Overwrite(good), "frame": Overwrite(frame)}
    # LangGraph goes on as if this node had written the update: its edge fans out the points that are missing.
    return snapshot.config, update, REVIEW_SKELETON if REVIEW_SKELETON in graph.nodes else DRAFT_SKELETON


def _retry_input(kept: Mapping[str, Any]) -> dict[str, Any]:
    """A child's kept state as the input of a run that writes only what is missing."""
    # Without the old answer the retry finds its question unanswered among the messages, and adds no second one.
    messages = [message for message in kept.get("messages", []) if message.id != kept["run_facts"]["answer_id"]]
    material = kept.get("material")
    return {
        "question": kept["run_facts"]["question_text"],
        "documents": None if material is None else material["documents"],
        "messages": messages,
        "given_skeleton": kept["skeleton"],
        "given_expansions": kept["expansions"],
        "given_frame": kept.get("frame"),
    }


def _context(kept: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The caller's context, with the run's own frame: a parent's, with options as `sot`, or options themselves."""
    has = context.__contains__ if isinstance(context, Mapping) else partial(hasattr, context)
    of_parent = has("sot") or not any(map(has, SotContext.__annotations__))
    changes = context_changes(context, embedded=of_parent)
    return {**(fields_of(context) if of_parent else {}), "sot": {**changes, "frame": kept["run_facts"]["wanted_frame"]}}


def _merge_retry(
    kept: Mapping[str, Any], retry: Mapping[str, Any], graph: AnyGraph
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A child's retry, a run of its own, as a part of the run that it mends.

    The result as the child would have given it, with all that its question has cost; what changes in the child's kept
    state; and what changes in the parent's.
    """
    # The retry drafted nothing: the first run's timing of the skeleton stays.
    timings: Any = {key: value for key, value in retry["timings"].items() if key != "skeleton"}
    usage = add_usage(kept.get("usage"), retry["usage"])
    # Its id is that of the answer in the parent: the message is to be replaced.
    changed = {"id": kept["run_facts"]["answer_id"], "usage_metadata": usage_metadata(usage)}
    answer = retry["messages"][-1].model_copy(update=changed)
    result = {**retry, "usage": usage, "timings": merge_timings(kept.get("timings"), timings)}
    kept_by_parent = {"messages": [answer], "sot": {key: value for key, value in result.items() if key != "messages"}}
    parents = {key: value for key, value in kept_by_parent.items() if key in graph.channels}
    result["messages"] = [*retry["messages"][:-1], answer]
    # The child's reducers add its usage and timings to what is there.
    childs = {"messages": [answer], "usage": retry["usage"], "timings": timings, "frame": Overwrite(retry["frame"])}
    said = ("expansions", "answer", "sources", "unsupported_citations", "finish_reason")
    childs |= {key: retry[key] for key in said}
    return result, childs, parents
