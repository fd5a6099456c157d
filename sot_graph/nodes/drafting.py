"""`draft_skeleton`, the first node, and the edge after it."""

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
from sot_graph.types import ChatTurn, Expansion, StageTiming

if TYPE_CHECKING:
    from sot_graph.nodes.kit import Kit, Update
    from sot_graph.runs import Task

__all__ = ["draft_skeleton", "to_review"]


async def draft_skeleton(state: SotState, task: Task, kit: Kit) -> Update:
    """The first node: reads the question, resets what an earlier turn left, and settles the skeleton.

    After a review that rejected the skeleton it runs once more, with what the reviewer said.
    """
    if kit.options.review_skeleton and not task.has_checkpointer:
        message = (
            "review_skeleton=True stops the run until somebody has answered, which needs a checkpointer: "
            "create_sot_graph(..., checkpointer=InMemorySaver()), or compile the parent with one."
        )
        raise SotConfigError(message)
    if state.get("review_comment"):
        return await _draft_again(state, task, kit)
    asked = read_question(state, task.options)
    start = task.shared.elapsed()
    given = read_given(state)
    kept: list[Expansion] = []
    if given is not None:
        points, expansions = given
        kept = kept_expansions(points, expansions)
        settled, reason = Draft(points, numbered_list(points), task.options.skeleton_format), "the skeleton was given"
    else:
        settled, reason = await _draft(task, kit, asked.question, asked.history)
    if settled.points and not kit.options.review_skeleton:
        announce_skeleton(settled.points, kept, task, kit)
    return {
        **_fresh(asked, task),
        **_settled(settled, reason),
        "expansions": Overwrite(kept),
        "usage": Overwrite(add_usage(None, task.meter.usage)),
        "timings": Overwrite({"skeleton": StageTiming(start=start, end=task.shared.elapsed())}),
    }


async def _draft_again(state: SotState, task: Task, kit: Kit) -> Update:
    start = task.shared.elapsed()
    revision = Revision(state["skeleton_text"], state["review_comment"])
    settled, reason = await _draft(task, kit, state["asked"], state["history"], revision)
    return {
        **_settled(settled, reason),
        "review_comment": "",
        "usage": task.meter.usage,
        "timings": {"skeleton": StageTiming(start=start, end=task.shared.elapsed())},
    }


async def _draft(
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


def _fresh(asked: Asked, task: Task) -> Update:
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
