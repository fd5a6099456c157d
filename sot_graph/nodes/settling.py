"""From a question to a settled skeleton: recalled from the cache, or drafted; and the state's keys of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from langgraph.types import Overwrite

from sot_graph.nodes.announcing import announce_skeleton
from sot_graph.skeleton import Draft, Drafting, NoSkeletonError, Revision, skeleton_call_messages
from sot_graph.skeleton import draft_skeleton as draft
from sot_graph.state import SCHEMA_VERSION
from sot_graph.types import ChatTurn, StageTiming

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from sot_graph.nodes.inputs import Asked
    from sot_graph.nodes.kit import Kit, Update
    from sot_graph.runs import Task
    from sot_graph.state import SotState, WriteIntroductionInput

__all__ = [
    "IN_THE_CACHE",
    "announced",
    "draft_or_recall",
    "drafting_of",
    "fresh",
    "no_skeleton",
    "remember",
    "settle_skeleton",
    "skeleton_call_of",
    "skeleton_key",
    "skeleton_keys",
]

IN_THE_CACHE = "a skeleton was in the cache"
DRAFTED = "a skeleton could be had"


async def settle_skeleton(
    question: str, history: list[ChatTurn], task: Task, kit: Kit, *, why: str | None, start: float, may_depend: bool
) -> Update:
    """A skeleton, drafted or from the cache, and announced.

    Args:
        question: The question.
        history: The conversation before it.
        task: The node's execution.
        kit: What the graph works with.
        why: The reason of the route, where a router gave one.
        start: When the stage began, in seconds from the run's start.
        may_depend: Whether points may say which others they need.
    """
    settled, reason = await draft_or_recall(task, kit, question, history, may_depend=may_depend)
    return {
        **announced(settled, reason, task, kit, why=why),
        "expansions": [],
        "usage": task.meter.usage,
        "timings": {"skeleton": StageTiming(start=start, end=task.shared.elapsed())},
    }


def announced(settled: Draft, reason: str, task: Task, kit: Kit, *, why: str | None) -> Update:
    """The keys of a drafted skeleton; those who listen are told, unless it is reviewed first."""
    if settled.points and not kit.options.review_skeleton:
        announce_skeleton(settled.points, [], task, kit)
    return skeleton_keys(settled, why if why and settled.points else reason)


async def draft_or_recall(
    task: Task,
    kit: Kit,
    question: str,
    history: list[ChatTurn],
    revision: Revision | None = None,
    *,
    may_depend: bool,
) -> tuple[Draft, str]:
    """A skeleton and why there is one, from the cache or from a model."""
    key = skeleton_key(task, kit, question, history, revision, may_depend=may_depend)
    kept = await recall(task, kit, key)
    if kept is not None:
        return kept, IN_THE_CACHE
    try:
        settled = await draft(task, kit.skeleton_model, kit.prompts, question, history, revision, may_depend=may_depend)
    except NoSkeletonError as error:
        return no_skeleton(error)
    await remember(settled, kit, key)
    return settled, DRAFTED


def skeleton_key(
    task: Task,
    kit: Kit,
    question: str,
    history: list[ChatTurn],
    revision: Revision | None = None,
    *,
    may_depend: bool,
) -> str | None:
    """The skeleton's key in the cache; `None` if nothing is kept."""
    if not kit.cache.keeps:
        return None
    options = task.options
    return kit.cache.key(
        "skeleton",
        kit.skeleton_model.fingerprint,
        skeleton_call_messages(
            task, kit.prompts, question, history, options.skeleton_format, revision, may_depend=may_depend
        ),
        {
            **kit.prompts.skeleton_settings,
            "format": options.skeleton_format,
            "mode": options.structured_mode,
            "points": [options.min_points, options.max_points, kit.prompts.max_points],
            "titles": [kit.prompts.max_title_words, kit.prompts.drop_similar_titles],
        },
    )


async def recall(task: Task, kit: Kit, key: str | None) -> Draft | None:
    """The skeleton that the cache has."""
    kept = _draft_of(await kit.cache.get(key))
    if kept is not None:
        task.meter.add_cache_hit("skeleton")
        task.trace.describe_node(sot_cache_hit=True)
    return kept


def _draft_of(kept: Any) -> Draft | None:
    """A skeleton from the cache; `None` for nothing, or for something that was not put there by this version."""
    try:
        found: Any = Draft(**kept)
        points_are_good = all(
            type(point["index"]) is int and isinstance(point["title"], str) and isinstance(point["depends_on"], list)
            for point in found.points
        )
    except (TypeError, KeyError):
        return None
    texts_are_good = isinstance(found.text, str) and isinstance(found.skeleton_format, str)
    return found if found.points and points_are_good and texts_are_good else None


async def remember(settled: Draft, kit: Kit, key: str | None) -> None:
    """Put a skeleton into the cache."""
    await kit.cache.put(key, asdict(settled))


def no_skeleton(error: NoSkeletonError) -> tuple[Draft, str]:
    """An empty skeleton, and why: the question is to be answered directly."""
    return Draft([], "", ""), f"no skeleton could be had: {error}"


def drafting_of(task: Task, kit: Kit, question: str, history: list[ChatTurn], *, may_depend: bool) -> Drafting:
    """How this graph asks for a skeleton."""
    return Drafting(task, kit.skeleton_model, kit.prompts, question, history, may_depend=may_depend)


def skeleton_call_of(payload: WriteIntroductionInput | SotState, task: Task, kit: Kit) -> list[BaseMessage]:
    """The messages that asked for the skeleton. All texts of a run have the same."""
    may_depend = payload.get("may_depend", False)
    what = (payload["asked"], payload["skeleton_format"], may_depend, task.options)
    made = task.shared.skeleton_call
    if made is None or made[0] != what:
        messages = skeleton_call_messages(
            task,
            kit.prompts,
            payload["asked"],
            payload["history"],
            payload["skeleton_format"],
            may_depend=may_depend,
        )
        made = task.shared.skeleton_call = (what, messages)
    return made[1]


def skeleton_keys(settled: Draft, reason: str) -> Update:
    """The state's keys of a settled skeleton."""
    return {
        "skeleton": settled.points,
        "skeleton_text": settled.text,
        "skeleton_format": settled.skeleton_format,
        "is_written": False,
        "route": "skeleton" if settled.points else "direct",
        "route_reason": reason,
    }


def fresh(asked: Asked, task: Task) -> Update:
    """Every other key of the run, as it is before anything is known: nothing of an earlier turn shines through."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_key": task.key,
        "asked": asked.question,
        "history": asked.history,
        "answer_id": task.answer_id or asked.answer_id,
        "question_id": asked.question_id,
        "answer": "",
        "may_depend": task.options.dependent == "graph",
        "is_written": False,
        "sources": [],
        "finish_reason": None,
        "review_comment": "",
        "frame": Overwrite({}),
    }
