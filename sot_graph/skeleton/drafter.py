"""`Drafter`: gets a skeleton from the cache or from a model, in one format and then in the other.

Points may be given out while the model still writes (`dispatch="pipelined"`), or only the whole skeleton counts. Both
use the same code: points that were given out are kept, and the next call asks for the rest.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from sot_graph.errors import SkeletonError, SotConfigError
from sot_graph.llm.call import BrokenStreamError, ModelCall
from sot_graph.llm.provider_errors import RETRYABLE, advice, explain, meaning_of
from sot_graph.llm.reply import WHOLE, WHY_WITHHELD, UnfinishedReplyError
from sot_graph.llm.retry_policy import RetryPolicy
from sot_graph.llm.structured_output import InvalidOutputError, SchemaRefusedError, ask_structured
from sot_graph.prompts.messages import (
    longer_list_messages,
    missing_points_messages,
    numbered_list,
    point_limits,
    rejected_skeleton_messages,
    skeleton_as_written,
    skeleton_messages,
)
from sot_graph.skeleton.parser import MOST_ITEMS, TitleScanner, parse_skeleton, whole_list
from sot_graph.skeleton.points import (
    EarlyPoints,
    EnoughError,
    PointSieve,
    SkeletonSchema,
    clean_titles,
    skeleton_schema,
)
from sot_graph.types import SkeletonFormat, SkeletonPoint
from sot_graph.usage import tokens_of

if TYPE_CHECKING:
    from sot_graph.cache import ResultCache
    from sot_graph.run import Inquiry, RunContext

logger = logging.getLogger("sot_graph")

_End: TypeAlias = Literal["whole", "spoilt", "final"]
"""How a reply ended. `spoilt`: it broke off, was cut, or is something else; `final`: it would end so again."""


class SkeletonRequest(NamedTuple):
    """A prompt for a skeleton. `last_shared`: its last user message, if a cache keeps it for the points."""

    messages: list[BaseMessage]
    last_shared: Any


class NoSkeletonError(Exception):
    """The model answers, but not with a skeleton: the question is to be answered directly."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A settled skeleton."""

    points: list[SkeletonPoint]
    text: str
    """As the points' prompts quote it: the model's own reply if it holds these titles and nothing else, else a list."""
    skeleton_format: str
    """The format that it was asked for in."""

    def as_update(self, reason: str, route_reason: str | None = None) -> dict[str, Any]:
        """The state's update. Where a router chose the skeleton, its reason stands in place of the drafter's."""
        return {
            "skeleton": self.points,
            "draft_facts": {"skeleton_text": self.text, "skeleton_format": self.skeleton_format, "is_written": False},
            "route": "skeleton" if self.points else "direct",
            "route_reason": (route_reason if self.points else None) or reason,
        }


@dataclass(frozen=True, slots=True)
class Revision:
    """A skeleton that was rejected, and why."""

    text: str
    comment: str


@dataclass(slots=True)
class ParsedReply:
    """What was read from one reply."""

    titles: list[str]
    text: str = ""
    end: _End = "whole"
    reason: str = ""
    """What is wrong with the reply. If it is empty, the number of usable points is told instead."""
    cause: BaseException | None = None
    """What broke it off."""


class Drafter:
    """Drafts one skeleton.

    Where points are given out early, a reply that breaks off, isn't valid or has too few points is not asked for again
    as a whole: the model is shown what is kept, and asked for the rest. A reply that goes on when there are points
    enough is closed.

    Args:
        run: The node's execution.
        inquiry: What the run is to answer.
        revision: The skeleton that this one replaces, and what was wrong with it.
        on_point: Gets each point as soon as its title is whole. It stays. `None`: only the whole skeleton counts.
        on_glimpse: Gets each point as soon as its title is whole. The whole skeleton, which counts, may lack it.
        known: Points that were given out before, by a process that is gone.
    """

    def __init__(
        self,
        run: RunContext,
        inquiry: Inquiry,
        *,
        revision: Revision | None = None,
        on_point: Callable[[SkeletonPoint], None] | None = None,
        on_glimpse: Callable[[SkeletonPoint], None] | None = None,
        known: Sequence[SkeletonPoint] = (),
    ) -> None:
        self._run = run
        self._inquiry = inquiry
        self._revision = revision
        prompts, options = run.parts.prompts, run.options
        self._fewest, self._most = point_limits(prompts, options)
        self._cleaning: Any = {"max_words": prompts.max_title_words, "drop_similar": prompts.drop_similar_titles}
        self._recalls = options.point_context == "question" and bool(inquiry.history)
        """Whether a title may say what its point needs of the conversation, which is written without it."""
        self._new_sieve = partial(PointSieve, **self._cleaning, depends=inquiry.may_depend, recalls=self._recalls)
        self._early = None if on_point is None else EarlyPoints(self._new_sieve, self._most, on_point, list(known))
        """Gives points out early; `None`: only the whole skeleton counts."""
        self._glimpses = None if on_glimpse is None else EarlyPoints(self._new_sieve, self._most, on_glimpse, [])
        """Reads along only to begin the points' retrievals early; `None`: nothing is retrieved for points."""
        self._refused_mode: str | None = None
        """The structured mode that the provider refused. The model remembers it once the list format has worked, which
        proves that the schema was to blame."""
        self._keyed_format: SkeletonFormat = options.skeleton_format
        """Its prompt is in the cache's key, which mustn't change when a mode is refused. `_formats` does then."""
        self._requests: dict[str, SkeletonRequest] = {}
        model = run.parts.skeleton_model
        self._mode = options.structured_mode
        """How JSON is asked for: in words alone where that lets a cache serve the points, or no schema is taken."""
        if self._mode == "auto":
            self._mode = model.fitting_mode
            is_refused = self._mode in model.refused_modes
            if "JSON" in prompts.skeleton and (is_refused or self._request("structured").last_shared is not None):
                self._mode = "prompt"
        self._formats: list[SkeletonFormat] = ["structured", "list"]
        """Those in which the skeleton is asked for, one after the other."""
        if prompts.skeleton_format is not None:  # they are written for this one alone
            self._formats = [prompts.skeleton_format]
        elif options.skeleton_format == "list":
            self._formats.reverse()
        elif self._mode in model.refused_modes:
            self._formats = ["list"]
        self._timer: asyncio.Timeout | None = None
        """The limit of the whole drafting, while it runs."""
        self._call: ModelCall | None = None
        self._is_whole = False
        """Whether the model came to its skeleton's end, and nothing is missing: only such a one is cached."""

    async def settle(self) -> tuple[Draft, str]:
        """The skeleton and why there is one, from the cache or from a model. An empty one sends the question direct.

        It raises as `draft` does, but for the `NoSkeletonError`.
        """
        cache = self._run.parts.cache
        key = "" if cache is None else self._cache_key(cache)
        kept = None if cache is None else _draft_in(await cache.get(key))
        if kept is not None and (self._early is None or self._early.take_over(kept.points)):
            self._run.meter.add_cache_hit("skeleton")
            self._run.trace.describe_node(sot_cache_hit=True)
            return kept, "a skeleton was in the cache"
        try:
            draft = await self.draft()
        except NoSkeletonError as error:
            return Draft([], "", ""), f"no skeleton could be had: {error}"
        if self._is_whole and cache is not None:
            await cache.put(key, asdict(draft))
        return draft, "a skeleton could be had"

    def _cache_key(self, cache: ResultCache) -> str:
        parts, options = self._run.parts, self._run.options
        settings = {
            **parts.prompts.skeleton_settings,
            "draft": parts.draft_decides and sorted(parts.prompts.direct_settings.items()),
            "format": self._keyed_format,
            "mode": options.structured_mode,
            "points": [options.min_points, options.max_points, parts.prompts.max_points],
            "titles": list(self._cleaning.values()),
        }
        messages = self._messages(self._keyed_format, is_whole=True)
        return cache.key("skeleton", parts.skeleton_model.fingerprint(self._run.config), messages, settings)

    async def draft(self) -> Draft:
        """Get the skeleton from the model, in one format and then in the other.

        Raises:
            NoSkeletonError: The model answers, but in neither format with enough points.
            SkeletonError: The model could not be asked, or not in time.
            SotConfigError: The provider refused the key or the model's name.
        """
        run, formats = self._run, self._formats
        own_limit = run.options.skeleton_timeout
        limit = run.seconds_left(own_limit)
        reasons: list[str] = []
        failure: SkeletonError | NoSkeletonError
        try:
            async with asyncio.timeout(limit) as self._timer:
                for name, other in zip(formats, [*formats[1:], None], strict=True):
                    try:
                        return await self._ask_in_format(name)
                    except NoSkeletonError as error:
                        reasons.append(str(error))
                        following = f"asking in the {other} format" if other else "answering directly"
                        logger.warning("No skeleton in the %s format (%s); %s.", name, error, following)
            failure = NoSkeletonError("; ".join(reasons))
        except SkeletonError as error:
            failure = error
        except TimeoutError as error:
            message = f"The skeleton could not be had: {explain(error)}."  # it is the model's own timeout
            if self._timer is not None and self._timer.expired():
                which = "skeleton_timeout" if limit == own_limit else "deadline"
                why = f": raise SotOptions.{which}, or use a faster skeleton_model"
                if self._call is not None and self._call.why_late:
                    why = f" (SotOptions.{which}){self._call.why_late}"
                message = f"The skeleton was not there after {getattr(run.options, which):.3g} s{why}."
            failure = SkeletonError(message)
            failure.__cause__ = error
        if self._early is None or not self._early.points:
            raise failure
        return self._draft_from(self._early.points, run.options.skeleton_format, reason=str(failure))

    async def _ask_in_format(self, skeleton_format: SkeletonFormat) -> Draft:
        """Ask in one format, and again where the reply is of no use."""
        options, parts = self._run.options, self._run.parts
        # Where nothing is given out early, instructor has asked again already, with what was wrong with the JSON.
        reasks = options.max_reasks if self._early is not None or skeleton_format == "list" else 0
        settings, name = dict(parts.prompts.skeleton_settings), "write skeleton as a list"
        if skeleton_format == "structured":
            settings.pop("stop", None)  # which ends a list: JSON may hold a blank line
            name = "write skeleton"
        config = self._run.child_config(run_name=name, stage="skeleton")
        call = ModelCall(parts.skeleton_model, "skeleton", self._run, config, settings)
        return await self._ask_until_enough(call, skeleton_format, reasks)

    async def _ask_until_enough(self, call: ModelCall, skeleton_format: SkeletonFormat, reasks: int) -> Draft:
        early, retries, self._call = self._early, RetryPolicy(self._run.options), call
        messages = self._messages(skeleton_format)
        while True:
            parsed = await self._ask(call, skeleton_format, messages)
            if early is None:
                sieve = self._new_sieve()
                for title in islice(parsed.titles, MOST_ITEMS):
                    sieve.take(title)
            points = sieve.points if early is None else early.points
            is_enough = len(points) >= self._fewest
            if is_enough and (early is None or parsed.end == "whole"):
                return self._draft_from(points, skeleton_format, parsed)
            reason = parsed.reason or f"{len(points)} usable points of at least {self._fewest}"
            call.trace.reject(reason)
            wait = 0.0 if reasks > 0 and parsed.end != "final" else None  # seconds; `None`: the model isn't asked again
            if parsed.cause is not None:
                wait = retries.wait_after(parsed.cause, broke_off=True)
            else:
                reasks -= 1
            # There are enough, and yet no draft: only where points are given out early. They stay, so they are used.
            if len(points) >= self._most or (is_enough and wait is None):
                return self._draft_from(points, skeleton_format, reason=reason)
            if wait is None:
                raise NoSkeletonError(reason)
            await asyncio.sleep(wait)
            has_rest = early is not None and points
            logger.warning("skeleton: %s; asking %s.", reason, "for the rest" if has_rest else "again")
            if has_rest or skeleton_format != "list":
                messages = self._messages(skeleton_format)
            elif parsed.text.strip():  # no provider takes an empty message of the model's
                messages = longer_list_messages(messages, parsed.text, usable=len(points), fewest=self._fewest)

    async def _ask(self, call: ModelCall, skeleton_format: SkeletonFormat, messages: list[BaseMessage]) -> ParsedReply:
        """One call, and what was read from its reply. Gives points out, where they are given out early."""
        early, prompts, options = self._early, self._run.parts.prompts, self._run.options
        prefill = prompts.skeleton_prefill.format() if isinstance(messages[-1], AIMessage) else ""
        on_text, reading = None, early or self._glimpses
        if reading is not None:
            reading.begin_reply(prefill)
            if options.stream is not False:
                on_text = reading.glimpse if early is None else reading.feed
        try:
            parsed = await self._read_reply(call, skeleton_format, messages, prefill, on_text)
        except BrokenStreamError as error:  # only where the reply was read while it came
            if isinstance(error.__cause__, EnoughError):
                return ParsedReply([])
            cause = error.__cause__ or error
            return ParsedReply([], end="spoilt", reason=f"the reply broke off ({explain(cause)})", cause=cause)
        except Exception as error:
            if early is not None and early.points:
                return ParsedReply([], end="final", reason=explain(error))
            if isinstance(error, TimeoutError):
                raise
            if isinstance(error, SchemaRefusedError):
                self._refused_mode = error.mode
            # A model or server that knows no schemas may still write lists.
            has_other_format = skeleton_format == "structured" and prompts.skeleton_format is None
            raise _skeleton_failure(error, has_other_format=has_other_format) from error
        if early is not None:
            early.finish_reply(parsed.titles)
        return parsed

    async def _read_reply(
        self,
        call: ModelCall,
        skeleton_format: SkeletonFormat,
        messages: list[BaseMessage],
        prefill: str,
        on_text: Callable[[str], None] | None,
    ) -> ParsedReply:
        has_schema = skeleton_format == "structured" and self._mode != "prompt"
        is_marked = self._run.options.prompt_cache == "auto" and not has_schema
        # The points' prompts begin with this request: the run's further calls mark its end for the provider's cache.
        self._run.invocation.last_shared = self._request(skeleton_format).last_shared if is_marked else None
        if skeleton_format == "list":
            reply = await call.ask(messages, on_text=on_text)
            text = whole_list(reply.text, prefill, is_half=reply.ending not in WHOLE)
            titles = parse_skeleton(text)
            if reply.ending in WHY_WITHHELD:
                return ParsedReply(titles, text, "final", WHY_WITHHELD[reply.ending])
            if reply.ending != "length":
                return ParsedReply(titles, text)
            reason = "" if text.strip() else "the tokens ran out before the list, in thoughts perhaps"
            return ParsedReply(titles, text, "spoilt", reason)
        schema, reasks = SkeletonSchema, 0  # points that were given out early can't be asked for again
        if self._early is None:
            schema, reasks = skeleton_schema(self._fewest, **self._cleaning), self._run.options.max_reasks
        try:
            parsed, text = await ask_structured(
                call, messages, schema, mode=self._mode, max_reasks=reasks, repair=self._json_from_list, on_text=on_text
            )
        except InvalidOutputError as error:
            return self._parse_invalid(error)
        return ParsedReply(parsed.points, text)

    def _json_from_list(self, text: str) -> str | None:
        """Turn a list, or JSON of another form, into what was asked for, so that the model need not be asked again."""
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
            if isinstance(value, dict) and list(value) == ["points"] and not isinstance(value["points"], dict):
                return text
        titles = parse_skeleton(text)
        return json.dumps({"points": titles}) if self._usable(titles) >= self._fewest else None

    def _parse_invalid(self, error: InvalidOutputError) -> ParsedReply:
        """What can be read from replies that aren't the JSON that was asked for: some models write a fine list."""
        *earlier, last = error.replies or [""]
        is_half = error.ending not in WHOLE
        lists = [(parse_skeleton(text), text) for text in (*earlier, whole_list(last, "", is_half=is_half))]
        for titles, text in reversed(lists):
            if self._usable(titles) >= self._fewest:
                return ParsedReply(titles, text)
        # Not every provider says that a reply was cut off. Its last title may be half of one.
        if is_half or (last.lstrip()[:1] in ("{", "[") and last.rstrip()[-1:] not in ("}", "]")):
            # As many whole titles as there may be points are enough: asked again, it might be as long.
            titles = TitleScanner().feed(last)
            if self._early is None and self._usable(titles) >= self._most:
                return ParsedReply(titles, last)
            if error.ending in WHY_WITHHELD:
                return ParsedReply([], last, end="final", reason=WHY_WITHHELD[error.ending])
            return ParsedReply([], last, end="spoilt", reason="the model's reply was cut off")
        has_points = any(self._usable(titles) for titles, _ in lists)
        reason = "" if has_points else "the model's reply was not the JSON that was asked for"
        return ParsedReply(lists[-1][0], last, end="spoilt", reason=reason)

    def _usable(self, titles: Sequence[str]) -> int:
        """How many points these titles would make."""
        return len(clean_titles(titles, **self._cleaning))

    def _request(self, skeleton_format: SkeletonFormat) -> SkeletonRequest:
        """The messages that ask for a skeleton in this format.

        The points' prompts begin with these messages, to the letter. A provider's cache serves them for a tenth of
        their price, as long as nothing else stands before them, as a schema or a tool would.
        """
        if skeleton_format not in self._requests:
            parts, options = self._run.parts, self._run.options
            messages = skeleton_messages(
                parts.prompts, self._inquiry, options, skeleton_format=skeleton_format, recalls=self._recalls
            )
            is_kept = (
                (parts.model is parts.skeleton_model and parts.expander is None)
                and (parts.prompts.expansion_layout == "shared" and options.point_context != "question")
                and tokens_of(messages) >= parts.model.prompt_cache.minimum
            )
            users = [message.content for message in messages if isinstance(message, HumanMessage)]
            self._requests[skeleton_format] = SkeletonRequest(messages, users[-1] if is_kept else None)
        return self._requests[skeleton_format]

    def _messages(self, skeleton_format: SkeletonFormat, *, is_whole: bool = False) -> list[BaseMessage]:
        """The prompt: for a whole skeleton, or for what is missing beside the points that were given out."""
        messages, _ = self._request(skeleton_format)
        if self._revision is not None:
            messages = rejected_skeleton_messages(messages, self._revision.text, self._revision.comment)
        if is_whole or self._early is None or not self._early.points:
            return messages
        points = self._early.points
        return missing_points_messages(
            messages,
            len(points),
            skeleton_as_written(points, skeleton_format),
            skeleton_format=skeleton_format,
            fewest=self._fewest - len(points),
            most=self._most - len(points),
        )

    def _draft_from(
        self, points: list[SkeletonPoint], skeleton_format: str, parsed: ParsedReply | None = None, *, reason: str = ""
    ) -> Draft:
        """Make a draft of as many of the points as there may be. `reason`: what is wrong with it, if anything."""
        self._is_whole = not reason and (parsed is None or parsed.end == "whole")
        if self._refused_mode is not None:
            self._run.parts.skeleton_model.refused_modes.add(self._refused_mode)
        if reason:
            logger.warning("skeleton: %s; the %d points that are there are used.", reason.rstrip("."), len(points))
        has_too_many, logged = self._early is not None and self._early.has_too_many, self._run.invocation.logged
        if (has_too_many or len(points) > self._most) and "too many points" not in logged:
            logged.add("too many points")  # once a run, however many skeletons are drafted in it
            by_options = self._most == self._run.options.max_points
            # A profile whose models aren't told how many points they may write has them cut as a matter of course.
            level, whose = (logging.WARNING, "max_points") if by_options else (logging.INFO, "the prompts' max_points")
            how_many = "more" if has_too_many else len(points)
            logger.log(level, "The skeleton has %s points; the first %d are kept (%s).", how_many, self._most, whose)
        points = points[: self._most]
        if self._early is not None or parsed is None:
            return Draft(points, skeleton_as_written(points, skeleton_format), skeleton_format)
        # The points' prompts quote the model's text to the letter where it holds these titles alone.
        titles = [point["title"] for point in points]
        is_same = [raw.strip() for raw in parsed.titles] == titles
        is_bare = len(parsed.text) <= sum(map(len, titles)) + 16 * len(titles) + 64
        return Draft(points, parsed.text if is_same and is_bare else numbered_list(points), skeleton_format)


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


def _skeleton_failure(error: Exception, *, has_other_format: bool) -> Exception:
    """What a failed call means for the skeleton."""
    said = explain(error)
    if isinstance(error, SchemaRefusedError):
        return NoSkeletonError(str(error))
    if meaning_of(error) == "callers":
        return SotConfigError(f"The model refused the call: {said}.{advice(error)}")
    if isinstance(error, UnfinishedReplyError):
        return SkeletonError(f"No skeleton: {said}.")
    if meaning_of(error) in RETRYABLE:
        return SkeletonError(f"No skeleton: {said}.{advice(error)}")
    return NoSkeletonError(said) if has_other_format else SkeletonError(f"No skeleton: {said}.")
