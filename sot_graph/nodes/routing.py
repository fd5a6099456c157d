"""`route`, the first node where there is a router, and the edge after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from langgraph.types import Overwrite

from sot_graph.nodes.drafting import (
    announced,
    check_review_is_possible,
    draft_or_recall,
    fresh,
    given_skeleton,
    to_review,
)
from sot_graph.nodes.expanding import fan_out_points
from sot_graph.nodes.inputs import read_question
from sot_graph.nodes.names import ANSWER_DIRECTLY, DRAFT_SKELETON
from sot_graph.routing.deciding import decide
from sot_graph.state import SotState, add_usage
from sot_graph.types import StageTiming, Timings

if TYPE_CHECKING:
    from langgraph.types import Send

    from sot_graph.nodes.kit import Kit, Update
    from sot_graph.routing.decision import RouteDecision
    from sot_graph.runs import Task
    from sot_graph.skeleton import Draft

__all__ = ["after_route", "after_route_to_review", "route"]


async def route(state: SotState, task: Task, kit: Kit) -> Update:
    """Reads the question and has the router decide; where speculation is wished, a skeleton is drafted meanwhile."""
    assert kit.router is not None
    check_review_is_possible(task, kit)
    asked = read_question(state, task.options)
    given = given_skeleton(state, asked, task, kit)
    if given is not None:
        return given
    drafting = (
        asyncio.create_task(draft_or_recall(task, kit, asked.question, asked.history))
        if task.options.speculative
        else None
    )
    timings: Timings = {}
    try:
        decision = await decide(kit.router, asked.question, asked.history, task=task, model=kit.model)
        timings["route"] = StageTiming(start=0.0, end=task.shared.elapsed())
        task.emit(
            {
                "type": "sot.route",
                "route": decision.route,
                "reason": decision.reason,
                "confidence": decision.confidence,
            }
        )
        skeleton: Update = {"skeleton": [], "skeleton_text": "", "skeleton_format": ""}
        if drafting is not None and decision.route == "skeleton":
            settled: Draft
            settled, reason = await drafting
            timings["skeleton"] = StageTiming(start=0.0, end=task.shared.elapsed())
            skeleton = announced(settled, reason, task, kit, why=_why(decision))
    finally:
        await _cancel(drafting)
    return {
        **fresh(asked, task),
        "route": decision.route,
        "route_reason": _why(decision),
        **skeleton,
        "expansions": Overwrite([]),
        "usage": Overwrite(add_usage(None, task.meter.usage)),
        "timings": Overwrite(timings),
    }


def _why(decision: RouteDecision) -> str:
    if decision.confidence is None:
        return decision.reason
    return f"{decision.reason} (confidence {decision.confidence:.2f})"


async def _cancel(drafting: asyncio.Task[tuple[Draft, str]] | None) -> None:
    """End a draft that isn't wanted; what became of it is nobody's concern."""
    if drafting is None or drafting.done():
        if drafting is not None and not drafting.cancelled():
            drafting.exception()  # seen, so that asyncio doesn't report it
        return
    drafting.cancel()
    await asyncio.gather(drafting, return_exceptions=True)


def after_route(state: SotState) -> list[Send] | str:
    """The edge after the router: to the draft, past it where the skeleton is there, or to the direct answer."""
    if state["route"] == "direct":
        return ANSWER_DIRECTLY
    return fan_out_points(state) if state["skeleton"] else DRAFT_SKELETON


def after_route_to_review(state: SotState) -> str:
    """The same, where the skeleton is reviewed."""
    if state["route"] == "direct":
        return ANSWER_DIRECTLY
    return to_review(state) if state["skeleton"] else DRAFT_SKELETON
