"""`draft_skeleton`, the first node where there is no router, and the edge after it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from langgraph.types import Overwrite

from sot_graph.errors import SotConfigError
from sot_graph.nodes.announcing import announce_skeleton
from sot_graph.nodes.given import kept_expansions, read_given
from sot_graph.nodes.inputs import Asked, read_question
from sot_graph.nodes.names import ANSWER_DIRECTLY, REVIEW_SKELETON
from sot_graph.prompts.rendering import numbered_list
from sot_graph.skeleton import Draft, NoSkeletonError, Revision, skeleton_call_messages
from sot_graph.skeleton import draft_skeleton as draft
from sot_graph.state import SCHEMA_VERSION, SotState, add_usage
from sot_graph.types import ChatTurn, StageTiming

if TYPE_CHECKING:
    from sot_graph.nodes.kit import Kit, Update
    from sot_graph.runs import Task

__all__ = [
    "announced",
    "check_review_is_possible",
    "draft_or_recall",
    "draft_skeleton",
    "fresh",
    "given_skeleton",
    "settle_skeleton",
    "to_review",
]


async def draft_skeleton(state: SotState, task: Task, kit: Kit) -> Update:
    """Settles the skeleton. Without a router it is the first node: it reads the question, too.

    After a review that rejected the skeleton it runs once more, with what the reviewer said.
    """
    check_review_is_possible(task, kit)
    if state.get("review_comment"):
        return await _draft_again(state, task, kit)
    if kit.router is None:
        asked = read_question(state, task.options)
        return given_skeleton(state, asked, task, kit) or {
            **fresh(asked, task),
            **await settle_skeleton(asked.question, asked.history, task, kit),
            "expansions": Overwrite([]),
            "usage": Overwrite(add_usage(None, task.meter.usage)),
            "timings": Overwrite({"skeleton": StageTiming(start=0.0, end=task.shared.elapsed())}),
        }
    start = task.shared.elapsed()
    return {
        **await settle_skeleton(state["asked"], state["history"], task, kit, why=state["route_reason"]),
        "usage": task.meter.usage,
        "timings": {"skeleton": StageTiming(start=start, end=task.shared.elapsed())},
    }


def check_review_is_possible(task: Task, kit: Kit) -> None:
    """Before anything is paid for.

    Raises:
        SotConfigError: A review is wanted, and there is no checkpointer.
    """
    if kit.options.review_skeleton and not task.has_checkpointer:
        message = (
            "review_skeleton=True stops the run until somebody has answered, which needs a checkpointer: "
            "create_sot_graph(..., checkpointer=InMemorySaver()), or compile the parent with one."
        )
        raise SotConfigError(message)


def given_skeleton(state: SotState, asked: Asked, task: Task, kit: Kit) -> Update | None:
    """The first node's whole update where the caller brought a skeleton along; `None`: none was."""
    given = read_given(state)
    if given is None:
        return None
    points, expansions = given
    kept = kept_expansions(points, expansions)
    if not kit.options.review_skeleton:
        announce_skeleton(points, kept, task, kit)
    settled = Draft(points, numbered_list(points), task.options.skeleton_format)
    return {
        **fresh(asked, task),
        **_settled(settled, "the skeleton was given"),
        "expansions": Overwrite(kept),
        "usage": Overwrite(add_usage(None, None)),
        "timings": Overwrite({"skeleton": StageTiming(start=0.0, end=task.shared.elapsed())}),
    }


async def settle_skeleton(
    question: str, history: list[ChatTurn], task: Task, kit: Kit, *, why: str | None = None
) -> Update:
    """The keys of a skeleton, drafted or from the cache, and announced.

    Args:
        question: The question.
        history: The conversation before it.
        task: The node's execution.
        kit: What the graph works with.
        why: The reason of the route, where a router gave one.
    """
    settled, reason = await draft_or_recall(task, kit, question, history)
    return announced(settled, reason, task, kit, why=why)


def announced(settled: Draft, reason: str, task: Task, kit: Kit, *, why: str | None) -> Update:
    """The keys of a drafted skeleton; those who listen are told, unless it is reviewed first."""
    if settled.points and not kit.options.review_skeleton:
        announce_skeleton(settled.points, [], task, kit)
    return _settled(settled, why if why and settled.points else reason)


async def _draft_again(state: SotState, task: Task, kit: Kit) -> Update:
    start = task.shared.elapsed()
    revision = Revision(state["skeleton_text"], state["review_comment"])
    settled, reason = await draft_or_recall(task, kit, state["asked"], state["history"], revision)
    return {
        **_settled(settled, reason),
        "review_comment": "",
        "usage": task.meter.usage,
        "timings": {"skeleton": StageTiming(start=start, end=task.shared.elapsed())},
    }


async def draft_or_recall(
    task: Task, kit: Kit, question: str, history: list[ChatTurn], revision: Revision | None = None
) -> tuple[Draft, str]:
    """A skeleton and why there is one, from the cache or from a model."""
    options = task.options
    key = kit.cache.key(
        "skeleton",
        kit.skeleton_model.fingerprint,
        skeleton_call_messages(task, kit.prompts, question, history, options.skeleton_format, revision),
        {
            **kit.prompts.skeleton_settings,
            "format": options.skeleton_format,
            "mode": options.structured_mode,
            "points": [options.min_points, options.max_points, kit.prompts.max_points],
            "titles": [kit.prompts.max_title_words, kit.prompts.drop_similar_titles],
        },
    )
    kept = await kit.cache.get(key)
    if kept is not None:
        task.meter.add_cache_hit("skeleton")
        return Draft(**kept), "a skeleton was in the cache"
    try:
        settled = await draft(task, kit.skeleton_model, kit.prompts, question, history, revision)
    except NoSkeletonError as error:
        return Draft([], "", ""), f"no skeleton could be had: {error}"
    await kit.cache.put(key, asdict(settled))
    return settled, "a skeleton could be had"


def _settled(settled: Draft, reason: str) -> dict[str, Any]:
    return {
        "skeleton": settled.points,
        "skeleton_text": settled.text,
        "skeleton_format": settled.skeleton_format,
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
        "answer_id": asked.answer_id,
        "question_id": asked.question_id,
        "answer": "",
        "review_comment": "",
    }


def to_review(state: SotState) -> str:
    """The edge after the skeleton, where it is reviewed."""
    return REVIEW_SKELETON if state["skeleton"] else ANSWER_DIRECTLY
