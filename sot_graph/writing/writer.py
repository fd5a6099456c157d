"""`write_text`: the one way to write a section, whatever it is and whoever writes it.

A source reads pieces from a model (`ModelSource`) or an expander. A `GrowingText` cleans and sends them. What becomes
of the text is in the `WrittenText`: nothing that a model does is raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sot_graph.llm.call import BrokenStreamError, ModelCall, Prompt, go_on
from sot_graph.llm.provider_errors import explain
from sot_graph.llm.reply import WHY_WITHHELD, WithheldReplyError
from sot_graph.llm.retry_policy import RetryPolicy
from sot_graph.state import marks_of
from sot_graph.writing.expander import ExpanderError, ExpanderSource

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from sot_graph.cache import ResultCache
    from sot_graph.events import SotEvent
    from sot_graph.llm.reply import Ending
    from sot_graph.options import SotOptions
    from sot_graph.retrieval.grounding import Grounds
    from sot_graph.run import RunContext
    from sot_graph.types import ExpansionStatus, Source, Stage, WrittenSection
    from sot_graph.writing.cleaner import TextCleaner
    from sot_graph.writing.expander import ExpanderInput

logger = logging.getLogger("sot_graph")

_TRIES_FOR_A_TEXT = 2
_LEAST_SHARE = 1 / 500
"""A piece is at least this part of what was sent before it: so 200,000 characters are 3,500 pieces at most."""
_STALLED_AFTER = 1.0
"""Seconds that a smaller piece waits at most, for no more of it may come."""
_WHY_NOTHING = {
    "length": ": its tokens ran out before the first word (thinking takes some, too)",
    **{ending: f": {why}" for ending, why in WHY_WITHHELD.items()},
}
_ONLY_THOUGHTS = ": it was empty, or its tokens went into thoughts (then turn its thinking off)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Whatever is written in one go: a point, opening, introduction or conclusion. They differ in this data only."""

    label: str
    """For the log, such as `"Point 3"`."""
    stage: Stage
    call_name: str
    """The name of its model calls in a trace."""
    metadata: Mapping[str, Any]
    """What these calls can be filtered by."""
    settings: Mapping[str, Any]
    """Keyword arguments of these calls."""
    messages: Callable[[], list[BaseMessage]]
    """Makes the prompt. Thousands of sections may wait for their turn, each without one."""
    make_cleaner: Callable[[], TextCleaner]
    start_event: Callable[[int], Any]
    """Makes the event of an attempt's beginning from its number, from 1."""
    delta_event: Callable[[str], SotEvent]
    cached_as: tuple[str, Mapping[str, Any]]
    """Its kind in the cache, and what decides the text beside the prompt and the model."""
    grounds: Grounds | None = None
    """The documents that it rests on; `None`: it rests on none. The start's event tells what its text may cite."""
    prepare: Callable[[], Awaitable[None]] | None = None
    """Finds what the prompt is made from, within the section's time."""
    expander_input: ExpanderInput | None = None
    """Where an expander writes it: what that gets, but for the messages."""


@dataclass(slots=True)
class WrittenText:
    """What became of a section."""

    text: str
    """What was sent, cleaned. Of a text that is not `ok`: what there is of it, often nothing."""
    status: ExpansionStatus = "ok"
    error: str | None = None
    """Why it is not `ok`, in one line."""
    truncated: bool = False
    """Whether the model ran into a token limit."""
    sources: list[Source] = field(default_factory=list)
    first_text_at: float | None = None
    """In seconds from the run's start; `None` where nothing was streamed."""
    is_cached: bool = False

    def as_section(self, grounds: Grounds | None) -> WrittenSection:
        """As the state keeps it, with what it cites. Sources of an expander's own go before documents."""
        sources = self.sources or (None if grounds is None else grounds.cited_in(self.text))
        detail = "" if grounds is None else grounds.detail
        marks = marks_of({"truncated": self.truncated, "sources": sources, "detail": detail})
        return {"text": self.text, "status": self.status, "error": self.error, **marks}


@dataclass(slots=True)
class ModelSource:
    """Has a model write a text."""

    call: ModelCall
    """How to call the model."""
    messages: Prompt
    """The prompt, or what makes it."""
    is_silent: bool = False
    """Whether the last reply had not a character of text."""
    who: ClassVar[str] = "the model"

    async def write(self, growing: GrowingText) -> None:
        """Write the text. A reply from which nothing was sent is asked for again; another is continued from its text.

        Raises:
            WithheldReplyError: A filter, or the model itself, ended it. What there is of it stays in the text.
            Exception: Trying again and going on are used up.
        """
        call, stream = self.call, self.call.run.stream
        retries = RetryPolicy(call.run.options)
        while True:
            try:
                reply = await call.ask(
                    self.messages, on_text=growing.write if stream else None, on_attempt=growing.on_attempt
                )
                text = "" if stream else reply.text
                break
            except BrokenStreamError as error:
                if growing.cleaner.text:
                    text, reply = await go_on(call, self.messages, error, on_attempt=growing.on_attempt)
                    break
                wait = retries.wait_after(error.__cause__ or error, broke_off=True)
                if wait is None:
                    raise
            await asyncio.sleep(wait)
            growing.restart()
        if text:
            growing.write(text)
        self.is_silent = not reply.text
        growing.end(reply.ending)
        if reply.ending in WHY_WITHHELD and growing.cleaner.says_something:
            raise WithheldReplyError(reply.ending)


TextSource: TypeAlias = ModelSource | ExpanderSource
"""Writes a text: `write` does, and `who` names it for messages. The `GrowingText` keeps what was sent, also where
`write` raises."""


async def write_text(section: Section, run: RunContext) -> WrittenText:
    """Have a section written within `point_timeout` and what is left until the deadline; nothing is raised.

    A good text comes from the cache, or goes there. An expander's texts are not kept, since they may
    differ from call to call.
    """
    parts, expander_input = run.parts, section.expander_input
    cache, key = parts.cache if expander_input is None else None, ""
    config = run.child_config(run_name=section.call_name, stage=section.stage, **section.metadata)
    call = ModelCall(parts.model, section.stage, run, config, section.settings)
    grounds, attempts, start_event = section.grounds, count(1), section.start_event
    growing = GrowingText(
        section.make_cleaner,
        lambda text: run.emit(section.delta_event(text)),
        longest_delay=run.options.stream_max_delay,
        on_attempt=lambda: run.emit(
            start_event(next(attempts)) if grounds is None else grounds.announced(start_event(next(attempts)))
        ),
        now=run.elapsed if run.stream else None,
    )
    options = run.options
    limit = run.seconds_left(options.point_timeout)
    status: ExpansionStatus = "ok"
    why: str | None = None
    source: TextSource
    try:
        async with asyncio.timeout(limit) as timer:
            if limit == 0:
                await asyncio.sleep(0)  # which ends it, before it counts a call
            if section.prepare is not None:
                await section.prepare()
            if cache is not None:
                key, kept = await _look_up(section, run, cache)
                if kept is not None:
                    return WrittenText(kept, is_cached=True)
            if expander_input is None or parts.expander is None:
                source = ModelSource(call, section.messages)
            else:
                source = ExpanderSource(parts.expander, expander_input, section.messages(), call)
            why = await write_or_explain(source, growing, call)
        status = "failed" if why else "ok"
    except Exception as error:  # noqa: BLE001  (one text's failure is never another's)
        status, why = _failure(error, options, limit if timer.expired() else None)
        why += call.why_late if status == "timed_out" else ""
    text = growing.cleaner.text
    if status == "failed" or (status == "timed_out" and section.stage != "expansion"):  # `join` tells of late points
        left_out = "breaks off" if text else "is left out"
        logger.warning("%s %s: %s", section.label, "failed" if section.stage == "expansion" else left_out, why)
    elif status == "ok" and cache is not None and not growing.truncated:
        await cache.put(key, text)
    is_cut = growing.truncated and bool(text)  # where there is no text, the error says what used up the tokens
    return WrittenText(text, status, why, is_cut, list(growing.sources), growing.first_text_at)


def _failure(error: Exception, options: SotOptions, limit: float | None) -> tuple[ExpansionStatus, str]:
    """The status of a text that an error ended, and why. `limit`: the seconds that are over, if they are the reason."""
    if isinstance(error, TimeoutError) and limit is not None:
        if limit != options.point_timeout:
            return "timed_out", f"not finished {options.deadline:.3g} s after the run's start (deadline)"
        return "timed_out", f"not finished after {limit:.3g} s (point_timeout)"
    cause = error.__cause__ if isinstance(error, BrokenStreamError) else None
    if isinstance(error, ExpanderError):  # its words say all: `explain` would take its cause for a model's error
        error = ExpanderError(str(error))
    return "failed", explain(cause or error)


async def _look_up(section: Section, run: RunContext, cache: ResultCache) -> tuple[str, str | None]:
    """A section's key in the cache, and the text that is there. Those who listen are told it."""
    kind, settings = section.cached_as
    key = cache.key(kind, run.parts.model.fingerprint(run.config), section.messages(), settings)
    kept = await cache.get(key)
    if not isinstance(kept, str):
        return key, None
    run.meter.add_cache_hit(section.stage)
    run.emit(section.delta_event(kept))
    return key, kept


async def write_or_explain(source: TextSource, growing: GrowingText, call: ModelCall) -> str | None:
    """Have a text written, and once more if there is no word in it.

    Returns:
        Why there is still none, in one line; `None`: there is a text.

    Raises:
        Exception: Trying again and going on are used up.
    """
    for number in range(_TRIES_FOR_A_TEXT):
        if number:
            growing.restart()
        try:
            await source.write(growing)
        finally:
            growing.flush()
        if growing.cleaner.says_something:
            return None
        call.trace.reject(f"{source.who} wrote nothing")
    is_silent = isinstance(source, ModelSource) and source.is_silent
    only_thoughts = _ONLY_THOUGHTS if is_silent and call.run.meter.usage[call.stage]["output_tokens"] else ""
    why = _WHY_NOTHING.get(growing.ending or "stop", only_thoughts)
    but = " but its title or number" if isinstance(source, ExpanderSource) and growing.cleaner.echoes else ""
    return f"{source.who} wrote nothing for it{but}, twice{why}"


@dataclass(slots=True)
class GrowingText:
    """A text while it is being written: cleaned, and sent in pieces. What was sent of it is never taken back.

    The first piece is sent at once, later ones together when they come close on each other: each costs a queue entry
    and a wake-up of the reader, and at sixty tokens a second and ten points nobody can read them one by one. They grow
    with the text, so that those of a very long one can all wait for a reader who pauses.

    An attempt is one model call for the text, as its events count them; traces call it a try. A start begins the text
    at its beginning: it takes more attempts where calls fail, or where a text that broke off is gone on with.
    """

    make_cleaner: Callable[[], TextCleaner]
    """Makes a cleaner for each start."""
    send: Callable[[str], None]
    """Takes the pieces of the cleaned text. A text that isn't streamed is one piece."""
    _: KW_ONLY
    longest_delay: float
    """Seconds that a piece may wait for the next; 0: none."""
    on_attempt: Callable[[], None] | None = None
    """To be called as each model call for this text begins: one that broke off is gone on with by another."""
    now: Callable[[], float] | None = None
    """Tells the time at the first piece; `None` where nothing is streamed."""
    sources: Sequence[Source] = ()
    """What the text rests on."""
    ending: Ending | None = None
    """How the source's reply ended."""
    truncated: bool = False
    """Whether the text ends where the model ran into a token limit."""
    first_text_at: float | None = None
    cleaner: TextCleaner = field(init=False)
    """Holds the text as far as it has been cleaned, also where it broke off."""
    _waiting: list[str] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None
    _waiting_chars: int = 0
    _sent_chars: int = 0

    def __post_init__(self) -> None:
        self.cleaner = self.make_cleaner()

    def restart(self) -> None:
        """The text is begun anew. Nothing of the last one was sent."""
        self.cleaner = self.make_cleaner()
        self.sources, self.ending, self.truncated = (), None, False

    def end(self, ending: Ending | None = "stop") -> None:
        """The reply has ended."""
        self.ending, self.truncated = ending, ending == "length"
        self.write(None)

    def write(self, piece: str | None) -> None:
        """The next piece, as it comes from the source; `None`: there is no more."""
        text = self.cleaner.finish(cut_off=self.truncated) if piece is None else self.cleaner.feed(piece)
        if not text:
            return
        if self.now is not None and self.first_text_at is None:
            self.first_text_at = self.now()
        self._waiting.append(text)
        self._waiting_chars += len(text)
        if self._waiting_chars < self._sent_chars * _LEAST_SHARE:
            self._flush_within(max(self.longest_delay, _STALLED_AFTER))
        elif not self._sent_chars or not self.longest_delay:
            self.flush()
        else:
            self._flush_within(self.longest_delay)

    def _flush_within(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self.flush)

    def flush(self) -> None:
        """Send what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._sent_chars += self._waiting_chars
            self._waiting_chars = 0
            self.send(text)
