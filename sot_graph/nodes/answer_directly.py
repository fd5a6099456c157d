"""`answer_directly`: one ordinary call, where there is no skeleton."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sot_graph.citations import CitedText
from sot_graph.errors import SkeletonError, SotConfigError
from sot_graph.events import BREAKS_OFF, FRAME_SEPARATOR
from sot_graph.joiners import JoinedAnswer, frame_text, pointwise_or_default
from sot_graph.llm.call import BROKE_OFF, ModelCall
from sot_graph.llm.provider_errors import advice, explain, meaning_of
from sot_graph.llm.reply import WithheldReplyError
from sot_graph.nodes.announcements import announce_route
from sot_graph.nodes.join import finish_run, numbering_of
from sot_graph.nodes.question_input import history_of, inquiry_of
from sot_graph.prompts.messages import direct_messages
from sot_graph.retrieval.grounding import Grounds
from sot_graph.skeleton.answering_drafter import ANSWERED, AnsweringDrafter
from sot_graph.skeleton.drafter import Draft, Drafter
from sot_graph.state import SotState
from sot_graph.types import FinishReason, FramePart, Material, StageTiming
from sot_graph.usage import add_usage
from sot_graph.writing.cleaner import TextCleaner
from sot_graph.writing.writer import GrowingText, ModelSource, write_or_explain

if TYPE_CHECKING:
    from sot_graph.events import SotEvent
    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import Inquiry, RunContext
    from sot_graph.types import Usage

logger = logging.getLogger("sot_graph")


async def answer_directly(state: SotState, run: RunContext) -> Update:
    """Answer in one ordinary call. At the deadline, what has been streamed is the answer, marked as cut.

    Where an opening was sent before it turned out that there is no skeleton, the answer goes on after it.
    """
    run.trace.describe_node(stage="direct")
    written = await write_directly(
        inquiry_of(state, history_of(state), run),
        run,
        send=lambda text: run.emit({"type": "sot.answer.delta", "text": text}),
        opening=state.get("frame", {}).get("opening"),
    )
    used = run.meter.as_update
    usage = add_usage(state["usage"], used)
    update = finish_run(state, run, written.joined, written.finish_reason, usage, {"direct": written.timing})
    return {**update, "usage": used}


@dataclass(frozen=True, slots=True)
class DirectAnswer:
    """An ordinary answer."""

    joined: JoinedAnswer
    """Its text, and what that cites."""
    timing: StageTiming
    """When it was written."""
    finish_reason: FinishReason


async def write_directly(
    inquiry: Inquiry, run: RunContext, *, send: Callable[[str], None], opening: FramePart | None = None
) -> DirectAnswer:
    """Have an ordinary answer written, and once more if there is nothing in it. `send` takes the text as it comes.

    It goes on after the opening, where there is one.

    Raises:
        SkeletonError: The model could not answer, or with nothing, or nothing of it was there at the deadline.
        SotConfigError: The provider refused the key or the model's name.
    """
    parts = run.parts
    config = run.child_config(run_name="write answer", stage="direct")
    call = ModelCall(parts.model, "direct", run, config, parts.prompts.direct_settings)
    answer = _GrowingAnswer(run, inquiry.material, send, opening)
    growing = answer.growing
    messages = direct_messages(
        parts.prompts,
        question=inquiry.question,
        history=inquiry.history,
        documents=inquiry.shown_documents,
        opening="" if opening is None else opening["text"],
    )
    source = ModelSource(call, messages)
    why, end = None, ""
    try:
        async with asyncio.timeout(run.seconds_left(None)) as timer:
            why = await write_or_explain(source, growing, call)
    except Exception as error:
        if meaning_of(error) == "callers":
            message = f"The model refused the call: {explain(error)}.{advice(error)}"
            raise SotConfigError(message) from error
        is_late = isinstance(error, TimeoutError) and timer.expired()
        if not (growing.cleaner.text and (is_late or isinstance(error, WithheldReplyError))):
            reason = explain(error)
            if is_late:
                reason = f"it was not there at the deadline ({run.options.deadline:.3g} s){call.why_late}"
            what = BROKE_OFF if growing.cleaner.text else "There is no answer"
            message = f"{what}: {reason}.{'' if is_late else advice(error)}"
            raise SkeletonError(message) from error
        end = BREAKS_OFF
    if why:
        message = f"There is no answer: {why}."
        raise SkeletonError(message)
    return answer.finish(end)


class _GrowingAnswer:
    """A direct answer while it is being written: its citations are numbered as they are sent."""

    def __init__(
        self, run: RunContext, material: Material | None, send: Callable[[str], None], opening: FramePart | None = None
    ) -> None:
        self._run = run
        self._start = run.elapsed()
        self._numbering = numbering_of(run)
        self._opening = frame_text(run.parts.join, opening, self._numbering) if opening else ""
        self._cited = None if material is None else CitedText(self._numbering, Grounds(material, run).sources())
        self._send = send
        self._text = ""
        self.growing = GrowingText(
            TextCleaner,
            self._send_numbered,
            longest_delay=run.options.stream_max_delay,
            now=run.elapsed if run.stream else None,
        )

    def _send_numbered(self, text: str) -> None:
        """Send what can be read of it now."""
        ready = text if self._cited is None else self._cited.feed(text)
        self._text += ready
        if ready:
            self._send(ready)

    def finish(self, end: str) -> DirectAnswer:
        """The whole answer, with what stands at its end."""
        run, growing = self._run, self.growing
        if growing.truncated and not run.parts.prompts.trim_to_sentence:
            logger.warning(
                "The answer was cut off at a token limit. Raise the model's max_tokens (or that in "
                "SotPrompts.direct_settings)."
            )
        rest = ("" if self._cited is None else self._cited.finish()) + end
        self._text += rest
        if rest:
            self._send(rest)
        text = FRAME_SEPARATOR.join(filter(None, (self._opening, self._text)))
        text += self._numbering.listed(pointwise_or_default(run.parts.join).sources)
        joined = JoinedAnswer(text, self._numbering.sources, self._numbering.unsupported)
        timing = run.timing(self._start, growing.first_text_at)
        return DirectAnswer(joined, timing, "length" if growing.truncated else "stop")


class AnswerInDraft:
    """The answer that the drafting call writes where it sees that no skeleton fits (`DraftRouter`)."""

    def __init__(self, inquiry: Inquiry, run: RunContext, emit: Callable[[SotEvent], None] | None = None) -> None:
        self._inquiry = inquiry
        self._run = run
        self._emit = emit or run.emit
        self._drafter: AnsweringDrafter | None = None
        self._answer = _GrowingAnswer(
            run, inquiry.material, lambda text: self._emit({"type": "sot.answer.delta", "text": text})
        )
        self.has_begun = False
        """Whether the route has been told."""

    def drafter(self, **settings: Any) -> Drafter:
        """The run's drafter: one that may answer, where the draft decides."""
        if not self._run.parts.draft_decides:
            return Drafter(self._run, self._inquiry, **settings)
        self._drafter = AnsweringDrafter(self._run, self._inquiry, on_answer=self._write, **settings)
        return self._drafter

    def flush(self) -> None:
        """Send what waits: before a failure is told, for a timer would send it afterwards."""
        self._answer.growing.flush()

    def finish(self) -> DirectAnswer | None:
        """The answer, once the drafter has settled. `None`: there is a skeleton, or nothing."""
        if self._drafter is None or self._drafter.answer_end is None:
            return None
        growing, answer_end = self._answer.growing, self._drafter.answer_end
        growing.end(answer_end.ending)
        growing.flush()
        if not growing.cleaner.text:  # marks alone, such as "???": an ordinary call answers
            return None
        return self._answer.finish(BREAKS_OFF if answer_end.breaks_off else "")

    def _write(self, text: str) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._run.trace.describe_node(stage="direct")
            announce_route("direct", ANSWERED, self._emit)
        self._answer.growing.write(text)


def drafted_answer_update(begun: Mapping[str, Any], written: DirectAnswer, usage: Usage, run: RunContext) -> Update:
    """The whole update of a node whose draft became the answer: the run is over."""
    begun = {**begun, **Draft([], "", "").as_update(ANSWERED), "expansions": []}
    end = finish_run(begun, run, written.joined, written.finish_reason, usage, {"direct": written.timing})
    return {**begun, **end, "frame": {}, "usage": usage}
