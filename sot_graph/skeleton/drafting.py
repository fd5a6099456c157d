"""Getting a skeleton from a model: structured or as a list, each the other's fallback."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from sot_graph.errors import SkeletonError, SotConfigError
from sot_graph.models import (
    InvalidOutputError,
    ModelCall,
    ask_structured,
    explain,
    is_callers_to_fix,
    is_retryable,
)
from sot_graph.prompts.delimiters import escape_delimiters
from sot_graph.prompts.rendering import numbered_list, skeleton_messages, skeleton_prefill
from sot_graph.skeleton.depending import PointSieve
from sot_graph.skeleton.parsing import MOST_ITEMS, parse_skeleton
from sot_graph.skeleton.schema import SkeletonSchema, skeleton_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from sot_graph.models import LoopModel, Reply
    from sot_graph.models.structured import StructuredMode
    from sot_graph.prompts import SotPrompts
    from sot_graph.runs import Task
    from sot_graph.types import ChatTurn, SkeletonPoint

__all__ = [
    "Draft",
    "Drafting",
    "NoSkeletonError",
    "Revision",
    "draft_skeleton",
    "listed",
    "skeleton_call_messages",
    "without_prefill",
]

logger = logging.getLogger("sot_graph")

_CALL_SETTINGS_OF_LISTS = frozenset({"stop"})
"""Settings that only make sense for numbered lines: JSON must not stop at a blank line."""


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


@dataclass(frozen=True, slots=True)
class Revision:
    """A skeleton that was rejected, and why."""

    text: str
    comment: str


def skeleton_call_messages(
    task: Task,
    prompts: SotPrompts,
    question: str,
    history: Sequence[ChatTurn],
    skeleton_format: str,
    revision: Revision | None = None,
    *,
    may_depend: bool = False,
) -> list[BaseMessage]:
    """The messages of the skeleton's call; the expansions begin with the same (without a revision)."""
    options = task.options
    messages = skeleton_messages(
        prompts,
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
    comment = escape_delimiters(revision.comment)
    again = HumanMessage(
        "The reader rejects this skeleton and says:\n"
        f"<comment>\n{comment}\n</comment>\nWrite another one, in the same form, that meets this."
    )
    return [*messages, AIMessage(escape_delimiters(revision.text)), again, *prefill]


async def draft_skeleton(
    task: Task,
    model: LoopModel,
    prompts: SotPrompts,
    question: str,
    history: Sequence[ChatTurn],
    revision: Revision | None = None,
    *,
    may_depend: bool = False,
) -> Draft:
    """Ask for a skeleton, in one format and then in the other.

    Raises:
        NoSkeletonError: The model answers, but in neither format with enough points.
        SkeletonError: The model could not be asked, or not in time.
        SotConfigError: The provider refused the key or the model's name.
    """
    drafting = Drafting(task, model, prompts, question, history, revision, may_depend)
    return await drafting.in_each_format(drafting.attempt)


@dataclass(frozen=True, slots=True)
class Drafting:
    """What getting a skeleton from a model takes, however its reply is read."""

    task: Task
    model: LoopModel
    prompts: SotPrompts
    question: str
    history: Sequence[ChatTurn]
    revision: Revision | None = None
    may_depend: bool = False
    """Whether points may say which others they need."""

    async def in_each_format(self, attempt: Callable[[str], Awaitable[Draft]]) -> Draft:
        """What an attempt in one format gives, or else one in the other, within the time for it.

        Raises:
            NoSkeletonError: The model answers, but in neither format with enough points.
            SkeletonError: The model could not be asked, or not in time.
            SotConfigError: The provider refused the key or the model's name.
        """
        own = self.task.options.skeleton_timeout
        limit = self.task.seconds_left(own)
        formats = self._formats()
        reasons: list[str] = []
        try:
            async with asyncio.timeout(limit) as timer:
                for position, name in enumerate(formats):
                    try:
                        async with self._provider_errors(name):
                            return await attempt(name)
                    except NoSkeletonError as error:
                        reasons.append(str(error))
                        last = position == len(formats) - 1
                        following = "answering directly" if last else f"asking in the {formats[position + 1]} format"
                        logger.warning("No skeleton in the %s format (%s); %s.", name, error, following)
        except TimeoutError as error:
            if limit is None or not timer.expired():  # the model's own
                raise SkeletonError(f"The skeleton could not be had: {explain(error)}.") from error  # noqa: EM102
            which, seconds = ("skeleton_timeout", own) if limit == own else ("deadline", self.task.options.deadline)
            message = (
                f"The skeleton was not there after {seconds:.3g} s ({which}): raise it (SotOptions, in seconds), or "
                "use a faster skeleton_model."
            )
            raise SkeletonError(message) from error
        raise NoSkeletonError("; ".join(reasons))

    def _formats(self) -> Sequence[str]:
        if self.prompts.skeleton_format:
            return [self.prompts.skeleton_format]
        return sorted(("list", "structured"), key=lambda name: name != self.task.options.skeleton_format)

    async def attempt(self, skeleton_format: str) -> Draft:
        """Ask in one format for a whole skeleton."""
        messages = self.messages(skeleton_format)
        return await (self._structured(messages) if skeleton_format == "structured" else self._list(messages))

    def messages(self, skeleton_format: str) -> list[BaseMessage]:
        """The prompt."""
        return skeleton_call_messages(
            self.task,
            self.prompts,
            self.question,
            self.history,
            skeleton_format,
            self.revision,
            may_depend=self.may_depend,
        )

    @asynccontextmanager
    async def _provider_errors(self, skeleton_format: str) -> AsyncIterator[None]:
        """Failures come out as `NoSkeletonError`, or as an error that ends the run."""
        try:
            yield
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
            if skeleton_format == "structured" and self.prompts.skeleton_format is None:
                # A model or server that knows no schemas may still write lists.
                raise NoSkeletonError(explain(error)) from error
            raise SkeletonError(f"No skeleton: {explain(error)}.") from error  # noqa: EM102

    def call(self, skeleton_format: str) -> ModelCall:
        """How to call the model."""
        settings: Mapping[str, Any] = self.prompts.skeleton_settings
        name = "write skeleton as a list"
        if skeleton_format == "structured":
            name = "write skeleton"
            settings = {key: value for key, value in settings.items() if key not in _CALL_SETTINGS_OF_LISTS}
        config = self.task.child_config(run_name=name, stage="skeleton")
        return ModelCall(self.model, "skeleton", self.task, config, settings)

    def sieve(self, known: Sequence[SkeletonPoint] = ()) -> PointSieve:
        """What makes points of raw titles."""
        return PointSieve(
            max_words=self.prompts.max_title_words,
            drop_similar=self.prompts.drop_similar_titles,
            depends=self.may_depend,
            known=known,
        )

    def _points(self, raw: Sequence[str]) -> list[SkeletonPoint]:
        sieve = self.sieve()
        for item in islice(raw, MOST_ITEMS):
            sieve.take(item)
        return sieve.points

    async def _structured(self, messages: list[BaseMessage]) -> Draft:
        options = self.task.options
        mode: StructuredMode = options.structured_mode
        call = self.call("structured")
        try:
            parsed, text = await ask_structured(
                call,
                messages,
                self._schema(),
                mode=mode,
                max_reasks=options.max_reasks,
                repair=self.json_from_list,
            )
        except InvalidOutputError as error:
            # Some models never write JSON, whatever they are told, but a fine list.
            most = 0
            for reply in reversed(error.replies):
                raw = parse_skeleton(reply)
                usable = len(self._points(raw))
                if usable >= self.fewest:
                    return self._settle(raw, reply, "structured")
                most = max(most, usable)
            reason = self._too_few(most) if most else "the model's reply was not the JSON that was asked for"
            call.trace.reject(reason)
            raise NoSkeletonError(reason) from error
        return self._settle(parsed.points, text, "structured")

    def _schema(self) -> type[SkeletonSchema]:
        return skeleton_schema(
            self.fewest, max_words=self.prompts.max_title_words, drop_similar=self.prompts.drop_similar_titles
        )

    def json_from_list(self, text: str) -> str | None:
        """A list in place of the JSON that was asked for is as good: no need to ask again."""
        raw = parse_skeleton(text)
        if len(self._points(raw)) < self.fewest:
            return None
        return json.dumps({"points": raw})

    async def _list(self, messages: list[BaseMessage]) -> Draft:
        options = self.task.options
        prefill = skeleton_prefill(self.prompts)
        call = self.call("list")
        reason = "the model wrote nothing"
        for attempt in range(options.max_reasks + 1):
            if attempt:
                logger.warning("skeleton: %s; asking again.", reason)
            reply = await call.ask(messages)
            text = listed(reply, prefill)
            raw = parse_skeleton(text)
            usable = len(self._points(raw))
            if usable >= self.fewest:
                return self._settle(raw, text, "list")
            reason = "the model declined" if reply.was_refused else self._too_few(usable)
            call.trace.reject(reason)
            if reply.was_refused:
                break
            again = HumanMessage(
                f"That list has {usable} usable points. Write it again with at least {self.fewest} "
                "different points, as a numbered list only, one title a line."
            )
            messages = [*without_prefill(messages), AIMessage(text), again]
            if prefill:
                messages.append(AIMessage(prefill))
        raise NoSkeletonError(reason)

    def _too_few(self, usable: int) -> str:
        return f"{usable} usable points of at least {self.fewest}"

    @property
    def fewest(self) -> int:
        """Points that a skeleton must have."""
        return min(self.task.options.min_points, self.most)

    @property
    def most(self) -> int:
        """Points that it may have."""
        most = self.task.options.max_points
        return most if self.prompts.max_points is None else min(most, self.prompts.max_points)

    def warn_of_too_many(self, how_many: str) -> None:
        """Tell the log that the skeleton is cut: once a run, however many are drafted in it."""
        if "too many points" in self.task.shared.told:
            return
        self.task.shared.told.add("too many points")
        by_options = self.most == self.task.options.max_points
        # A profile whose models aren't told how many points they may write has them cut as a matter of course.
        level, whose = (logging.WARNING, "max_points") if by_options else (logging.INFO, "the prompts' max_points")
        logger.log(level, "The skeleton has %s points; the first %d are kept (%s).", how_many, self.most, whose)

    def _settle(self, raw: Sequence[str], text: str, skeleton_format: str) -> Draft:
        points = self._points(raw)
        if len(points) > self.most:
            self.warn_of_too_many(str(len(points)))
            points = points[: self.most]
        if not _says_the_same(text, raw, [point["title"] for point in points]):
            text = numbered_list(points)
        return Draft(points, text, skeleton_format)


def listed(reply: Reply, prefill: str) -> str:
    """The whole list, whether the server repeats the prefill, goes on after it, or never minded it."""
    text = reply.text
    has_it = any(line.lstrip().startswith(prefill) for line in text.splitlines())
    if prefill and not has_it:
        text = f"{prefill} {text.lstrip()}"
    return text.rpartition("\n")[0] if reply.was_cut_off else text  # half a title is worse than none


def without_prefill(messages: list[BaseMessage]) -> list[BaseMessage]:
    """The prompt without what it puts into the model's mouth."""
    return messages[:-1] if isinstance(messages[-1], AIMessage) else messages


def _says_the_same(text: str, raw: Sequence[str], titles: Sequence[str]) -> bool:
    """Whether the model's text holds these titles and next to nothing else.

    Then it may go, to the letter, into the expansions' prompts. A title that had to be cleaned, or text around the
    titles, may not.
    """
    structure = 16 * len(titles) + 64
    return [item.strip() for item in raw] == list(titles) and len(text) <= sum(map(len, titles)) + structure
