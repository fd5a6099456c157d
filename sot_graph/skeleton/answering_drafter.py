"""`AnsweringDrafter`: drafts a skeleton, or has the same call answer where the model sees that none fits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sot_graph.errors import SkeletonError, SotConfigError
from sot_graph.llm.call import BrokenStreamError, ModelCall
from sot_graph.llm.continuation import go_on
from sot_graph.llm.provider_errors import explain
from sot_graph.skeleton.draft_reply import DraftReader, SkeletonForm
from sot_graph.skeleton.drafter import Draft, Drafter, ParsedReply

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from sot_graph.llm.reply import Ending

DRAFT = "draft"
"""The format of a skeleton that may be an answer: numbered lines, or the answer's text."""
ANSWERED = "the model answered in the skeleton's place"
DRAFTED = "the model drafted a skeleton"
"""Reasons of the route."""
_WITHHELD = {"filtered": "the provider's filter withheld it", "refused": "the model declined"}


@dataclass(frozen=True, slots=True)
class AnswerEnd:
    """How the answer ends that a model has written in the skeleton's place."""

    ending: Ending | None
    breaks_off: bool = False
    """Whether the deadline ended it, or a filter."""


class _AnsweredError(Exception):
    """The model has answered: there is nothing more to ask for."""


class AnsweringDrafter(Drafter):
    """A `Drafter` whose first call is the answer where no skeleton fits.

    Args:
        *given: As a `Drafter`'s.
        on_answer: Gets the answer's text, as it comes where replies are streamed. What is sent is never taken back.
        **settings: As a `Drafter`'s.

    Attributes:
        answer: Once the model has answered: how the answer ends.
    """

    def __init__(self, *given: Any, on_answer: Callable[[str], None], **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.answer: AnswerEnd | None = None
        self._on_answer = on_answer
        self._reading: DraftReader | None = None
        self._first_format = DRAFT

    @property
    def formats(self) -> list[str]:
        """The draft, and then as a `Drafter`, which takes no answers."""
        return [DRAFT, *super().formats]

    @property
    def _is_answer(self) -> bool:
        return self._reading is not None and self._reading.is_answer

    async def settle(self) -> tuple[Draft, str]:
        """As a `Drafter`. An answer leaves the skeleton empty; `answer` says how it ends.

        Raises:
            SkeletonError: Also where an answer broke off, and could not be continued.
        """
        draft, reason = await super().settle()
        if self.answer is not None:
            return draft, ANSWERED
        return draft, DRAFTED if draft.points and self._reading is not None else reason

    async def draft(self) -> Draft:
        """As a `Drafter`; an answer is an empty draft."""
        try:
            return await super().draft()
        except _AnsweredError:
            pass
        except SkeletonError:
            if not (self._is_answer and self._timer is not None and self._timer.expired()):
                raise
            self.answer = AnswerEnd("stop", breaks_off=True)
        return Draft([], "", DRAFT)

    async def _ask_in_format(self, skeleton_format: str) -> Draft:
        if skeleton_format != DRAFT:
            return await super()._ask_in_format(skeleton_format)
        run, prompts = self._run, self._run.graph.prompts
        config = run.child_config(run_name="draft or answer", stage="skeleton")
        # What it costs is counted as an answer's, until it is known to be something else.
        call = ModelCall(run.graph.skeleton_model, "direct", run, config, prompts.direct_settings)
        try:
            return await self._ask_until_enough(call, DRAFT, 0 if self._early is None else run.options.max_reasks)
        finally:
            if not self._is_answer:
                run.meter.move("direct", "skeleton")

    async def _ask(self, call: ModelCall, skeleton_format: str, messages: list[BaseMessage]) -> ParsedReply:
        try:
            parsed = await super()._ask(call, skeleton_format, messages)
        except Exception as error:
            if not self._is_answer or isinstance(error, (SotConfigError, TimeoutError)):
                raise
            message = (
                f"The answer broke off, and the model could not go on with it: {explain(error.__cause__ or error)}."
            )
            raise SkeletonError(message) from error
        if self.answer is not None:
            raise _AnsweredError
        return parsed

    async def _read_reply(
        self,
        call: ModelCall,
        skeleton_format: str,
        messages: list[BaseMessage],
        prefill: str,
        on_text: Callable[[str], None] | None,
    ) -> ParsedReply:
        if skeleton_format != DRAFT or (self._early is not None and self._early.points):
            own_format = "list" if skeleton_format == DRAFT else skeleton_format  # the rest of a draft is no answer
            return await super()._read_reply(call, own_format, messages, prefill, on_text)
        self._shared.mark(DRAFT, self._shared.mode)
        form = SkeletonForm(self._fewest, self._most)
        on_titles, on_glimpse = (None, on_text) if self._early is None else (on_text, None)
        reading = self._reading = DraftReader(form, self._pass_on, on_titles, on_glimpse)
        is_streamed = self._run.stream or on_text is not None
        try:
            reply = await call.ask(messages, on_text=reading.feed if is_streamed else None)
            text = reply.text
        except BrokenStreamError as error:
            if not reading.is_answer:
                raise
            text, reply = await go_on(call, messages, error)
            self._on_answer(text)
        titles = reading.end(text, was_cut_off=reply.is_half)
        if reading.is_answer:
            self.answer = AnswerEnd(reply.ending, breaks_off=reply.was_withheld)
            return ParsedReply([], text)
        if reply.was_withheld:
            message = f"There is no skeleton, and no answer either: {_WITHHELD[reply.ending or 'refused']}."
            raise SkeletonError(message)
        if not text.strip():
            reason = "the tokens ran out before the first word" if reply.was_cut_off else "the model wrote nothing"
            return ParsedReply([], text, "invalid", reason)
        return ParsedReply(titles, text, "cut" if reply.is_half else "whole")

    def _pass_on(self, text: str) -> None:
        """Hand the answer on. The skeleton's own limit of time doesn't hold for an answer, but the deadline does."""
        if self._timer is not None and not self._timer.expired():
            left = self._run.seconds_left(None)
            self._timer.reschedule(None if left is None else asyncio.get_running_loop().time() + left)
        self._on_answer(text)
