"""`draft_skeleton`, the first node where there is no router, and the edge after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.types import Overwrite

from sot_graph.errors import SotConfigError
from sot_graph.nodes.announcing import announce_skeleton
from sot_graph.nodes.given import kept_expansions, kept_frame, read_given
from sot_graph.nodes.inputs import Asked, read_question
from sot_graph.nodes.names import ANSWER_DIRECTLY, REVIEW_SKELETON
from sot_graph.nodes.pipelining import can_pipeline, draft_and_expand
from sot_graph.nodes.settling import draft_or_recall, fresh, settle_skeleton, skeleton_keys
from sot_graph.prompts.messages import numbered_list
from sot_graph.skeleton import Draft, Revision
from sot_graph.state import SotState, add_usage
from sot_graph.types import StageTiming

if TYPE_CHECKING:
    from sot_graph.nodes.kit import Kit, Update
    from sot_graph.runs import Task

__all__ = ["check_review_is_possible", "draft_skeleton", "given_skeleton", "to_review"]


async def draft_skeleton(state: SotState, task: Task, kit: Kit) -> Update:
    """Settles the skeleton. Without a router it is the first node: it reads the question, too.

    Pipelined, it also writes the points, which begin while the skeleton is still being written. After a review that
    rejected the skeleton it runs once more, with what the reviewer said.
    """
    task.trace.describe_node(stage="skeleton")
    check_review_is_possible(task, kit)
    if state.get("review_comment"):
        return await _draft_again(state, task, kit)
    settle = draft_and_expand if can_pipeline(task, kit) else settle_skeleton
    if kit.router is not None:
        start = task.shared.elapsed()
        question, history, why = state["asked"], state["history"], state["route_reason"]
        return await settle(question, history, task, kit, why=why, start=start, may_depend=_may_depend(state))
    asked = read_question(state, task.options, task.place)
    given = given_skeleton(state, asked, task, kit)
    if given is not None:
        return given
    begun = fresh(asked, task)
    settled = await settle(
        asked.question, asked.history, task, kit, why=None, start=0.0, may_depend=begun["may_depend"]
    )
    return {
        **begun,
        **settled,
        "expansions": Overwrite(settled["expansions"]),
        "frame": Overwrite(settled.get("frame", {})),
        "usage": Overwrite(add_usage(None, settled["usage"])),
        "timings": Overwrite(settled["timings"]),
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
    frame = kept_frame(state.get("given_frame"), kit.options.frame, whole=len(kept) == len(points))
    if not kit.options.review_skeleton:
        announce_skeleton(points, kept, task, kit, frame=frame)
    settled = Draft(points, numbered_list(points), task.options.skeleton_format)
    return {
        **fresh(asked, task),
        **skeleton_keys(settled, "the skeleton was given"),
        "expansions": Overwrite(kept),
        "frame": Overwrite(frame),
        "usage": Overwrite(add_usage(None, None)),
        "timings": Overwrite({"skeleton": StageTiming(start=0.0, end=task.shared.elapsed())}),
    }


async def _draft_again(state: SotState, task: Task, kit: Kit) -> Update:
    start = task.shared.elapsed()
    revision = Revision(state["skeleton_text"], state["review_comment"])
    settled, reason = await draft_or_recall(
        task, kit, state["asked"], state["history"], revision, may_depend=_may_depend(state)
    )
    return {
        **skeleton_keys(settled, reason),
        "expansions": Overwrite(kept_expansions(settled.points, state["expansions"])),
        "review_comment": "",
        "frame": Overwrite({}),
        "usage": task.meter.usage,
        "timings": {"skeleton": StageTiming(start=start, end=task.shared.elapsed())},
    }


def _may_depend(state: SotState) -> bool:
    return state.get("may_depend", False)  # not in a run that an earlier version began


def to_review(state: SotState) -> str:
    """The edge after the skeleton, where it is reviewed."""
    return REVIEW_SKELETON if state["skeleton"] else ANSWER_DIRECTLY
