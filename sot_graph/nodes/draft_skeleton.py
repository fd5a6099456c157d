"""`draft_skeleton`, the first node without a router: a skeleton is given, recalled from the cache, or drafted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from langgraph.types import Overwrite

from sot_graph._seams import state_reader
from sot_graph.errors import SotConfigError
from sot_graph.nodes import REVIEW_SKELETON
from sot_graph.nodes.announcements import announce_route, announce_skeleton
from sot_graph.nodes.answer_directly import AnswerInDraft, drafted_answer_keys
from sot_graph.nodes.expand_point import after_no_skeleton
from sot_graph.nodes.frame_parts import begin_opening, opening_alone
from sot_graph.nodes.pipelined_dispatch import draft_and_expand
from sot_graph.nodes.question_input import Asked, history_of, kept_expansions, kept_frame, read_given, read_question
from sot_graph.prompts.messages import numbered_list
from sot_graph.retrieval.grounding import find_material, shared_text
from sot_graph.retrieval.retriever import keep_retrievals, retrieve_ahead
from sot_graph.run import QUESTION_ID
from sot_graph.skeleton.drafter import Draft, Drafter, Revision
from sot_graph.state import SCHEMA_VERSION, SotState
from sot_graph.types import Material, StageTiming
from sot_graph.usage import add_usage

if TYPE_CHECKING:
    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import RunContext


async def draft_skeleton(state: SotState, run: RunContext) -> Update:
    """Settles the skeleton. Without a router it is the first node: it reads the question, too.

    Where the draft decides (`DraftRouter`), the model may answer instead, and the run is over.

    Pipelined, it also writes the points, which begin while the skeleton is still being written. After a review that
    rejected the skeleton it runs once more, with what the reviewer said.
    """
    run.trace.describe_node(stage="skeleton")
    check_review_is_possible(run)
    if state.get("review_comment"):
        return await _draft_again(state, run)
    known: Mapping[str, Any]
    if run.graph.router is not None:
        start, known = run.elapsed(), state
    else:
        asked = read_question(state, run.options, run.answer_id)
        material = await find_material(asked.documents, asked.question, run)
        given = given_skeleton(state, asked, run, material)
        if given is not None:
            return given
        start, known = 0.0, reset_keys(asked, run, material)
    question = known["asked"]
    history = asked.history if run.graph.router is None else history_of(state)
    may_depend = known.get("may_depend", False)  # not there in a run that an earlier version began
    material = known.get("material")
    why = state["route_reason"] if run.graph.router is not None else None
    # Points can't be begun early before somebody has approved the skeleton. Nor where LangGraph runs one task at a
    # time: theirs would wait for the place that this node holds.
    is_pipelined = run.options.dispatch == "pipelined" and not run.graph.options.review_skeleton
    if is_pipelined and run.config.get("max_concurrency") != 1:
        update = await draft_and_expand(
            question, history, run, why=why, start=start, may_depend=may_depend, material=material
        )
        written = update.pop("answered")
    else:
        documents = shared_text(material, run)
        answer = AnswerInDraft(run, material=material) if run.graph.draft_decides else None
        new_drafter = partial(Drafter, run) if answer is None else answer.drafter
        if "opening" in run.frame_parts:
            begin_opening(question, history, run, material=material, is_decided=not run.graph.draft_decides)
        drafter = new_drafter(
            question,
            history,
            may_depend=may_depend,
            documents=documents,
            on_glimpse=None if material is None else retrieve_ahead(question, run),
        )
        draft, reason = await drafter.settle()
        keep_retrievals(question, draft.points, run)
        written = None if answer is None else answer.finish()
        if answer is not None and written is None and not answer.has_begun:
            announce_route("skeleton" if draft.points else "direct", reason, run.emit)
        update = {
            **announced_keys(draft, reason, run, why=why),
            "expansions": [],
            "usage": run.meter.usage,
            "timings": {"skeleton": StageTiming(start=start, end=run.elapsed())},
        }
        if not draft.points:
            opened = await opening_alone(run)
            update["frame"] = opened["frame"]
            update["usage"] = add_usage(run.meter.usage, opened["usage"])
            update["timings"] |= opened["timings"]
    if run.graph.router is not None:
        return update
    if written is not None:
        update = drafted_answer_keys(known, written, update["usage"], run)
    return {
        **known,
        **update,
        "expansions": Overwrite(update["expansions"]),
        "frame": Overwrite(update.get("frame", {})),
        "usage": Overwrite(add_usage(None, update["usage"])),
        "timings": Overwrite(update["timings"]),
    }


def check_review_is_possible(run: RunContext) -> None:
    """Raise before the first model call if a review is wanted and the run has no checkpointer.

    Raises:
        SotConfigError: A review is wanted, and there is no checkpointer.
    """
    if run.graph.options.review_skeleton and not run.has_checkpointer:
        message = (
            "review_skeleton=True stops the run until somebody has answered, which needs a checkpointer: "
            "create_sot_graph(..., checkpointer=InMemorySaver()), or compile the parent with one."
        )
        raise SotConfigError(message)


def reset_keys(asked: Asked, run: RunContext, material: Material | None) -> Update:
    """Every key of the run, as it is before anything is known: nothing of an earlier turn shines through."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_key": run.key,
        "asked": asked.question,
        "material": material,
        "sends_all": state_reader(run.config) is None,
        "answer_id": run.answer_id,
        "question_id": "" if asked.is_in_history else f"{QUESTION_ID}{run.key}",
        "answer": "",
        "may_depend": run.options.dependent == "graph",
        "wanted_frame": run.options.frame,
        "is_written": False,
        "sources": [],
        "unsupported_citations": 0,
        "finish_reason": None,
        "review_comment": "",
        "frame": Overwrite({}),
    }


def given_skeleton(state: SotState, asked: Asked, run: RunContext, material: Material | None) -> Update | None:
    """The first node's whole update where the caller brought a skeleton along; `None`: none was."""
    if not (state.get("given_skeleton") or state.get("given_expansions")):  # forms and states have empty defaults
        return None
    points, expansions = read_given(state)
    kept = kept_expansions(points, expansions)
    frame = kept_frame(state.get("given_frame"), run.options.frame, whole=len(kept) == len(points))
    if not run.graph.options.review_skeleton:
        announce_skeleton(points, kept, run, frame=frame)
    draft = Draft(points, numbered_list(points), run.options.skeleton_format)
    return {
        **reset_keys(asked, run, material),
        **draft.state_keys("the skeleton was given"),
        "expansions": Overwrite(kept),
        "frame": Overwrite(frame),
        "usage": Overwrite(add_usage(None, None)),
        "timings": Overwrite({"skeleton": StageTiming(start=0.0, end=run.elapsed())}),
    }


def announced_keys(draft: Draft, reason: str, run: RunContext, *, why: str | None) -> Update:
    """The keys of a drafted skeleton; those who listen are told, unless it is reviewed first."""
    if draft.points and not run.graph.options.review_skeleton:
        announce_skeleton(draft.points, [], run)
    return draft.state_keys(why if why and draft.points else reason)


async def _draft_again(state: SotState, run: RunContext) -> Update:
    start = run.elapsed()
    revision = Revision(state["skeleton_text"], state["review_comment"])
    may_depend = state.get("may_depend", False)
    documents = shared_text(state.get("material"), run)
    drafter = Drafter(
        run, state["asked"], history_of(state), revision=revision, may_depend=may_depend, documents=documents
    )
    draft, reason = await drafter.settle()
    return {
        **draft.state_keys(reason),
        "expansions": Overwrite(kept_expansions(draft.points, state["expansions"])),
        "review_comment": "",
        "frame": Overwrite({}),
        "usage": run.meter.usage,
        "timings": {"skeleton": StageTiming(start=start, end=run.elapsed())},
    }


def to_review(state: SotState) -> str:
    """The edge after the skeleton, where it is reviewed."""
    return REVIEW_SKELETON if state["skeleton"] else after_no_skeleton(state)
