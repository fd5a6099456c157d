"""`draft_skeleton`, the first node without a router: a skeleton is given, recalled from the cache, or drafted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from langgraph.types import Overwrite

from sot_graph._seams import has_checkpointer, state_reader
from sot_graph.errors import SotConfigError
from sot_graph.nodes import REVIEW_SKELETON
from sot_graph.nodes.announcements import announce_route, announce_skeleton
from sot_graph.nodes.answer_directly import AnswerInDraft, DirectAnswer, drafted_answer_update
from sot_graph.nodes.expand_point import after_no_skeleton
from sot_graph.nodes.frame_parts import begin_opening
from sot_graph.nodes.pipelined_dispatch import draft_and_expand
from sot_graph.nodes.question_input import (
    QuestionInput,
    history_of,
    inquiry_of,
    kept_expansions,
    kept_frame,
    read_given,
    read_question,
)
from sot_graph.options import FRAME_PARTS
from sot_graph.prompts.messages import numbered_list
from sot_graph.retrieval.grounding import find_material
from sot_graph.retrieval.retriever import query_for, retrieve_ahead
from sot_graph.run import QUESTION_ID_PREFIX
from sot_graph.skeleton.drafter import Draft, Drafter, Revision
from sot_graph.state import SCHEMA_VERSION, DraftFacts, RunFacts, SotState
from sot_graph.usage import add_usage, empty_usage

if TYPE_CHECKING:
    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import Inquiry, RunContext
    from sot_graph.types import Material


async def draft_skeleton(state: SotState, run: RunContext) -> Update:
    """Settles the skeleton. Without a router it is the first node: it reads the question, too.

    Where the draft decides (`DraftRouter`), the model may answer instead, and the run is over.

    Pipelined, it also writes the points, which begin while the skeleton is still being written. After a review that
    rejected the skeleton it runs once more, with what the reviewer said.
    """
    run.trace.describe_node(stage="skeleton")
    if run.parts.options.review_skeleton:
        check_review_is_possible(run)
    if state.get("review_comment"):
        return await _draft_again(state, run)
    known: Mapping[str, Any]
    if run.parts.router is not None:
        start, known, history = run.elapsed(), state, history_of(state)
        route_reason = state["route_reason"]
    else:
        given = read_question(state, run)
        rests_on_none = given.documents is None and run.retriever is None
        material = None if rests_on_none else await find_material(given.documents, given.question, run)
        if given.has_skeleton:
            return given_skeleton_update(state, given, run, material)
        start, known, history = 0.0, reset_update(given, run, material), given.history
        route_reason = None
    inquiry = inquiry_of(known, history, run)
    # Points can't be begun early before somebody has approved the skeleton. Nor where LangGraph runs one task at a
    # time: theirs would wait for the place that this node holds.
    can_pipeline = not run.parts.options.review_skeleton and run.config.get("max_concurrency") != 1
    pipelined: Any = partial(draft_and_expand, known["run_facts"])
    draft = pipelined if run.options.dispatch == "pipelined" and can_pipeline else _draft_whole
    update, answer = await draft(inquiry, run, route_reason=route_reason, start=start)
    if run.parts.router is not None:
        return update
    usage = add_usage(None, update["usage"])
    if answer is not None:
        update = drafted_answer_update(known, answer, usage, run)
    return {
        **known,
        **update,
        "expansions": Overwrite(update["expansions"]),
        "frame": Overwrite(update.get("frame", {})),
        "usage": Overwrite(usage),
        "timings": Overwrite(update["timings"]),
    }


async def _draft_whole(
    inquiry: Inquiry, run: RunContext, *, route_reason: str | None, start: float
) -> tuple[Update, DirectAnswer | None]:
    """Draft the skeleton, of which only the whole one counts; or the answer that the model gives in its place."""
    answering = AnswerInDraft(inquiry, run) if run.parts.draft_decides else None
    new_drafter = partial(Drafter, run, inquiry) if answering is None else answering.drafter
    try:
        draft, reason = await settle_skeleton(inquiry, run, new_drafter, is_decided=answering is None)
    finally:
        if answering is not None:
            answering.flush()
    answer = None if answering is None else answering.finish()
    if answering is not None and answer is None and not answering.has_begun:
        announce_route("skeleton" if draft.points else "direct", reason, run.emit)
    update = await settled_update(draft, reason, run, inquiry.material, route_reason=route_reason, start=start)
    return {**update, "expansions": [], "usage": run.meter.as_update}, answer


async def settle_skeleton(
    inquiry: Inquiry, run: RunContext, new_drafter: Callable[..., Drafter], *, is_decided: bool = True
) -> tuple[Draft, str]:
    """The skeleton and why there is one. The opening, and the points' documents, are begun meanwhile."""
    # Not before a review: if nobody ever answers it, the opening is wasted.
    if "opening" in FRAME_PARTS[run.options.frame] and not run.parts.options.review_skeleton:
        begin_opening(inquiry, run, is_decided=is_decided)
    on_glimpse = None if inquiry.material is None else retrieve_ahead(inquiry.question, run)
    draft, reason = await new_drafter(on_glimpse=on_glimpse).settle()
    if run.invocation.retrievals:  # those that were begun for other titles end
        run.invocation.end_retrievals(but={query_for(inquiry.question, point) for point in draft.points})
    return draft, reason


def check_review_is_possible(run: RunContext) -> None:
    """Raise `SotConfigError`, before the first model call, where no checkpointer keeps the run until the review."""
    if not has_checkpointer(run.config):
        message = (
            "review_skeleton=True stops the run until somebody has answered, which needs a checkpointer: "
            "create_sot_graph(..., checkpointer=InMemorySaver()), or compile the parent with one."
        )
        raise SotConfigError(message)


def reset_update(given: QuestionInput, run: RunContext, material: Material | None) -> Update:
    """The question, and every other key as it is before anything is known: of an earlier turn nothing is left."""
    return {
        "run_facts": RunFacts(
            schema_version=SCHEMA_VERSION,
            run_key=run.key,
            question_text=given.question,
            may_depend=run.options.dependent == "graph",
            wanted_frame=run.options.frame,
            sends_all=state_reader(run.config) is None,
            answer_id=run.answer_id,
            question_id="" if given.is_in_messages else f"{QUESTION_ID_PREFIX}{run.key}",
        ),
        "draft_facts": DraftFacts(skeleton_text="", skeleton_format="", is_written=False),
        "material": material,
        "answer": "",
        "skeleton": [],
        "sources": [],
        "unsupported_citations": 0,
        "finish_reason": None,
        "frame": Overwrite({}),
    }


def given_skeleton_update(state: SotState, given: QuestionInput, run: RunContext, material: Material | None) -> Update:
    """The first node's whole update where the caller brought a skeleton along."""
    points, expansions = read_given(state)
    kept = kept_expansions(points, expansions)
    frame = kept_frame(state.get("given_frame"), run.options.frame, whole=len(kept) == len(points))
    if not run.parts.options.review_skeleton:
        announce_skeleton(points, kept, run, material=material, frame=frame)
    draft = Draft(points, numbered_list(points), run.options.skeleton_format)
    return {
        **reset_update(given, run, material),
        **draft.as_update("the skeleton was given"),
        "expansions": Overwrite(kept),
        "frame": Overwrite(frame),
        "usage": Overwrite(empty_usage()),
        "timings": Overwrite({"skeleton": run.timing(0.0)}),
    }


async def settled_update(
    draft: Draft, reason: str, run: RunContext, material: Material | None, *, route_reason: str | None, start: float
) -> Update:
    """The update of a drafted skeleton, or of an opening without one, which a direct answer goes on after.

    Those who listen are told of the skeleton, unless it is reviewed first.
    """
    if draft.points and not run.parts.options.review_skeleton:
        announce_skeleton(draft.points, [], run, material=material)
    update = {**draft.as_update(reason, route_reason), "timings": {"skeleton": run.timing(start)}}
    if not draft.points:
        update["frame"] = {}
        if run.invocation.opening is not None and (opened := await run.invocation.opening.finished()) is not None:
            run.meter.add(opened["usage"])
            update |= {"frame": opened["frame"], "timings": update["timings"] | opened["timings"]}
    return update


async def _draft_again(state: SotState, run: RunContext) -> Update:
    start, inquiry = run.elapsed(), inquiry_of(state, history_of(state), run)
    revision = Revision(state["draft_facts"]["skeleton_text"], state["review_comment"])
    draft, reason = await settle_skeleton(inquiry, run, partial(Drafter, run, inquiry, revision=revision))
    return {
        **draft.as_update(reason),
        "expansions": Overwrite(kept_expansions(draft.points, state["expansions"])),
        "frame": Overwrite({}),
        "usage": run.meter.as_update,
        "timings": {"skeleton": run.timing(start)},
    }


def to_review(state: SotState) -> str:
    """The edge after the skeleton, where it is reviewed."""
    return REVIEW_SKELETON if state["skeleton"] else after_no_skeleton(state)
