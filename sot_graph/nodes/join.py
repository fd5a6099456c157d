"""`join`: puts the sections together; `finish_run`, the end of every way through the graph, and what a parent gets."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Overwrite

from sot_graph.citations import Numbering
from sot_graph.errors import ExpansionError
from sot_graph.joiners import JoinedAnswer, join_answer
from sot_graph.nodes.graph_node import describe_result
from sot_graph.options import FRAME_PARTS
from sot_graph.retrieval.retriever import FOUND_NOTHING
from sot_graph.run import QUESTION_ID_PREFIX
from sot_graph.state import SotState, current_expansions, merge_timings
from sot_graph.streaming.live_message import begin_live_message, mark_as_shown
from sot_graph.types import Expansion, FinishReason
from sot_graph.usage import usage_metadata

if TYPE_CHECKING:
    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import RunContext
    from sot_graph.types import Usage

logger = logging.getLogger("sot_graph")


async def join(state: SotState, run: RunContext) -> Update:
    """Put the points together, in the skeleton's order. Returns nothing while something is still to be written."""
    start = run.elapsed()
    expansions, frame = current_expansions(state), state.get("frame", {})
    if len(expansions) < len(state["skeleton"]):
        return {}
    on_point_failure = run.options.on_point_failure
    about = (run.parts.join, state["run_facts"]["question_text"], state["skeleton"])
    make_answer = partial(join_answer, *about, expansions, on_point_failure, frame=frame, numbering=numbering_of(run))
    failed = [expansion for expansion in expansions if expansion["status"] != "ok"]
    if failed and (error := _failure_of(failed, expansions, on_point_failure)) is not None:
        again = {expansion["index"] for expansion in failed} - run.invocation.tried
        if again and not run.invocation.begun_here:
            # Whoever resumes a run wants those points tried again that failed in it before.
            return {"expansions": Overwrite([each for each in expansions if each["index"] not in again])}
        if run.trace.is_watched:
            describe_result(state, run, has_answer=False)
        error.frame, error.usage = frame, state["usage"]
        if on_point_failure == "mark":
            error.answer = make_answer().text
            run.emit({"type": "sot.answer", "answer": error.answer})
        raise error
    parts = FRAME_PARTS[run.options.frame]
    if "conclusion" in parts and "conclusion" not in frame:
        return {}
    if late := [expansion for expansion in failed if expansion["status"] == "timed_out"]:
        which = ", ".join(str(expansion["index"]) for expansion in late)
        logger.warning("Points that are not whole: %s. The first: %s.", which, late[0]["error"])
    cut = {
        "expansion_settings": [f"point {expansion['index']}" for expansion in expansions if expansion.get("truncated")],
        "frame_settings": [f"the {name}" for name in parts if frame.get(name, {}).get("truncated")],
    }
    if any(cut.values()):
        _log_cuts(cut, run)
    joined = make_answer()
    finish_reason: FinishReason = "length" if any(cut.values()) else "stop"
    update = finish_run(state, run, joined, finish_reason, state["usage"], {"join": run.timing(start)})
    if len(expansions) < len(state["expansions"]):
        update["expansions"] = Overwrite(expansions)
    return update


def numbering_of(run: RunContext) -> Numbering:
    """Numbers the answer's sources as the run's options say."""
    return Numbering(run.options.citation_style, lists_all=run.options.sources == "all")


def _failure_of(
    failed: Sequence[Expansion], expansions: Sequence[Expansion], on_point_failure: str
) -> ExpansionError | None:
    """The error that the run ends in, for points that failed; `None`: it ends in an answer."""
    nothing_there = not any(expansion["text"] for expansion in failed) and len(failed) == len(expansions)
    if nothing_there and (on_point_failure == "skip" or all(point["status"] == "failed" for point in failed)):
        return ExpansionError(f"None of the {len(failed)} points could be written: {failed[0]['error']}.", expansions)
    if on_point_failure == "raise":
        which = ", ".join(f"{expansion['index']} ({expansion['error']})" for expansion in failed)
        message = f"Points that could not be written: {which}. All the others are in this error's `expansions`."
        return ExpansionError(message, expansions)
    return None


def _log_cuts(cut: Mapping[str, Sequence[str]], run: RunContext) -> None:
    """Log which texts ran into a token limit, by the settings that may hold it, in one line."""
    texts = ", ".join(chain.from_iterable(cut.values()))
    if run.parts.prompts.trim_to_sentence:  # its limits are tight on purpose, and nothing ends in half a sentence
        logger.info("Cut back to the last whole sentence before a token limit: %s.", texts)
        return
    logger.warning(
        "Cut off at a token limit: %s. Raise the model's max_tokens (or that in SotPrompts.%s), or ask for less with "
        "SotOptions.point_length.",
        texts,
        " and ".join(name for name, cut_texts in cut.items() if cut_texts),
    )


def finish_run(
    state: Mapping[str, Any],
    run: RunContext,
    joined: JoinedAnswer,
    finish_reason: FinishReason,
    usage: Usage,
    timings: dict[str, Any],
) -> Update:
    """The answer's message and the closing event. `usage` is the whole run's, `timings` are this node's."""
    answer = joined.text
    if run.listeners:
        begin_live_message(run, at_end=True)
    run.emit({"type": "sot.answer", "answer": answer})
    run.invocation.ended = True
    facts = state["run_facts"]
    detail = (state.get("material") or {}).get("detail")
    if detail == FOUND_NOTHING and any(not point.get("detail") for point in state.get("expansions", ())):
        detail = None  # nothing for the whole question, and yet something for a point
    message = AIMessage(
        answer,
        id=facts["answer_id"],
        name=run.parts.name,
        response_metadata={"finish_reason": finish_reason, **({"detail": detail} if detail else {})},
        usage_metadata=usage_metadata(usage),
    )
    question = [HumanMessage(facts["question_text"], id=facts["question_id"])] if facts["question_id"] else []
    if run.listeners:
        mark_as_shown(question, run)
    if run.invocation.live is not None:
        run.invocation.live.end(message)
    update: Update = {
        "answer": answer,
        "sources": joined.sources,
        "unsupported_citations": joined.unsupported,
        "finish_reason": finish_reason,
        # What a parent gave stands in its own state, and isn't kept here a second time.
        "messages": Overwrite([*question, message]) if run.is_transient else [*question, message],
        "timings": {**timings, "total": run.elapsed()},
    }
    if run.trace.is_watched:
        known = {key: state[key] for key in ("route", "route_reason", "skeleton", "expansions") if key in state}
        total = merge_timings(state.get("timings"), update["timings"])
        # Without the question's message: a trace that hides inputs may show outputs.
        describe_result({**update, **known, "messages": [message], "usage": usage, "timings": total}, run)
    return update


class EmbeddedResult(dict[str, Any]):
    """The graph's result, where the graph is called within a parent's node.

    If the graph is that node, LangGraph writes `items()` into the parent's state. These are two only: the new
    `messages`, and everything else under `sot`. With the other keys it would write into keys of the parent that have
    the same names and mean something else.

    If the node is a function that calls the graph, the function reads any key, such as `result["answer"]`.

    Args:
        result: The graph's result.
        is_lost: Whether the parent's state has neither key.
    """

    def __init__(self, result: Mapping[str, Any], *, is_lost: bool = False) -> None:
        messages = result.get("messages") or []
        is_asked_here = len(messages) > 1 and str(messages[-2].id).startswith(QUESTION_ID_PREFIX)
        new = messages[-2:] if is_asked_here else messages[-1:]
        super().__init__({**result, "messages": new if result.get("answer") else []})
        self._is_lost = is_lost

    def items(self) -> Any:
        """What LangGraph writes into the parent."""
        if self._is_lost:
            self._is_lost = False
            logger.warning(
                "The answer is lost: the parent's state has neither `messages` nor `sot`, all that a sot_graph node "
                "writes. Give it one of them, or call the graph in a function: "
                'return {"answer": graph.invoke({"question": ...})["answer"]}.'
            )
        return {"messages": self["messages"], "sot": self["sot"]}.items()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),), {"_is_lost": self._is_lost}

    def __missing__(self, key: str) -> Any:
        if key != "sot":
            raise KeyError(key)
        return {name: self[name] for name in self if name != "messages"}
