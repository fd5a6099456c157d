"""`route`, the first node where there is a router, and the edge after it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from langgraph.types import Overwrite

from sot_graph.concurrency.background_loop import end_tasks
from sot_graph.nodes import DRAFT_SKELETON
from sot_graph.nodes.announcements import announce_route
from sot_graph.nodes.answer_directly import DirectAnswer, write_directly
from sot_graph.nodes.draft_skeleton import (
    check_review_is_possible,
    given_skeleton_update,
    reset_update,
    settle_skeleton,
    settled_update,
    to_review,
)
from sot_graph.nodes.expand_point import after_no_skeleton, fan_out_points
from sot_graph.nodes.join import finish_run
from sot_graph.nodes.question_input import QuestionInput, inquiry_of, read_question
from sot_graph.retrieval.grounding import find_material
from sot_graph.routing.protocol import decide_in_time
from sot_graph.skeleton.drafter import Draft, Drafter
from sot_graph.state import SotState
from sot_graph.types import RouteName, Timings

if TYPE_CHECKING:
    from langgraph.types import Send

    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import Inquiry, RunContext
    from sot_graph.types import Material


async def route(state: SotState, run: RunContext) -> Update:
    """Reads the question and has the router decide; with speculation, what it may choose is begun meanwhile."""
    assert run.parts.router is not None
    if run.parts.options.review_skeleton:
        check_review_is_possible(run)
    given = read_question(state, run)
    finding = asyncio.create_task(find_material(given.documents, given.question, run))
    if given.has_skeleton:
        return given_skeleton_update(state, given, run, await finding)
    speculation = _Speculation(given, run, finding)
    timings: Timings = {}
    speculated: Update = {}
    try:
        decision = await decide_in_time(run.parts.router, given.question, given.history, run=run, model=run.parts.model)
        timings["route"] = run.timing(0.0)
        allows_needs = run.options.dependent == "graph"
        route_name: RouteName = "skeleton" if decision.dependent and allows_needs else decision.route
        reason = decision.reason
        if decision.confidence is not None:
            reason += f" (confidence {decision.confidence:.2f})"
        announce_route(route_name, decision.reason, run.emit, decision.confidence)
        speculation.route_told = route_name
        # Without the decision's reason, which may quote the question.
        run.trace.describe_node(stage="route", sot_route=route_name, sot_route_confidence=decision.confidence)
        begun = {**reset_update(given, run, await finding), "route": route_name, "route_reason": reason}
        begun["run_facts"]["may_depend"] = allows_needs and decision.dependent is not False
        if route_name == "skeleton":
            speculated = await speculation.skeleton(timings, reason)
            if speculated:
                begun["run_facts"]["may_depend"] = allows_needs  # the draft's prompt was made before the decision
        else:
            speculated = await speculation.answer(begun, timings)
    finally:
        await speculation.cancel()
        if not speculated.get("skeleton"):
            run.invocation.end_retrievals()
    return {
        **begun,
        **speculated,
        "expansions": Overwrite([]),
        "usage": Overwrite(run.meter.usage),
        "timings": Overwrite(timings),
    }


class _Speculation:
    """What is begun while the router decides: nothing, the skeleton, or the direct answer too."""

    def __init__(self, given: QuestionInput, run: RunContext, finding: asyncio.Task[Material | None]) -> None:
        self._given = given
        self._run = run
        self._finding = finding
        self._held: list[str] | None = []
        self.route_told: RouteName | None = None
        """The decision, once it has fallen. A draft whose documents are found later begins only if it is wanted, and
        its opening is held back no more."""
        self._draft: asyncio.Task[tuple[Draft, str]] | None = None
        self._direct: asyncio.Task[DirectAnswer] | None = None
        if run.options.speculative:
            self._draft = asyncio.create_task(self._settle())
        if run.options.speculative == "both":
            self._direct = asyncio.create_task(self._write())

    async def _inquiry(self) -> Inquiry:
        return inquiry_of(reset_update(self._given, self._run, await self._finding), self._given.history, self._run)

    async def _settle(self) -> tuple[Draft, str]:
        inquiry = await self._inquiry()
        if self.route_told == "direct":
            return Draft([], "", ""), ""
        new_drafter = partial(Drafter, self._run, inquiry)
        return await settle_skeleton(inquiry, self._run, new_drafter, is_decided=self.route_told is not None)

    async def _write(self) -> DirectAnswer:
        return await write_directly(await self._inquiry(), self._run, send=self._send)

    async def skeleton(self, timings: Timings, route_reason: str) -> Update:
        """The update of the skeleton, if it was begun."""
        if self._draft is None:
            return {}
        draft, reason = await self._draft
        material = await self._finding
        update = await settled_update(draft, reason, self._run, material, route_reason=route_reason, start=0.0)
        timings |= update.pop("timings")
        if "frame" in update:
            update["frame"] = Overwrite(update["frame"])
        return update

    async def answer(self, begun: Update, timings: Timings) -> Update:
        """The update of the direct answer, if it was begun. Sends what was held back, and the rest as it comes."""
        if self._direct is None:
            return {}
        held, self._held = self._held or [], None
        for text in held:
            self._send(text)
        written = await self._direct
        timings["direct"] = written.timing
        await self.cancel()  # what the draft that isn't wanted has cost is part of the answer's usage
        usage = self._run.meter.usage
        known = {**begun, "timings": timings}
        update = finish_run(known, self._run, written.joined, written.finish_reason, usage, {})
        timings["total"] = update.pop("timings")["total"]
        return update

    def _send(self, text: str) -> None:
        if self._held is None:
            self._run.emit({"type": "sot.answer.delta", "text": text})
        else:
            self._held.append(text)

    async def cancel(self) -> None:
        """End what isn't wanted."""
        await end_tasks(self._finding, self._draft, self._direct)
        opening = self._run.invocation.opening
        if opening is not None and opening.is_dropped:
            await opening.finished()  # what its call has cost is told as it ends


def after_route(state: SotState) -> list[Send] | str:
    """The edge after the router: to the draft, past it where the skeleton is there, or to the direct answer."""
    if state["route"] == "direct":
        return after_no_skeleton(state)
    return fan_out_points(state) if state["skeleton"] else DRAFT_SKELETON


def after_route_to_review(state: SotState) -> str:
    """The same, where the skeleton is reviewed."""
    if state["route"] == "direct":
        return after_no_skeleton(state)
    return to_review(state) if state["skeleton"] else DRAFT_SKELETON
