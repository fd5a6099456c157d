"""`AnsweringDrafter`: drafts a skeleton, or has the same call answer where the model sees that none fits.

A `DraftReader` tells which of the two a reply is, while it is written: no token is paid only to decide. The graph's
draft (`DraftRouter`) and an agent's model (`SkeletonOfThoughtMiddleware`) are told the same, and what they reply is
read by the same code.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sot_graph.errors import SkeletonError, SotConfigError
from sot_graph.llm.call import BROKE_OFF, BrokenStreamError, ModelCall, go_on
from sot_graph.llm.provider_errors import explain
from sot_graph.llm.reply import WHOLE, WHY_WITHHELD
from sot_graph.skeleton.drafter import Draft, Drafter, ParsedReply
from sot_graph.skeleton.parser import item_title, parse_skeleton
from sot_graph.skeleton.points import clean_titles

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from sot_graph.llm.reply import Ending
    from sot_graph.types import SkeletonFormat

DRAFT: Literal["draft"] = "draft"
ANSWERED = "the model answered in the skeleton's place"
DRAFTED = "the model drafted a skeleton"
"""Reasons of the route."""

_LONGEST_TITLE = 100
_AROUND = 120
"""Characters that may stand around the titles: "Here is the skeleton:"."""
_LONGEST_LEAD_IN = 80
"""Of these, how many may stand on the line before the first title."""
_NUMBERING = 8
"""Characters of a number, marks and a line's end."""
_GROWTH_TO_LOOK_AGAIN = 1.1
"""How much longer a reply is before it is parsed again as a whole: so that all the times together stay linear."""

_PROSE = re.compile(r"(?:\S+\s+){3,}\S*[.!?][\"')\]]*\s+\S|\S{6,}[。！？]\s*\S")  # noqa: RUF001
"""A sentence of four words and the beginning of another. Titles and what leads in to them have none."""
_LEADS_IN = re.compile(r".*[:：]\W*$|\W*\w+(?:\s+\w+){0,2}[^\w,;]*$|#|```|\W*$")  # noqa: RUF001
"""A line before the titles: with a colon, of three words at most, a heading, a fence."""
_FENCE = re.compile(r"```(?!$|\s|js?o?n?$|json|te?x?t?$|text|ma?r?k?d?o?w?n?$|markdown|md|plain)", re.IGNORECASE)
"""The fence of code in some language: a skeleton has none. `js` at the end may still become `json`."""
_MARKUP = r"[\s#>*_`~(\[]*"
_NUMBER = re.compile(rf"{_MARKUP}(?:(?:point|step)\s+)?(\d+)\s*[.)\]:]\s", re.IGNORECASE)
_JSON = ("{", "[")
_JSON_STARTS = ('{"points"', '{"skeleton"', '{"titles"', '["', '[{"')


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

    `on_answer` gets the answer's text, as it comes where replies are streamed. What is sent is never taken back.

    Attributes:
        answer_end: Once the model has answered: how the answer ends.
    """

    def __init__(self, *given: Any, on_answer: Callable[[str], None], **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.answer_end: AnswerEnd | None = None
        self._on_answer = on_answer
        self._reader: DraftReader | None = None
        """Reads the reply that may be an answer; `None`: no such reply has been asked for yet."""
        self._keyed_format = DRAFT
        self._formats.insert(0, DRAFT)  # and then as a `Drafter`, which takes no answers

    @property
    def _is_answer(self) -> bool:
        return self._reader is not None and self._reader.is_answer

    async def settle(self) -> tuple[Draft, str]:
        """As a `Drafter`. An answer leaves the skeleton empty; `answer_end` says how it ends.

        Raises:
            SkeletonError: Also where an answer broke off, and could not be continued.
        """
        try:
            draft, reason = await super().settle()
        except _AnsweredError:
            return Draft([], "", DRAFT), ANSWERED
        except SkeletonError:
            if not (self._is_answer and self._timer is not None and self._timer.expired()):
                raise
            self.answer_end = AnswerEnd("stop", breaks_off=True)
            return Draft([], "", DRAFT), ANSWERED
        return draft, DRAFTED if draft.points and self._reader is not None else reason

    async def _ask_in_format(self, skeleton_format: SkeletonFormat) -> Draft:
        if skeleton_format != DRAFT:
            return await super()._ask_in_format(skeleton_format)
        run, prompts = self._run, self._run.parts.prompts
        config = run.child_config(run_name="draft or answer", stage="skeleton")
        # What it costs is counted as an answer's, until it is known to be something else.
        call = ModelCall(run.parts.skeleton_model, "direct", run, config, prompts.direct_settings)
        # What isn't given out early and got here was cut or empty: the skeleton's own prompt is the next try.
        try:
            return await self._ask_until_enough(call, DRAFT, 0 if self._early is None else run.options.max_reasks)
        finally:
            if not self._is_answer:
                run.meter.move("direct", "skeleton")

    async def _ask(self, call: ModelCall, skeleton_format: SkeletonFormat, messages: list[BaseMessage]) -> ParsedReply:
        try:
            parsed = await super()._ask(call, skeleton_format, messages)
        except Exception as error:
            if not self._is_answer or isinstance(error, (SotConfigError, TimeoutError)):
                raise
            message = f"{BROKE_OFF}: {explain(error.__cause__ or error)}."
            raise SkeletonError(message) from error
        if self.answer_end is not None:
            raise _AnsweredError
        return parsed

    async def _read_reply(
        self,
        call: ModelCall,
        skeleton_format: SkeletonFormat,
        messages: list[BaseMessage],
        prefill: str,
        on_text: Callable[[str], None] | None,
    ) -> ParsedReply:
        if skeleton_format != DRAFT or (self._early is not None and self._early.points):
            own_format = "list" if skeleton_format == DRAFT else skeleton_format  # the rest of a draft is no answer
            return await super()._read_reply(call, own_format, messages, prefill, on_text)
        is_marked = self._run.options.prompt_cache == "auto"
        self._run.invocation.last_shared = self._request(DRAFT).last_shared if is_marked else None
        form = SkeletonForm(self._fewest, self._most)
        reading = self._reader = DraftReader(form, self._pass_on, on_text, begins_early=self._early is not None)
        is_streamed = self._run.stream or on_text is not None
        try:
            reply = await call.ask(messages, on_text=reading.feed if is_streamed else None)
            text = reply.text
        except BrokenStreamError as error:
            if not reading.is_answer:
                raise
            text, reply = await go_on(call, messages, error)
            self._on_answer(text)
        titles = reading.end(text, is_half=reply.ending not in WHOLE)
        if reading.is_answer:
            self.answer_end = AnswerEnd(reply.ending, breaks_off=reply.ending in WHY_WITHHELD)
            return ParsedReply([], text)
        if reply.ending in WHY_WITHHELD:
            message = f"There is no skeleton, and no answer either: {WHY_WITHHELD[reply.ending]}."
            raise SkeletonError(message)
        if not text.strip():
            reason = (
                "the tokens ran out before the first word" if reply.ending == "length" else "the model wrote nothing"
            )
            return ParsedReply([], text, "spoilt", reason)
        return ParsedReply(titles, text, "whole" if reply.ending in WHOLE else "spoilt")

    def _pass_on(self, text: str) -> None:
        """Hand the answer on. The skeleton's own limit of time doesn't hold for an answer, but the deadline does."""
        if self._timer is not None and not self._timer.expired():
            left = self._run.seconds_left(None)
            self._timer.reschedule(None if left is None else asyncio.get_running_loop().time() + left)
        self._on_answer(text)


@dataclass(slots=True)
class DraftLines:
    """What the lines of a reply came to, so that no piece of it has to be read twice."""

    start: str = ""
    """The beginning of the reply, or of the JSON in it."""
    last: str = ""
    """The line that isn't whole yet."""
    chars: int = 0
    items: int = 0
    around: int = 0
    """Characters on whole lines that are no items, and, in `around_last`, those of the last line, too."""
    around_last: int = 0
    is_json: bool = False

    def take(self, line: str, *, is_whole: bool) -> bool:
        """Take the next line, or what there is of the last. `False`: no skeleton has such a line there."""
        title, around = item_title(line), self.around
        if title is not None:
            may_stand = _may_be_title(title) and (self.items > 0 or _may_be_first(line))
        else:
            may_stand = self.items > 0 or not line.strip() or _may_lead_in(line, is_whole=is_whole)
            around += len(line) if line.strip() else 0
        if is_whole:
            self.around, self.items = around, self.items + (title is not None)
        self.around_last = around
        return may_stand


@dataclass(frozen=True, slots=True)
class SkeletonForm:
    """Tells whether a reply is, or may become, a skeleton of `fewest` to `most` points."""

    fewest: int
    most: int

    def may_become(self, piece: str, lines: DraftLines | None = None) -> bool:
        """Whether what there is of a reply may yet become a skeleton. Until then nothing of it can be shown.

        Args:
            piece: The reply so far, or its next piece.
            lines: What has been read of it before. The piece is added to it, so ask once a piece. `None`: nothing.
        """
        lines = lines or DraftLines()
        piece = piece if lines.chars else piece.lstrip()
        lines.chars += len(piece)
        lines.start = f"{lines.start}{piece[:_LONGEST_LEAD_IN]}"[:_LONGEST_LEAD_IN]
        if lines.chars > self.most * (_LONGEST_TITLE + _NUMBERING) + _AROUND:
            return False
        if lines.is_json or _FENCE.match(lines.start):
            return lines.is_json and _may_be_json(lines.start)
        *whole, lines.last = (lines.last + piece).split("\n")
        for place, line in enumerate([*whole, lines.last]):
            if not lines.items and item_title(line) is None and line.lstrip()[:1] in _JSON:
                lines.is_json, lines.start = True, "\n".join([*whole[place:], lines.last])[:_LONGEST_LEAD_IN]
                return _may_be_json(lines.start)
            if not lines.take(line, is_whole=place < len(whole)):
                return False
        # The numbers and marks of the titles that are still to come are allowed for.
        return lines.around_last <= _AROUND + self.most * _NUMBERING

    def titles_in(self, text: str, *, is_half: bool = False) -> list[str] | None:
        """The raw titles of a reply that is a skeleton; none of them where it was cut off too soon to be of use.

        `None`: it is an answer. What stands last in half a reply may be half a title.
        """
        raw = parse_skeleton(text)
        if not (raw and self.may_become(text) and _are_nearly_all(raw, text)):
            return None
        if is_half:
            raw = parse_skeleton(text.rpartition("\n")[0])
        if len(clean_titles(raw)) < self.fewest:
            return [] if is_half else None
        return raw


def _may_be_title(title: str) -> bool:
    return len(title) <= _LONGEST_TITLE and _PROSE.search(title) is None


def _may_be_first(line: str) -> bool:
    """Whether a list may begin with this item: "3. Oktober 1990" is a date."""
    number = _NUMBER.match(line)
    return number is None or int(number[1][:4]) in (0, 1)


def _may_lead_in(line: str, *, is_whole: bool) -> bool:
    """Whether a line may stand before the first title, or become the first."""
    if len(line) > _LONGEST_LEAD_IN or _PROSE.search(line):
        return False
    return not is_whole or _LEADS_IN.match(line) is not None


def _may_be_json(text: str) -> bool:
    """Whether JSON that begins so may be a skeleton's. It is read once it is whole."""
    start = re.sub(r"\s+", "", text[:_LONGEST_LEAD_IN])
    return any(start.startswith(known) or known.startswith(start) for known in _JSON_STARTS)


def _are_nearly_all(raw: Sequence[str], text: str) -> bool:
    """Whether these, the items of a text, are short enough for titles, and nearly all that it holds."""
    around = len(text.strip()) - sum(len(item) + _NUMBERING for item in raw)
    return around <= _AROUND and all(len(item) <= _LONGEST_TITLE for item in raw)


@dataclass(slots=True)
class DraftReader:
    """Reads a reply piece by piece: holds it back as long as it may be a skeleton, and hands it on.

    Where points are begun early, `on_text` gets nothing before they count. Else it gets each piece as it comes.
    """

    form: SkeletonForm
    on_answer: Callable[[str], None]
    """Gets the text once it is an answer: what was held back, then each piece."""
    on_text: Callable[[str], None] | None = None
    """Gets the text as long as it may be a skeleton."""
    _: KW_ONLY
    begins_early: bool = False
    """Whether `on_text` begins points, which stay: it gets the text once that is a skeleton for certain."""
    is_answer: bool = False
    _held: list[str] = field(default_factory=list)
    _looked_at: int = 0
    """Characters that the reply had when it was last parsed."""
    _lines: DraftLines = field(default_factory=DraftLines)
    _is_skeleton: bool = False

    def feed(self, piece: str) -> None:
        """Take the next piece."""
        if self.is_answer:
            self.on_answer(piece)
            return
        if self._is_skeleton and self.on_text is not None:
            self.on_text(piece)
            return
        self._held.append(piece)
        if not self.form.may_become(piece, self._lines):
            self._answer()
        elif self.on_text is None:
            return
        elif not self.begins_early:
            self.on_text(piece)
        elif "\n" in piece and self._may_have_enough():
            # The points of a skeleton that is not whole yet stay: as soon as there are enough for one, it is one.
            held = "".join(self._held)
            self._looked_at = len(held)
            self._is_skeleton = len(self.form.titles_in(held.rpartition("\n")[0]) or ()) >= self.form.fewest
            if self._is_skeleton:
                self.on_text(held)

    def end(self, text: str, *, is_half: bool) -> list[str]:
        """The reply is whole: the raw titles of a skeleton, few where it was cut off. Of an answer, none."""
        if self.is_answer:
            return []
        if self._is_skeleton:
            return parse_skeleton(text.rpartition("\n")[0] if is_half else text)
        titles = self.form.titles_in(text, is_half=is_half)
        if titles is None and text.strip():
            self._held = [text]
            self._answer()
        return titles or []

    def _may_have_enough(self) -> bool:
        lines = self._lines
        is_long_enough = lines.is_json or lines.items >= self.form.fewest
        return is_long_enough and lines.chars >= _GROWTH_TO_LOOK_AGAIN * self._looked_at

    def _answer(self) -> None:
        self.is_answer = True
        self.on_answer("".join(self._held))
