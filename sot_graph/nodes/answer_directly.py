"""`answer_directly`: one ordinary call, where there is no skeleton."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sot_graph.errors import SkeletonError, SotConfigError
from sot_graph.events import BREAKS_OFF
from sot_graph.joiners import frame_answer
from sot_graph.llm.call import ModelCall
from sot_graph.llm.provider_errors import explain, is_callers_to_fix
from sot_graph.llm.reply import WithheldReplyError
from sot_graph.nodes.join import finish_run
from sot_graph.nodes.question_input import history_of
from sot_graph.prompts.messages import direct_messages
from sot_graph.state import SotState
from sot_graph.types import ChatTurn, FinishReason, StageTiming
from sot_graph.usage import add_usage
from sot_graph.writing.cleaner import TextCleaner
from sot_graph.writing.model_source import ModelSource
from sot_graph.writing.writer import TextDraft, write_something

if TYPE_CHECKING:
    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import RunContext

logger = logging.getLogger("sot_graph")


async def answer_directly(state: SotState, run: RunContext) -> Update:
    """Answer in one ordinary call. At the deadline, what has been streamed is the answer, marked as cut.

    An opening that was told already, for points that couldn't be had, is its beginning.
    """
    run.trace.describe_node(stage="direct")
    frame = state.get("frame", {})
    written = await write_directly(
        state["asked"],
        history_of(state),
        run,
        send=lambda text: run.emit({"type": "sot.answer.delta", "text": text}),
        opening=frame["opening"]["text"] if "opening" in frame else "",
    )
    answer = frame_answer(run.graph.join, written.text, frame)
    usage = add_usage(state["usage"], run.meter.usage)
    update = finish_run(state, run, answer, written.finish_reason, usage, {"direct": written.timing})
    return {**update, "usage": run.meter.usage}


@dataclass(frozen=True, slots=True)
class DirectAnswer:
    """An ordinary answer."""

    text: str
    timing: StageTiming
    """When it was written."""
    finish_reason: FinishReason


async def write_directly(
    question: str, history: list[ChatTurn], run: RunContext, *, send: Callable[[str], None], opening: str = ""
) -> DirectAnswer:
    """Have an ordinary answer written, and once more if there is nothing in it.

    Args:
        question: The question.
        history: The conversation before it.
        run: The node's execution.
        send: Takes the text as it is written.
        opening: What stands before it already.

    Raises:
        SkeletonError: The model could not answer, or with nothing, or nothing of it was there at the deadline.
        SotConfigError: The provider refused the key or the model's name.
    """
    graph = run.graph
    config = run.child_config(run_name="write answer", stage="direct")
    call = ModelCall(graph.model, "direct", run, config, graph.prompts.direct_settings)
    timing = StageTiming(start=run.elapsed())
    draft = TextDraft(
        TextCleaner,
        send,
        longest_delay=run.options.stream_max_delay,
        now=run.elapsed if run.stream else None,
    )
    source = ModelSource(call, direct_messages(graph.prompts, question=question, history=history, opening=opening))
    nothing, end = None, ""
    try:
        async with asyncio.timeout(run.seconds_left(None)) as timer:
            nothing = await write_something(source, draft, call)
    except Exception as error:
        if is_callers_to_fix(error):
            message = f"The model refused the call: {explain(error)}. Check the key, the model's name and the base URL."
            raise SotConfigError(message) from error
        is_late = isinstance(error, TimeoutError) and timer.expired()
        if not (draft.cleaner.text and (is_late or isinstance(error, WithheldReplyError))):
            reason = f"it was not there at the deadline ({run.options.deadline:.3g} s)" if is_late else explain(error)
            message = f"There is no skeleton, and the direct answer failed too: {reason}."
            raise SkeletonError(message) from error
        end = BREAKS_OFF
    if nothing:
        message = f"There is no skeleton, and no direct answer either: {nothing}."
        raise SkeletonError(message)
    if draft.truncated and not graph.prompts.trim_to_sentence:
        logger.warning(
            "The answer was cut off at a token limit. Raise the model's max_tokens (or that in "
            "SotPrompts.direct_settings)."
        )
    if draft.first_text_at is not None:
        timing["first_token"] = draft.first_text_at
    timing["end"] = run.elapsed()
    return DirectAnswer(draft.cleaner.text + end, timing, "length" if draft.truncated else "stop")
