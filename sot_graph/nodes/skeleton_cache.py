"""A skeleton from the cache or from a model, and the state's keys of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sot_graph.skeleton.drafter import Draft, Drafter, NoSkeletonError, Revision, skeleton_call_messages

if TYPE_CHECKING:
    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import RunContext
    from sot_graph.types import ChatTurn

__all__ = ["DRAFTED", "IN_THE_CACHE", "draft_or_recall", "no_skeleton", "recall", "skeleton_key", "skeleton_keys"]

IN_THE_CACHE = "a skeleton was in the cache"
DRAFTED = "a skeleton could be had"


async def draft_or_recall(
    run: RunContext,
    question: str,
    history: list[ChatTurn],
    revision: Revision | None = None,
    *,
    may_depend: bool,
) -> tuple[Draft, str]:
    """A skeleton and why there is one, from the cache or from a model. An empty one sends the question direct."""
    key = skeleton_key(run, question, history, revision, may_depend=may_depend)
    kept = await recall(run, key)
    if kept is not None:
        return kept, IN_THE_CACHE
    try:
        draft = await Drafter(run, question, history, revision=revision, may_depend=may_depend).draft()
    except NoSkeletonError as error:
        return no_skeleton(error)
    await run.graph.cache.put(key, asdict(draft))
    return draft, DRAFTED


def skeleton_key(
    run: RunContext,
    question: str,
    history: list[ChatTurn],
    revision: Revision | None = None,
    *,
    may_depend: bool,
) -> str | None:
    """The skeleton's key in the cache; `None` if nothing is kept."""
    graph, options = run.graph, run.options
    if not graph.cache.keeps:
        return None
    prompts = graph.prompts
    messages = skeleton_call_messages(run, question, history, options.skeleton_format, revision, may_depend=may_depend)
    settings = {
        **prompts.skeleton_settings,
        "format": options.skeleton_format,
        "mode": options.structured_mode,
        "points": [options.min_points, options.max_points, prompts.max_points],
        "titles": [prompts.max_title_words, prompts.drop_similar_titles],
    }
    return graph.cache.key("skeleton", graph.skeleton_model.fingerprint, messages, settings)


async def recall(run: RunContext, key: str | None) -> Draft | None:
    """The skeleton that the cache has; `None` for nothing, or for something that this version did not put there."""
    kept = await run.graph.cache.get(key)
    try:
        found: Any = Draft(**kept)
        points_are_good = all(
            type(point["index"]) is int and isinstance(point["title"], str) and isinstance(point["depends_on"], list)
            for point in found.points
        )
    except (TypeError, KeyError):
        return None
    texts_are_good = isinstance(found.text, str) and isinstance(found.skeleton_format, str)
    if not (found.points and points_are_good and texts_are_good):
        return None
    run.meter.add_cache_hit("skeleton")
    run.trace.describe_node(sot_cache_hit=True)
    return found  # type: ignore[no-any-return]


def no_skeleton(error: NoSkeletonError) -> tuple[Draft, str]:
    """An empty skeleton, and why: the question is to be answered directly."""
    return Draft([], "", ""), f"no skeleton could be had: {error}"


def skeleton_keys(draft: Draft, reason: str) -> Update:
    """The state's keys of a settled skeleton."""
    return {
        "skeleton": draft.points,
        "skeleton_text": draft.text,
        "skeleton_format": draft.skeleton_format,
        "is_written": False,
        "route": "skeleton" if draft.points else "direct",
        "route_reason": reason,
    }
