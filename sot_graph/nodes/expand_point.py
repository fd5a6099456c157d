"""`expand_point`, one task a section, and the edges that fan out to them.

A point, the opening, the introduction and the conclusion are all sections: what is written in one go.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from langgraph.graph import END
from langgraph.runtime import get_runtime
from langgraph.types import Send

from sot_graph.citations import without_its_citations
from sot_graph.concurrency.cancellation import cancelled_once
from sot_graph.nodes import ANSWER_DIRECTLY, DRAFT_SKELETON, EXPAND_POINT, JOIN
from sot_graph.nodes.announcements import announce_point_end
from sot_graph.nodes.frame_parts import write_part
from sot_graph.nodes.question_input import BASIS_KEYS, SectionBasis, history_of, section_basis
from sot_graph.options import FRAME_PARTS
from sot_graph.prompts.messages import expansion_messages, expansion_start
from sot_graph.retrieval.grounding import Grounds
from sot_graph.state import current_expansions
from sot_graph.streaming.answer_reader import AnswerReader, is_sot_event
from sot_graph.types import Expansion
from sot_graph.writing.cleaner import TextCleaner
from sot_graph.writing.expander import ExpanderError, ExpanderInput
from sot_graph.writing.writer import Section, WrittenText, write_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from langchain_core.messages import BaseMessage
    from langgraph.pregel.protocol import PregelProtocol

    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import RunContext
    from sot_graph.state import ExpandPointInput, SotState
    from sot_graph.types import FramePartName


def fan_out_points(state: SotState) -> list[Send] | str:
    """The edge after a settled skeleton: a `Send` for each point that is still to be written and can be now.

    An opening or an introduction is sent before the points. It is read first, so its call gets a place first.
    """
    if state.get("review_comment"):
        return DRAFT_SKELETON
    if not state["skeleton"]:
        return after_no_skeleton(state)
    expansions = current_expansions(state)
    if state["draft_facts"]["is_written"] and len(expansions) == len(state["skeleton"]):
        return JOIN
    missing = [name for name in FRAME_PARTS[state["run_facts"]["wanted_frame"]] if name not in state.get("frame", {})]
    finished = {one["index"]: one for one in expansions if one["status"] == "ok"}
    return _sends(state, finished, [name for name in missing if name != "conclusion"]) or JOIN


def after_no_skeleton(state: SotState) -> str:
    """Where it goes on without a skeleton: to the direct answer, or to the end where that is there already."""
    return END if state["answer"] else ANSWER_DIRECTLY


def fan_out_rest(state: SotState) -> list[Send] | str:
    """The edge after `join`: the next wave, of points that waited for those of the last; the conclusion; or the end."""
    written = {expansion["index"]: expansion for expansion in current_expansions(state)}
    sends = _sends(state, written)
    is_concluded = "conclusion" in FRAME_PARTS[state["run_facts"]["wanted_frame"]]
    if not sends and is_concluded and "conclusion" not in state.get("frame", {}):
        sends = _sends(state, written, ["conclusion"])
    return sends or END


def _sends(state: SotState, settled: Mapping[int, Expansion], parts: Sequence[FramePartName] = ()) -> list[Send]:
    """A `Send` for each of these parts, and for each point that isn't settled while all that it needs are.

    `settled`: before the points the expansions that are `ok`, since others are written again; after `join`, all.

    A `Send` carries little, or, where the state can't be read, all that its text is written from.
    """
    facts = state["run_facts"]
    base: dict[str, Any] = {"run_key": facts["run_key"], "schema_version": facts["schema_version"]}
    if facts["sends_all"]:
        base |= {**{key: state.get(key) for key in BASIS_KEYS}, "history": history_of(state)}
    sends: list[Send] = []
    for part in parts:
        concluded = {"expansions": [*settled.values()]} if part == "conclusion" and facts["sends_all"] else {}
        sends.append(Send(EXPAND_POINT, {**base, "part": part, **concluded}))
    for point in state["skeleton"]:
        if point["index"] not in settled and all(other in settled for other in point["depends_on"]):
            needs = {"needed": [settled[other] for other in point["depends_on"]]} if point["depends_on"] else {}
            sends.append(Send(EXPAND_POINT, {**base, "point": point, **needs}))
    return sends


async def expand_point(payload: ExpandPointInput, run: RunContext) -> Update:
    """Write one point, or a text around the points. What a model does wrong is in its status, never an exception."""
    if "part" in payload:
        return await write_part(payload["part"], payload, run)
    point = payload["point"]
    index, title = point["index"], point["title"]
    about: dict[str, Any] = {"sot_point_index": index}
    if run.trace.shows_content:
        about["sot_point_title"] = title
    shown = run.shown_point(point)
    run.trace.describe_node(name=f"expand {shown}", stage="expansion", **about)
    run.invocation.tried.add(index)
    start = run.elapsed()
    written = _unmet_need(payload["needed"]) if "needed" in payload else None
    prompts, basis = run.parts.prompts, section_basis(payload, run)
    material = basis.inquiry.material
    grounds = None if material is None else Grounds(material, run)
    if written is None:
        prefill, first_words = "", ""
        expander_input = None
        if run.parts.expander is None:
            prefill, first_words = expansion_start(prompts, point)
        else:
            question = basis.inquiry.question
            expander_input = ExpanderInput(question=question, skeleton=basis.skeleton, point=point, messages=[])
        section = Section(
            label=f"Point {index}",
            stage="expansion",
            call_name=f"write {shown}",
            metadata=about,
            settings=prompts.expansion_settings,
            messages=partial(_point_messages, basis, payload, grounds, run),
            # A nested graph's answer may begin with a head of its own, which is no echo.
            make_cleaner=TextCleaner
            if isinstance(run.parts.expander, NestedGraph)
            else lambda: TextCleaner(
                index,
                title,
                prefill=prefill,
                first_words=first_words,
                trim_to_sentence=prompts.trim_to_sentence,
                cites=run.parts.expander is not None or bool(grounds and grounds.documents),
            ),
            start_event=lambda attempt: {"type": "sot.point.start", "index": index, "title": title, "attempt": attempt},
            delta_event=lambda text: {"type": "sot.point.delta", "index": index, "text": text},
            cached_as=("point", {**prompts.expansion_settings, "title": title, "trim": prompts.trim_to_sentence}),
            grounds=grounds,
            prepare=None if grounds is None else partial(grounds.find_for, basis.inquiry.question, point),
            expander_input=expander_input,
        )
        written = await write_text(section, run)
    expansion = cast("Expansion", {"index": index, "title": title, **written.as_section(grounds)})
    announce_point_end(expansion, run)
    # A section that failed is an error in the trace, though its node ended well.
    cache_hit = True if written.is_cached else None
    run.trace.describe_node(error=written.error, sot_point_status=written.status, sot_cache_hit=cache_hit)
    timing = {"index": index, **run.timing(start, written.first_text_at)}
    return {"expansions": [expansion], "usage": run.meter.as_update, "timings": {"points": [timing]}}


def _unmet_need(needed: list[Expansion]) -> WrittenText | None:
    """The outcome of a point that needs one which isn't `ok`: no model is asked for it."""
    for other in needed:
        if other["status"] != "ok":
            why = "was not finished in time" if other["status"] == "timed_out" else "could not be written"
            return WrittenText("", other["status"], f"it needs point {other['index']}, which {why}")
    return None


def _point_messages(
    basis: SectionBasis, payload: ExpandPointInput, grounds: Grounds | None, run: RunContext
) -> list[BaseMessage]:
    point_length = run.options.point_length
    if run.options.depth > 1:  # a point that needs more becomes points of that length, one level below
        point_length = f"{point_length}, or several points of {point_length} each where it needs more"
    return expansion_messages(
        run.parts.prompts,
        point=payload["point"],
        point_length=point_length,
        is_opened="opening" in FRAME_PARTS[basis.wanted_frame],
        needed=[without_its_citations(other) for other in payload.get("needed", ())],
        shared_documents=basis.inquiry.shown_documents,
        own_documents="" if grounds is None else grounds.own_text,
        **basis.prompt_parts,
    )


@dataclass(frozen=True, slots=True)
class NestedGraph:
    """An expander for sections with sub-sections: a graph of `create_sot_graph` that answers each point.

    Each point is a question of its own to it: the prompt that the model would get. Its answer is the point's text,
    streamed as any. Everything else is the nested graph's own: its heads, its points and how many, its router and its
    limits.
    """

    graph: PregelProtocol[Any, Any, Any, Any]
    is_nested_graph: ClassVar[bool] = True
    """`ExpanderSource` reads it. The graph's own model calls take places of the run. The point takes none: with
    `max_concurrency=1` its calls would wait for it."""

    async def __call__(self, given: ExpanderInput) -> AsyncIterator[Any]:
        """The text of a point, in reading order, and then what it cites.

        Raises:
            ExpanderError: A point of the nested answer is missing: this one isn't whole.
        """
        reader, result, rest, has_text = AnswerReader(), {}, "", False
        asked = {"messages": given["messages"]}
        run: Any = self.graph.astream(asked, context=_context_below(), stream_mode=["custom", "values"])
        async with aclosing(cancelled_once(run)) as parts:
            async for mode, part in parts:
                if mode == "values":
                    result = part
                elif is_sot_event(part):
                    text = reader.feed(part)
                    if reader.finished:
                        rest = text
                    elif text:
                        has_text = True
                        yield text
        sources = result["sources"]
        if not (has_text and sources):  # the last piece is its list of sources, and the outer answer lists them itself
            yield rest
        if sources:
            yield {"sources": sources}
        # An expander's calls are counted as they are made, but not priced.
        cost = {key: value for key, value in result["usage"].get("cost", {}).items() if key in {"total", "unpriced"}}
        if "total" in cost:
            cost["expansion"] = cost["total"]
        yield {"finish_reason": result["finish_reason"], "cost": cost}
        if failed := [point for point in result["expansions"] if point["status"] != "ok"]:
            message = f"its point {failed[0]['index']} is not whole: {failed[0]['error']}"
            raise ExpanderError(message)


def _context_below() -> Any:
    """The run's context without its `sot`, which is of the level above: options such as `frame` hold there alone."""
    context: Any = get_runtime().context
    if isinstance(context, Mapping):
        return {**context, "sot": {}}
    return context if getattr(context, "sot", None) is None else {"sot": {}}
