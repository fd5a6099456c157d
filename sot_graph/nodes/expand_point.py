"""`expand_point`, one task a point, its siblings around the points, and the edges that fan out to them.

A point, the introduction and the conclusion are all sections. Their data differs; the code that writes is shared.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

from langgraph.graph import END
from langgraph.types import Send

from sot_graph._seams import state_reader
from sot_graph.citations import number_sources, without_citations
from sot_graph.joiners import shown_expansions
from sot_graph.nodes import (
    ANSWER_DIRECTLY,
    DRAFT_SKELETON,
    EXPAND_POINT,
    JOIN,
    WRITE_CONCLUSION,
    WRITE_INTRODUCTION,
    WRITE_OPENING,
)
from sot_graph.nodes.announcements import announce_frame_end, announce_point_end, citing
from sot_graph.nodes.join import numbering_of
from sot_graph.nodes.question_input import history_of, without_conversation
from sot_graph.options import FRAME_PARTS
from sot_graph.prompts.messages import (
    expansion_messages,
    expansion_opening,
    expansion_prefill,
    frame_messages,
    numbered_list,
)
from sot_graph.retrieval.grounding import Grounds, shared_text
from sot_graph.skeleton.parser import parse_skeleton
from sot_graph.skeleton.shared_prompt import skeleton_call_messages
from sot_graph.state import current_expansions
from sot_graph.types import Expansion, FramePart, FramePartName, PointTiming, StageTiming
from sot_graph.writing.cleaner import TextCleaner
from sot_graph.writing.expander import ExpanderInput
from sot_graph.writing.writer import Section, WrittenText, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_core.messages import BaseMessage

    from sot_graph.nodes.graph_node import Update
    from sot_graph.options import FrameChoice
    from sot_graph.run import RunContext
    from sot_graph.state import ExpandPointInput, SotState, WriteIntroductionInput
    from sot_graph.types import SkeletonPoint

logger = logging.getLogger("sot_graph")

_BASIS_KEYS = ["asked", "skeleton", "skeleton_text", "skeleton_format", "may_depend", "material"]
_BEFORE_POINTS: dict[FramePartName, str] = {"opening": WRITE_OPENING, "introduction": WRITE_INTRODUCTION}
_HISTORY_KEYS = ["messages", "answer_id", "question_id"]


def fan_out_points(state: SotState, frame: FrameChoice = "none") -> list[Send] | str:
    """The edge after a settled skeleton: a `Send` for each point that is still to be written and can be now.

    Before them one for the opening or the introduction, if it is wanted: where calls wait for a place, what is read
    first goes first.
    """
    if state.get("review_comment"):
        return DRAFT_SKELETON
    if not state["skeleton"]:
        return after_no_skeleton(state)
    if state.get("is_written") and len(current_expansions(state)) == len(state["skeleton"]):
        return JOIN
    finished = {one["index"]: one for one in current_expansions(state) if one["status"] == "ok"}
    sends = _sends(state, finished)
    for part, node in _BEFORE_POINTS.items():
        if part in FRAME_PARTS[frame] and part not in state.get("frame", {}):
            sends.insert(0, Send(node, {**_shared(state), "asked": state["asked"]}))
    return sends or JOIN


def after_no_skeleton(state: SotState) -> str:
    """Where it goes on without a skeleton: to the direct answer, or to the end where that is there already."""
    return END if state["answer"] else ANSWER_DIRECTLY


def fan_out_rest(state: SotState, frame: FrameChoice = "none") -> list[Send] | str:
    """The edge after `join`: the next wave, of points that waited for those of the last; the conclusion; or the end."""
    sends = _sends(state, {expansion["index"]: expansion for expansion in current_expansions(state)})
    if not sends and "conclusion" in FRAME_PARTS[frame] and "conclusion" not in state.get("frame", {}):
        return WRITE_CONCLUSION
    return sends or END


def _sends(state: SotState, settled: Mapping[int, Expansion]) -> list[Send]:
    """For each point that isn't settled yet, but everything that it needs is."""
    todo = [
        point
        for point in state["skeleton"]
        if point["index"] not in settled and all(other in settled for other in point["depends_on"])
    ]
    shared = _shared(state) if todo else {}
    return [
        Send(
            EXPAND_POINT,
            {**shared, "point": point, "needed": [settled[other] for other in point["depends_on"]]}
            if point["depends_on"]
            else {**shared, "point": point},
        )
        for point in todo
    ]


def _shared(state: SotState) -> dict[str, Any]:
    """What every `Send` carries."""
    shared: dict[str, Any] = {"run_key": state["run_key"], "schema_version": state["schema_version"]}
    if state.get("sends_all"):
        shared |= {**{key: state.get(key) for key in _BASIS_KEYS}, "history": history_of(state)}
    return shared


def text_basis(payload: Mapping[str, Any], run: RunContext) -> Mapping[str, Any]:
    """What a section is written from: carried to its node, or read from the state, once an invocation."""
    if "skeleton_text" in payload:
        return payload if "history" in payload else {**payload, "history": history_of(payload)}
    if run.invocation.basis is None:
        read = state_reader(run.config)
        assert read is not None, "the first node has said that the state can be read"
        state = read([*_BASIS_KEYS, *_HISTORY_KEYS])
        basis: dict[str, Any] = {**{key: state.get(key) for key in _BASIS_KEYS}, "history": history_of(state)}
        if not run.invocation.begun_here and not _is_as_written(basis["skeleton_text"], basis["skeleton"]):
            basis["skeleton_text"] = numbered_list(basis["skeleton"])
        run.invocation.basis = basis
    return run.invocation.basis


def _is_as_written(text: str, points: Sequence[SkeletonPoint]) -> bool:
    """Whether a skeleton's text still says its titles: between two invocations somebody may edit them in the state."""
    written = [title.strip() for title in parse_skeleton(text)]
    return len(written) == len(points) and all(
        title.startswith(point["title"]) for title, point in zip(written, points, strict=True)
    )


async def expand_point(payload: ExpandPointInput, run: RunContext) -> Update:
    """Write one point. What a model does wrong is in the expansion's status, never an exception."""
    point = payload["point"]
    index, title = point["index"], point["title"]
    about: dict[str, Any] = {"sot_point_index": index}
    if run.trace.shows_content:
        about["sot_point_title"] = title
    shown = f"{index}: {title}" if run.trace.shows_content else str(index)
    run.trace.describe_node(name=f"expand {shown}", stage="expansion", **about)
    run.invocation.tried.add(index)
    timing = PointTiming(index=index, start=run.elapsed())
    written = _unmet_need(payload)
    prompts, basis = run.graph.prompts, text_basis(payload, run)
    grounds = Grounds(basis.get("material"), run)
    if written is None:
        section = Section(
            label=f"Point {index}",
            stage="expansion",
            call_name=f"write {shown}",
            metadata=about,
            settings=prompts.expansion_settings,
            messages=partial(_point_messages, basis, payload, grounds, run),
            make_cleaner=lambda: TextCleaner(
                index,
                title,
                prefill=expansion_prefill(prompts, point),
                opening=expansion_opening(prompts, point),
                trim_to_sentence=prompts.trim_to_sentence,
            ),
            start_event=lambda attempt: grounds.announced(
                {"type": "sot.point.start", "index": index, "title": title, "attempt": attempt}
            ),
            delta_event=lambda text: {"type": "sot.point.delta", "index": index, "text": text},
            cached_as=(
                "point",
                {**prompts.expansion_settings, "title": title, "trim": prompts.trim_to_sentence},
            ),
            prepare=partial(grounds.find_for, basis["asked"], point) if basis.get("material") else None,
            expander_input=_expander_input(basis, point) if run.graph.expander is not None else None,
        )
        written = await write_text(section, run)
    expansion = Expansion(index=index, title=title, text=written.text, status=written.status, error=written.error)
    if written.truncated:
        expansion["truncated"] = True
    sources = written.sources or grounds.cited_in(written.text)  # those of an expander's own go before documents
    if sources is not None:
        expansion["sources"] = sources
    if grounds.detail:
        expansion["detail"] = grounds.detail
    announce_point_end(expansion, run)
    # A section that failed is an error in the trace, though its node ended well.
    cache_hit = True if written.is_cached else None
    run.trace.describe_node(error=written.error, sot_point_status=written.status, sot_cache_hit=cache_hit)
    if written.first_text_at is not None:
        timing["first_token"] = written.first_text_at
    timing["end"] = run.elapsed()
    return {"expansions": [expansion], "usage": run.meter.usage, "timings": {"points": [timing]}}


def _unmet_need(payload: ExpandPointInput) -> WrittenText | None:
    """What becomes of a point that needs one that isn't there: nothing is asked for it."""
    for other in payload.get("needed", ()):
        if other["status"] != "ok":
            why = "was not finished in time" if other["status"] == "timed_out" else "could not be written"
            return WrittenText("", other["status"], f"it needs point {other['index']}, which {why}")
    return None


def _point_messages(
    basis: Mapping[str, Any], payload: ExpandPointInput, grounds: Grounds, run: RunContext
) -> list[BaseMessage]:
    return expansion_messages(
        run.graph.prompts,
        point=payload["point"],
        point_length=run.options.point_length,
        is_opened="opening" in FRAME_PARTS[run.graph.options.frame],
        needed=[
            Expansion(**{**other, "text": without_citations(other["text"], other.get("sources") or [])})
            for other in payload.get("needed", ())
        ],
        shared_documents=shared_text(basis.get("material"), run),
        own_documents=grounds.own_text,
        **_prompt_basis(basis, run),
    )


def _expander_input(basis: Mapping[str, Any], point: SkeletonPoint) -> ExpanderInput:
    # Copies: what an expander does to them is its own affair.
    skeleton, point = deepcopy((basis["skeleton"], point))
    return ExpanderInput(question=basis["asked"], skeleton=skeleton, point=point, messages=[])


async def write_introduction(payload: WriteIntroductionInput, run: RunContext) -> Update:
    """Write the introduction from the skeleton alone, beside the points."""
    basis = text_basis(payload, run)
    messages = partial(frame_messages, run.graph.prompts, "introduction", **_prompt_basis(basis, run))
    return await _frame_node("introduction", messages, run, Grounds(basis.get("material"), run))


async def write_conclusion(state: SotState, run: RunContext) -> Update:
    """Write the conclusion from the points' texts, which cite as they do in the answer.

    Where the answer rests on documents, they cite nothing: the prompt has the documents under other numbers. Where
    there are no texts, or no time is left, nothing is asked for.
    """
    basis = text_basis(state, run)
    shown = shown_expansions(state["expansions"], run.options.on_point_failure)
    numbered, _ = number_sources(shown, numbering_of(run))
    if basis.get("material") is not None:
        numbered = [
            Expansion(**{**one, "text": without_citations(one["text"], one.get("sources") or [])}) for one in shown
        ]
    texts = [expansion for expansion in numbered if expansion["text"]]
    given_up = None
    if run.seconds_left(None) == 0:
        given_up = WrittenText("", "timed_out", "there was no time left for it (deadline)")
    elif not texts:
        given_up = WrittenText("", "failed", "no point has a text that it could conclude")
    messages = partial(frame_messages, run.graph.prompts, "conclusion", expansions=texts, **_prompt_basis(basis, run))
    return await _frame_node("conclusion", messages, run, Grounds(basis.get("material"), run), given_up)


async def _frame_node(
    name: FramePartName,
    messages: Callable[[], list[BaseMessage]],
    run: RunContext,
    grounds: Grounds,
    written: WrittenText | None = None,
) -> Update:
    run.trace.describe_node(stage="frame", sot_frame_part=name)
    update = await write_frame_part(name, messages, run, grounds, written)
    describe_frame_part(name, update, run)
    return update


def describe_frame_part(name: FramePartName, update: Update, run: RunContext) -> None:
    """Say in the node's trace what became of a text around the points."""
    if part := update["frame"].get(name):
        cache_hit = True if update["usage"]["frame"]["cache_hits"] else None
        run.trace.describe_node(error=part["error"], sot_frame_status=part["status"], sot_cache_hit=cache_hit)


async def write_frame_part(
    name: FramePartName,
    messages: Callable[[], list[BaseMessage]],
    run: RunContext,
    grounds: Grounds | None = None,
    written: WrittenText | None = None,
) -> Update:
    """Write a text around the points; or, with `written`, tell what has become of it."""
    timing = StageTiming(start=run.elapsed())
    prompts, grounds = run.graph.prompts, grounds or Grounds(None, run)
    if written is not None:
        logger.warning("The %s is left out: %s", name, written.error)
    else:
        section = Section(
            label=f"The {name}",
            stage="frame",
            call_name=f"write the {name}",
            metadata={"sot_frame_part": name},
            settings=prompts.frame_settings,
            messages=messages,
            # Models like to put the part's name before its text.
            make_cleaner=lambda: TextCleaner(title=name.capitalize(), trim_to_sentence=prompts.trim_to_sentence),
            # An opening is told before the skeleton, which says so of other texts.
            start_event=lambda attempt: grounds.announced(
                {
                    "type": "sot.frame.start",
                    "part": name,
                    "attempt": attempt,
                    **(citing(run) if name == "opening" and run.invocation.is_grounded else {}),
                }
            ),
            delta_event=lambda text: {"type": "sot.frame.delta", "part": name, "text": text},
            cached_as=(name, {**prompts.frame_settings, "trim": prompts.trim_to_sentence}),
        )
        written = await write_text(section, run)
    part = FramePart(text=written.text, status=written.status, error=written.error)
    if written.truncated:
        part["truncated"] = True
    if (sources := grounds.cited_in(written.text)) is not None:
        part["sources"] = sources
    announce_frame_end(name, part, run)
    if written.first_text_at is not None:
        timing["first_token"] = written.first_text_at
    timing["end"] = run.elapsed()
    return {"frame": {name: part}, "usage": run.meter.usage, "timings": {name: timing}}


def _prompt_basis(given: Mapping[str, Any], run: RunContext) -> dict[str, Any]:
    """What the prompt of every section is made from. All of a run begin with the same messages, made once."""
    question, history, skeleton_format = given["asked"], given["history"], given["skeleton_format"]
    may_depend = given.get("may_depend", False)
    if run.options.point_context == "question":
        history = without_conversation(history)
    documents = shared_text(given.get("material"), run)
    made_from = (question, skeleton_format, may_depend, run.options, documents)
    made = run.invocation.skeleton_call
    if made is None or made[0] != made_from:
        messages = skeleton_call_messages(
            run, question, history, skeleton_format, may_depend=may_depend, documents=documents
        )
        made = run.invocation.skeleton_call = (made_from, messages)
    return {
        "question": question,
        "history": history,
        "skeleton": given["skeleton"],
        "skeleton_call": made[1],
        "skeleton_text": given["skeleton_text"],
    }
