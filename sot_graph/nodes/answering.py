"""The two ends of a run: `join`, and `answer_directly` where there is no skeleton."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Overwrite

from sot_graph.errors import ExpansionError, SkeletonError, SotConfigError
from sot_graph.expansion import TextCleaner, TextWriter, write_something
from sot_graph.joiners import frame_answer, join_answer, joint_sources
from sot_graph.models import ModelCall, explain, is_callers_to_fix
from sot_graph.nodes.describing import describe_answer, describe_figures
from sot_graph.options import frame_parts
from sot_graph.prompts.rendering import direct_messages
from sot_graph.state import SotState, add_usage, merge_timings
from sot_graph.types import ChatTurn, Expansion, FinishReason, StageTiming
from sot_graph.usage import usage_metadata

if TYPE_CHECKING:
    from sot_graph.nodes.kit import Kit, Update
    from sot_graph.runs import Task
    from sot_graph.types import Frame, Usage

__all__ = ["BREAKS_OFF", "DirectAnswer", "answer_directly", "answered", "join", "write_directly"]

logger = logging.getLogger("sot_graph")

BREAKS_OFF = " … *(The answer breaks off here.)*"


async def join(state: SotState, task: Task, kit: Kit) -> Update:
    """Put the points together, in the skeleton's order. While something is still to be written, nothing."""
    start = task.shared.elapsed()
    expansions = state["expansions"]
    if len(expansions) < len(state["skeleton"]):
        return {}
    frame = state.get("frame", {})
    try:
        _raise_if_wanted(expansions, task.options.on_point_failure)
    except ExpansionError as error:
        if another := _left_by_an_earlier_invocation(expansions, task):
            kept = [expansion for expansion in expansions if expansion["index"] not in another]
            return {"expansions": Overwrite(kept)}
        describe_figures(state, task)
        error.usage = state["usage"]
        if task.options.on_point_failure == "mark":
            points = join_answer(kit.join, state["asked"], state["skeleton"], expansions, "mark")
            error.answer = frame_answer(kit.join, points, frame)
            task.emit({"type": "sot.answer", "answer": error.answer})
        raise
    if "conclusion" in frame_parts(kit.options.frame) and "conclusion" not in frame:
        return {}
    cut = _cut_texts(expansions, frame, kit)
    _tell_of_cuts(cut, kit)
    points = join_answer(kit.join, state["asked"], state["skeleton"], expansions, task.options.on_point_failure)
    answer = frame_answer(kit.join, points, frame)
    sources = joint_sources(expansions, task.options.on_point_failure)
    timing = StageTiming(start=start, end=task.shared.elapsed())
    finish_reason: FinishReason = "length" if cut else "stop"
    return {**answered(state, task, answer, finish_reason, state["usage"], {"join": timing}), "sources": sources}


def _left_by_an_earlier_invocation(expansions: Sequence[Expansion], task: Task) -> set[int]:
    """Points that failed before the run was resumed: somebody who goes on with a run wants them tried again."""
    failed = {expansion["index"] for expansion in expansions if expansion["status"] != "ok"}
    return set() if task.shared.begun_here else failed - task.shared.tried


def _raise_if_wanted(expansions: Sequence[Expansion], on_point_failure: str) -> None:
    failed = [expansion for expansion in expansions if expansion["status"] != "ok"]
    if not failed:
        return
    nothing_there = not any(expansion["text"] for expansion in failed) and len(failed) == len(expansions)
    if nothing_there and (on_point_failure == "skip" or all(point["status"] == "failed" for point in failed)):
        message = f"None of the {len(failed)} points could be written: {failed[0]['error']}."
        raise ExpansionError(message, expansions)
    if on_point_failure == "raise":
        which = ", ".join(f"{expansion['index']} ({expansion['error']})" for expansion in failed)
        message = f"Points that could not be written: {which}. All the others are in this error's `expansions`."
        raise ExpansionError(message, expansions)


def _cut_texts(expansions: Sequence[Expansion], frame: Frame, kit: Kit) -> list[str]:
    """Which texts ran into a token limit."""
    cut = [f"point {expansion['index']}" for expansion in expansions if expansion.get("truncated")]
    return cut + [f"the {name}" for name in frame_parts(kit.options.frame) if frame.get(name, {}).get("truncated")]


def _tell_of_cuts(cut: Sequence[str], kit: Kit) -> None:
    """Tell the log of them, in one line."""
    if not cut:
        return
    if kit.prompts.trim_to_sentence:  # the profile's limits are tight on purpose, and nothing ends in half a sentence
        logger.info("Cut back to the last whole sentence before a token limit: %s.", ", ".join(cut))
        return
    logger.warning(
        "Cut off at a token limit: %s. Raise the model's max_tokens (or that in SotPrompts.%s), or ask for less with "
        "SotOptions.point_length.",
        ", ".join(cut),
        "frame_settings" if cut[0].startswith("the") else "expansion_settings",
    )


async def answer_directly(state: SotState, task: Task, kit: Kit) -> Update:
    """Answer in one ordinary call. At the deadline, what has been streamed is the answer, marked as cut."""
    task.trace.describe_node(stage="direct")
    written = await write_directly(
        state["asked"],
        state["history"],
        task,
        kit,
        send=lambda text: task.emit({"type": "sot.answer.delta", "text": text}),
    )
    usage = add_usage(state["usage"], task.meter.usage)
    update = answered(state, task, written.text, written.finish_reason, usage, {"direct": written.timing})
    return {**update, "usage": task.meter.usage}


@dataclass(frozen=True, slots=True)
class DirectAnswer:
    """An ordinary answer."""

    text: str
    timing: StageTiming
    """When it was written."""
    finish_reason: FinishReason


async def write_directly(
    question: str, history: list[ChatTurn], task: Task, kit: Kit, *, send: Callable[[str], None]
) -> DirectAnswer:
    """Have an ordinary answer written, and once more if there is nothing in it.

    Args:
        question: The question.
        history: The conversation before it.
        task: The node's execution.
        kit: What the graph works with.
        send: Takes the text as it is written.

    Raises:
        SkeletonError: The model could not answer, or with nothing, or nothing of it was there at the deadline.
        SotConfigError: The provider refused the key or the model's name.
    """
    config = task.child_config(run_name="write answer", stage="direct")
    call = ModelCall(kit.model, "direct", task, config, kit.prompts.direct_settings)
    timing = StageTiming(start=task.shared.elapsed())

    def note_and_send(text: str) -> None:
        if task.stream:
            timing.setdefault("first_token", task.shared.elapsed())
        send(text)

    writer = TextWriter(
        call,
        direct_messages(kit.prompts, question=question, history=history),
        make_cleaner=TextCleaner,
        send=note_and_send,
    )
    nothing = ""
    try:
        async with asyncio.timeout(task.seconds_left(None)) as timer:
            nothing = await write_something(writer, call)
        answer = writer.text
        if writer.truncated and not (nothing or kit.prompts.trim_to_sentence):
            logger.warning(
                "The answer was cut off at a token limit. Raise the model's max_tokens (or that in "
                "SotPrompts.direct_settings)."
            )
    except Exception as error:
        if is_callers_to_fix(error):
            message = f"The model refused the call: {explain(error)}. Check the key, the model's name and the base URL."
            raise SotConfigError(message) from error
        is_late = isinstance(error, TimeoutError) and timer.expired()
        if not (is_late and writer.text):
            reason = f"it was not there at the deadline ({task.options.deadline:.3g} s)" if is_late else explain(error)
            message = f"There is no skeleton, and the direct answer failed too: {reason}."
            raise SkeletonError(message) from error
        answer = writer.text + BREAKS_OFF
    if nothing:
        message = f"There is no skeleton, and no direct answer either: {nothing}."
        raise SkeletonError(message)
    timing["end"] = task.shared.elapsed()
    return DirectAnswer(answer, timing, "length" if writer.truncated else "stop")


def answered(
    state: Mapping[str, Any],
    task: Task,
    answer: str,
    finish_reason: FinishReason,
    usage: Usage,
    timings: dict[str, Any],
) -> Update:
    """The end of every way through the graph."""
    task.emit({"type": "sot.answer", "answer": answer})
    task.ended = True
    message = AIMessage(
        answer,
        id=state["answer_id"],
        response_metadata={"finish_reason": finish_reason},
        usage_metadata=usage_metadata(usage),
    )
    asked = [HumanMessage(state["asked"], id=state["question_id"])] if state["question_id"] else []
    update: Update = {
        "answer": answer,
        "finish_reason": finish_reason,
        "messages": [*asked, message],
        "timings": {**timings, "total": task.shared.elapsed()},
    }
    shown = {key: state[key] for key in ("route", "route_reason", "skeleton", "expansions") if key in state}
    total = merge_timings(state.get("timings"), update["timings"])
    describe_answer({**update, **shown, "usage": usage, "timings": total}, task)
    return update
