"""`Drafter`: gets a skeleton from the cache or from a model, in one format and then in the other.

Points may be given out while the model still writes (`dispatch="pipelined"`), or only the whole skeleton counts. Both
use the same code: points that were given out are kept, and the next call asks for the rest.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from sot_graph.errors import SkeletonError, SotConfigError
from sot_graph.llm.call import BrokenStreamError, ModelCall
from sot_graph.llm.provider_errors import explain, is_callers_to_fix
from sot_graph.llm.retry_policy import is_retryable
from sot_graph.llm.structured_output import InvalidOutputError, ask_structured
from sot_graph.prompts.delimiters import escape_delimiters
from sot_graph.prompts.messages import numbered_list, skeleton_messages
from sot_graph.skeleton.parser import MOST_ITEMS, PointSieve, SkeletonSchema, parse_skeleton, skeleton_schema
from sot_graph.skeleton.stream_parser import EarlyTitles, EnoughError, TitleScanner

if TYPE_CHECKING:
    from sot_graph.llm.call import Reply
    from sot_graph.run import RunContext
    from sot_graph.types import ChatTurn, SkeletonPoint

logger = logging.getLogger("sot_graph")

_SETTINGS_OF_LISTS = frozenset({"stop"})
"""Settings that only make sense for numbered lines: JSON must not stop at a blank line."""
_FORMS: Mapping[str, str] = {
    "structured": 'Reply with JSON only: {"points":["title","title"]}',
    "list": "Reply with a numbered list only, one title a line.",
}
_MOST_REPEATS = 20
"""Titles in a row that say nothing new: a model that is caught in a loop doesn't come out of it."""
_LONGEST_END = 200
"""Characters that may stand behind the last title: brackets, a fence, a friendly word."""

_End: TypeAlias = Literal["whole", "broken", "cut", "invalid", "refused"]
"""How a reply ended: as it should, on its way, at a token limit, not as JSON, or not at all."""


class NoSkeletonError(Exception):
    """The model answers, but not with a skeleton: the question is to be answered directly."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A settled skeleton."""

    points: list[SkeletonPoint]
    text: str
    """As the model wrote it where that is the same skeleton; else as numbered lines."""
    skeleton_format: str
    """The format that it was asked for in."""

    def state_keys(self, reason: str) -> dict[str, Any]:
        """The state's keys of it, with the reason of its route."""
        return {
            "skeleton": self.points,
            "skeleton_text": self.text,
            "skeleton_format": self.skeleton_format,
            "is_written": False,
            "route": "skeleton" if self.points else "direct",
            "route_reason": reason,
        }


@dataclass(frozen=True, slots=True)
class Revision:
    """A skeleton that was rejected, and why."""

    text: str
    comment: str


@dataclass(slots=True)
class _Reading:
    """What was read from one reply."""

    titles: list[str]
    text: str = ""
    end: _End = "whole"
    reason: str = ""
    """What is wrong with the reply. If it is empty, the number of usable points is told instead."""


def skeleton_call_messages(
    run: RunContext,
    question: str,
    history: Sequence[ChatTurn],
    skeleton_format: str,
    revision: Revision | None = None,
    *,
    may_depend: bool = False,
) -> list[BaseMessage]:
    """The messages of the skeleton's call. The points' prompts begin with the same, but for a revision."""
    options = run.options
    messages = skeleton_messages(
        run.graph.prompts,
        question=question,
        history=history,
        skeleton_format=skeleton_format,
        min_points=options.min_points,
        max_points=options.max_points,
        title_length=options.title_length,
        may_depend=may_depend,
    )
    if revision is None:
        return messages
    prefill = [messages.pop()] if isinstance(messages[-1], AIMessage) else []
    again = HumanMessage(
        "The reader rejects this skeleton and says:\n"
        f"<comment>\n{escape_delimiters(revision.comment)}\n</comment>\n"
        "Write another one, in the same form, that meets this."
    )
    return [*messages, AIMessage(escape_delimiters(revision.text)), again, *prefill]


def skeleton_as_written(points: Sequence[SkeletonPoint], skeleton_format: str) -> str:
    """The skeleton as a model writes it in this format, be it only the beginning of one."""
    if skeleton_format == "structured":
        titles = [point["title"] for point in points]
        return json.dumps({"points": titles}, ensure_ascii=False, separators=(",", ":"))
    return numbered_list(points)


class Drafter:
    """Drafts one skeleton.

    Where points are given out early, a reply that breaks off, isn't valid or has too few points is not asked for again
    as a whole: the model is shown what is kept, and asked for the rest. A reply that goes on when there are points
    enough is closed.

    Args:
        run: The node's execution.
        question: The question.
        history: The conversation before it.
        revision: The skeleton that this one replaces, and what was wrong with it.
        may_depend: Whether points may say which others they need.
        on_point: Gets each point as soon as its title is whole; it stays. `None`: only the whole skeleton counts.
        known: Points that were given out before, by a process that is gone.
    """

    def __init__(
        self,
        run: RunContext,
        question: str,
        history: Sequence[ChatTurn],
        *,
        revision: Revision | None = None,
        may_depend: bool = False,
        on_point: Callable[[SkeletonPoint], None] | None = None,
        known: Sequence[SkeletonPoint] = (),
    ) -> None:
        self.is_whole = False
        """Whether the model came to its skeleton's end, and nothing is missing."""
        self._run = run
        self._question = question
        self._history = history
        self._revision = revision
        self._may_depend = may_depend
        self._on_point = on_point
        self._given_out = self._sieve(known)
        self._is_over = False
        """Whether there were more points than may be."""
        self._repeats = 0
        self._read: tuple[Sequence[str], list[SkeletonPoint]] | None = None
        """The titles that were read last, and the points that they make."""
        prompts, options = run.graph.prompts, run.options
        self._most = options.max_points if prompts.max_points is None else min(options.max_points, prompts.max_points)
        self._fewest = min(options.min_points, self._most)

    async def settle(self) -> tuple[Draft, str]:
        """The skeleton and why there is one, from the cache or from a model. An empty one sends the question direct.

        Raises:
            SkeletonError: The model could not be asked, or not in time.
            SotConfigError: The provider refused the key or the model's name.
        """
        cache, known = self._run.graph.cache, self._given_out.points
        key = self._key() if cache.keeps else None
        kept = _draft_in(await cache.get(key)) if key is not None else None
        if kept is not None and kept.points[: len(known)] == known:
            self._run.meter.add_cache_hit("skeleton")
            self._run.trace.describe_node(sot_cache_hit=True)
            if self._on_point is not None:
                for point in kept.points[len(known) :]:
                    self._on_point(point)
            return kept, "a skeleton was in the cache"
        try:
            draft = await self.draft()
        except NoSkeletonError as error:
            return Draft([], "", ""), f"no skeleton could be had: {error}"
        if self.is_whole and key is not None:
            await cache.put(key, asdict(draft))
        return draft, "a skeleton could be had"

    def _key(self) -> str | None:
        graph, options = self._run.graph, self._run.options
        prompts = graph.prompts
        settings = {
            **prompts.skeleton_settings,
            "format": options.skeleton_format,
            "mode": options.structured_mode,
            "points": [options.min_points, options.max_points, prompts.max_points],
            "titles": [prompts.max_title_words, prompts.drop_similar_titles],
        }
        messages = self._messages(options.skeleton_format, is_whole=True)
        return graph.cache.key("skeleton", graph.skeleton_model.fingerprint, messages, settings)

    async def draft(self) -> Draft:
        """Get the skeleton from the model, in one format and then in the other.

        Raises:
            NoSkeletonError: The model answers, but in neither format with enough points.
            SkeletonError: The model could not be asked, or not in time.
            SotConfigError: The provider refused the key or the model's name.
        """
        run, own_format = self._run, self._run.graph.prompts.skeleton_format
        own_limit = run.options.skeleton_timeout
        limit = run.seconds_left(own_limit)
        formats = [own_format] if own_format else ["structured", "list"]
        if run.options.skeleton_format == "list":
            formats.reverse()
        reasons: list[str] = []
        failure: SkeletonError | NoSkeletonError
        try:
            async with asyncio.timeout(limit) as timer:
                for position, name in enumerate(formats):
                    try:
                        return await self._in_format(name)
                    except NoSkeletonError as error:
                        reasons.append(str(error))
                        last = position == len(formats) - 1
                        following = "answering directly" if last else f"asking in the {formats[position + 1]} format"
                        logger.warning("No skeleton in the %s format (%s); %s.", name, error, following)
            failure = NoSkeletonError("; ".join(reasons))
        except SkeletonError as error:
            failure = error
        except TimeoutError as error:
            message = f"The skeleton could not be had: {explain(error)}."  # it is the model's own timeout
            if timer.expired():
                is_own = limit == own_limit
                which, seconds = ("skeleton_timeout", limit) if is_own else ("deadline", run.options.deadline)
                message = (
                    f"The skeleton was not there after {seconds:.3g} s: raise SotOptions.{which}, or use a faster "
                    "skeleton_model."
                )
            failure = SkeletonError(message)
            failure.__cause__ = error
        if not self._given_out.points:
            raise failure
        return self._settle_given_out(run.options.skeleton_format, str(failure))

    async def _in_format(self, skeleton_format: str) -> Draft:
        """Ask in one format, and again where the reply is of no use."""
        try:
            return await self._ask_repeatedly(skeleton_format)
        except (NoSkeletonError, TimeoutError):
            raise
        except Exception as error:
            if is_callers_to_fix(error):
                message = (
                    f"The model refused the call: {explain(error)}. Check the key, the model's name and the base URL."
                )
                raise SotConfigError(message) from error
            if is_retryable(error):
                message = (
                    f"No skeleton: {explain(error)}. Check that the endpoint is up and that the base URL is right."
                )
                raise SkeletonError(message) from error
            if skeleton_format == "structured" and self._run.graph.prompts.skeleton_format is None:
                # A model or server that knows no schemas may still write lists.
                raise NoSkeletonError(explain(error)) from error
            raise SkeletonError(f"No skeleton: {explain(error)}.") from error  # noqa: EM102

    async def _ask_repeatedly(self, skeleton_format: str) -> Draft:
        options, graph, is_early = self._run.options, self._run.graph, self._on_point is not None
        # Where nothing is given out early, instructor has asked again already, with what was wrong with the JSON.
        reasks = options.max_reasks if is_early or skeleton_format == "list" else 0
        retries = options.max_retries
        settings, name = graph.prompts.skeleton_settings, "write skeleton as a list"
        if skeleton_format == "structured":
            settings = {key: value for key, value in settings.items() if key not in _SETTINGS_OF_LISTS}
            name = "write skeleton"
        config = self._run.child_config(run_name=name, stage="skeleton")
        call = ModelCall(graph.skeleton_model, "skeleton", self._run, config, settings)
        messages = self._messages(skeleton_format)
        while True:
            reading = await self._ask(call, skeleton_format, messages)
            points = self._given_out.points if is_early else self._points(reading.titles)
            if len(points) >= self._fewest and (reading.end == "whole" or not is_early):
                if is_early:
                    return self._settle_given_out(skeleton_format)
                return self._settle(points, reading, skeleton_format)
            reason = reading.reason or f"{len(points)} usable points of at least {self._fewest}"
            call.trace.reject(reason)
            if reading.end == "broken":
                retries -= 1
            else:
                reasks -= 1
            has_chance = reading.end != "refused" and min(reasks, retries) >= 0
            if is_early and (len(points) >= self._most or (not has_chance and len(points) >= self._fewest)):
                return self._settle_given_out(skeleton_format, reason)
            if not has_chance:
                raise NoSkeletonError(reason)
            has_rest = is_early and points
            logger.warning("skeleton: %s; asking %s.", reason, "for the rest" if has_rest else "again")
            if has_rest or skeleton_format == "structured":
                messages = self._messages(skeleton_format)
            elif reading.text.strip():  # no provider takes an empty message of the model's
                messages = self._messages_after_list(messages, reading.text, len(points))

    async def _ask(self, call: ModelCall, skeleton_format: str, messages: list[BaseMessage]) -> _Reading:
        """One call, and what was read from its reply. Points that are given out early are given out."""
        options, graph, is_early = self._run.options, self._run.graph, self._on_point is not None
        prefill = graph.prompts.skeleton_prefill.format() if isinstance(messages[-1], AIMessage) else ""
        titles = EarlyTitles(self._take, self._has_enough, prefill) if is_early else None
        on_text = titles.feed if titles is not None and options.stream is not False else None
        self._given_out.begin_list()
        self._repeats = 0
        try:
            if skeleton_format == "structured":
                reading = await self._ask_structured(call, messages, on_text)
            else:
                reply = await call.ask(messages, on_text=on_text)
                text = _whole_list(reply, prefill)
                reading = _Reading(parse_skeleton(text), text)
                if reply.was_refused:
                    reading.end, reading.reason = "refused", "the model declined"
                elif reply.was_cut_off:
                    reading.end = "cut"
        except InvalidOutputError as error:
            reading = self._reading_of_invalid(error)
        except BrokenStreamError as error:  # only a stream that was given out
            if isinstance(error.__cause__, EnoughError):
                return _Reading([])
            reason = f"the reply broke off ({explain(error.__cause__ or error)})"
            return _Reading([], end="broken", reason=reason)
        except Exception as error:
            if not self._given_out.points:
                raise
            return _Reading([], end="refused", reason=explain(error))
        if titles is not None:
            titles.finish(reading.titles)
        return reading

    async def _ask_structured(
        self, call: ModelCall, messages: list[BaseMessage], on_text: Callable[[str], None] | None
    ) -> _Reading:
        options = self._run.options
        schema, reasks = SkeletonSchema, 0  # points that were given out early can't be asked for again
        if self._on_point is None:
            prompts, reasks = self._run.graph.prompts, options.max_reasks
            schema = skeleton_schema(
                self._fewest, max_words=prompts.max_title_words, drop_similar=prompts.drop_similar_titles
            )
        parsed, text = await ask_structured(
            call,
            messages,
            schema,
            mode=options.structured_mode,
            max_reasks=reasks,
            repair=self._json_from_list,
            on_text=on_text,
        )
        return _Reading(parsed.points, text)

    def _reading_of_invalid(self, error: InvalidOutputError) -> _Reading:
        """What can be had of replies that aren't the JSON that was asked for: some models write a fine list."""
        for text in reversed(error.replies):
            titles = parse_skeleton(text)
            if len(self._points(titles)) >= self._fewest:
                return _Reading(titles, text)
        last = error.replies[-1] if error.replies else ""
        # Not every provider says that a reply was cut off. Its last title may be half of one.
        is_cut = error.was_cut_off or (last.lstrip()[:1] in ("{", "[") and last.rstrip()[-1:] not in ("}", "]"))
        if is_cut:
            # The whole titles count where there are as many as there may be: such a reply might never end.
            titles = TitleScanner().feed(last)
            if self._on_point is None and len(self._points(titles)) >= self._most:
                return _Reading(titles, last)
            return _Reading([], last, end="cut", reason="the model's reply was cut off")
        most = max(map(len, (self._points(parse_skeleton(text)) for text in error.replies)), default=0)
        reason = "" if most else "the model's reply was not the JSON that was asked for"
        return _Reading(parse_skeleton(last), last, end="invalid", reason=reason)

    # --- the prompts

    def _messages(self, skeleton_format: str, *, is_whole: bool = False) -> list[BaseMessage]:
        """The prompt: for a whole skeleton, or for what is missing beside the points that were given out."""
        messages = skeleton_call_messages(
            self._run, self._question, self._history, skeleton_format, self._revision, may_depend=self._may_depend
        )
        points = self._given_out.points
        if is_whole or not points:
            return messages
        fewest, most = self._fewest - len(points), self._most - len(points)
        how_many = f"{fewest} to {most} of them" if fewest > 0 else f"{most} at most, none if nothing is missing"
        again = HumanMessage(
            f"These {len(points)} points are kept. Write those that are still missing, {how_many}, different from "
            f"these, in the same form: only the new ones. {_FORMS[skeleton_format]}"
        )
        kept = AIMessage(escape_delimiters(skeleton_as_written(points, skeleton_format)))
        return [*_without_prefill(messages), kept, again]

    def _messages_after_list(self, messages: list[BaseMessage], text: str, usable: int) -> list[BaseMessage]:
        again = HumanMessage(
            f"That list has {usable} usable points. Write it again with at least {self._fewest} different points, as "
            "a numbered list only, one title a line."
        )
        prefill = self._run.graph.prompts.skeleton_prefill.format()
        following = [AIMessage(prefill)] if prefill else []
        return [*_without_prefill(messages), AIMessage(text), again, *following]

    # --- the points

    def _sieve(self, known: Sequence[SkeletonPoint] = ()) -> PointSieve:
        prompts = self._run.graph.prompts
        return PointSieve(
            max_words=prompts.max_title_words,
            drop_similar=prompts.drop_similar_titles,
            depends=self._may_depend,
            known=known,
        )

    def _points(self, titles: Sequence[str]) -> list[SkeletonPoint]:
        if self._read is None or self._read[0] != titles:
            sieve = self._sieve()
            for title in islice(titles, MOST_ITEMS):
                sieve.take(title)
            self._read = (list(titles), sieve.points)
        return self._read[1]

    def _json_from_list(self, text: str) -> str | None:
        """Turn a list into the JSON that was asked for, so that the model need not be asked again."""
        if text.lstrip().startswith("{"):
            with suppress(ValueError):
                json.loads(text)
                return None
        titles = parse_skeleton(text)
        return json.dumps({"points": titles}) if len(self._points(titles)) >= self._fewest else None

    def _take(self, raw: str) -> None:
        """Give out the point of the next title."""
        if len(self._given_out.points) == self._most:
            self._is_over = True
            return
        point = self._given_out.take(raw)
        self._repeats = self._repeats + 1 if point is None else 0
        if point is not None and self._on_point is not None:
            self._on_point(point)

    def _has_enough(self, behind: int) -> bool:
        """Whether a reply with so many characters behind its last title may be closed."""
        is_full = len(self._given_out.points) == self._most
        return self._is_over or (is_full and behind > _LONGEST_END) or self._repeats > _MOST_REPEATS

    def _settle(self, points: list[SkeletonPoint], reading: _Reading, skeleton_format: str) -> Draft:
        if len(points) > self._most:
            self._warn_of_too_many(str(len(points)))
            points = points[: self._most]
        # The points' prompts quote the model's text to the letter if it holds these titles only. If a title was
        # cleaned, or other text stands around them, the prompts get a numbered list.
        titles = [point["title"] for point in points]
        structure = 16 * len(titles) + 64
        is_same = [raw.strip() for raw in reading.titles] == titles
        text = reading.text if is_same and len(reading.text) <= sum(map(len, titles)) + structure else None
        self.is_whole = True
        return Draft(points, numbered_list(points) if text is None else text, skeleton_format)

    def _settle_given_out(self, skeleton_format: str, reason: str = "") -> Draft:
        points = list(self._given_out.points)
        self.is_whole = not reason
        if self._is_over:
            self._warn_of_too_many("more")
        if reason:
            logger.warning("skeleton: %s; the %d points that are there are used.", reason, len(points))
        return Draft(points, skeleton_as_written(points, skeleton_format), skeleton_format)

    def _warn_of_too_many(self, how_many: str) -> None:
        """Log that the skeleton is cut: once a run, however many are drafted in it."""
        logged = self._run.invocation.logged
        if "too many points" in logged:
            return
        logged.add("too many points")
        by_options = self._most == self._run.options.max_points
        # A profile whose models aren't told how many points they may write has them cut as a matter of course.
        level, whose = (logging.WARNING, "max_points") if by_options else (logging.INFO, "the prompts' max_points")
        logger.log(level, "The skeleton has %s points; the first %d are kept (%s).", how_many, self._most, whose)


def _draft_in(kept: Any) -> Draft | None:
    """The skeleton that a cache holds; `None` for nothing, or for what this version did not put there."""
    try:
        found: Any = Draft(**kept)
        is_good = all(
            type(point["index"]) is int and isinstance(point["title"], str) and isinstance(point["depends_on"], list)
            for point in found.points
        )
    except (TypeError, KeyError):
        return None
    return found if found.points and is_good and isinstance(found.text, str) else None


def _whole_list(reply: Reply, prefill: str) -> str:
    """The whole list, whether the server repeats the prefill, goes on after it, or never minded it."""
    text = reply.text
    if prefill and not any(line.lstrip().startswith(prefill) for line in text.splitlines()):
        text = f"{prefill} {text.lstrip()}"
    return text.rpartition("\n")[0] if reply.was_cut_off else text  # half a title is worse than none


def _without_prefill(messages: list[BaseMessage]) -> list[BaseMessage]:
    return messages[:-1] if isinstance(messages[-1], AIMessage) else messages
