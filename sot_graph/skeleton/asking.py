"""Asking a model for a skeleton: the prompt, the call, the formats in turn, the limits, and what can go wrong."""

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
from sot_graph.models import ModelCall, explain, is_callers_to_fix, is_retryable
from sot_graph.prompts.delimiters import escape_delimiters
from sot_graph.prompts.messages import skeleton_messages
from sot_graph.skeleton.depending import PointSieve
from sot_graph.skeleton.parsing import MOST_ITEMS, parse_skeleton

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from sot_graph.models import LoopModel, Reply
    from sot_graph.prompts.templates import SotPrompts
    from sot_graph.runs import Task
    from sot_graph.types import ChatTurn, SkeletonPoint

__all__ = [
    "Draft",
    "Drafting",
    "NoSkeletonError",
    "Revision",
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
                f"The skeleton was not there after {seconds:.3g} s: raise SotOptions.{which}, or use a faster "
                "skeleton_model."
            )
            raise SkeletonError(message) from error
        raise NoSkeletonError("; ".join(reasons))

    def _formats(self) -> Sequence[str]:
        if self.prompts.skeleton_format:
            return [self.prompts.skeleton_format]
        return sorted(("list", "structured"), key=lambda name: name != self.task.options.skeleton_format)

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

    def points(self, raw: Sequence[str]) -> list[SkeletonPoint]:
        """The points that raw titles make."""
        sieve = self.sieve()
        for item in islice(raw, MOST_ITEMS):
            sieve.take(item)
        return sieve.points

    def json_from_list(self, text: str) -> str | None:
        """A list in place of the JSON that was asked for is as good: no need to ask again."""
        raw = parse_skeleton(text)
        if len(self.points(raw)) < self.fewest:
            return None
        return json.dumps({"points": raw})

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
