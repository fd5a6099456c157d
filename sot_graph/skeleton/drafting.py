"""Getting a skeleton from a model: structured or as a list, each the other's fallback."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
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
from sot_graph.prompts.rendering import escape_delimiters, numbered_list, skeleton_messages, skeleton_prefill
from sot_graph.skeleton.parsing import clean_titles, number_points, parse_skeleton
from sot_graph.skeleton.schema import SkeletonSchema, skeleton_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sot_graph.models import LoopModel
    from sot_graph.models.structured import StructuredMode
    from sot_graph.prompts import SotPrompts
    from sot_graph.runs import Task
    from sot_graph.types import ChatTurn, SkeletonPoint

__all__ = ["Draft", "NoSkeletonError", "Revision", "draft_skeleton", "skeleton_call_messages"]

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
) -> Draft:
    """Ask for a skeleton, in one format and then in the other.

    Raises:
        NoSkeletonError: The model answers, but in neither format with enough points.
        SkeletonError: The model could not be asked, or not in time.
        SotConfigError: The provider refused the key or the model's name.
    """
    drafting = _Drafting(task, model, prompts, question, history, revision)
    formats = (
        [prompts.skeleton_format]
        if prompts.skeleton_format
        else sorted(("list", "structured"), key=lambda name: name != task.options.skeleton_format)
    )
    limit = task.seconds_left(task.options.skeleton_timeout)
    reasons: list[str] = []
    try:
        async with asyncio.timeout(limit) as timer:
            for position, name in enumerate(formats):
                try:
                    return await drafting.attempt(name)
                except NoSkeletonError as error:
                    reasons.append(str(error))
                    last = position == len(formats) - 1
                    following = "answering directly" if last else f"asking in the {formats[position + 1]} format"
                    logger.warning("No skeleton in the %s format (%s); %s.", name, error, following)
    except TimeoutError as error:
        if limit is None or not timer.expired():  # the model's own
            raise SkeletonError(f"The skeleton could not be had: {explain(error)}.") from error  # noqa: EM102
        own = task.options.skeleton_timeout
        which, seconds = ("skeleton_timeout", own) if limit == own else ("deadline", task.options.deadline)
        message = (
            f"The skeleton was not there after {seconds:.3g} s ({which}): raise it (SotOptions, in seconds), or use "
            "a faster skeleton_model."
        )
        raise SkeletonError(message) from error
    raise NoSkeletonError("; ".join(reasons))


@dataclass(frozen=True, slots=True)
class _Drafting:
    task: Task
    model: LoopModel
    prompts: SotPrompts
    question: str
    history: Sequence[ChatTurn]
    revision: Revision | None = None

    async def attempt(self, skeleton_format: str) -> Draft:
        """Ask in one format; failures come out as `NoSkeletonError`, or as an error that ends the run."""
        messages = skeleton_call_messages(
            self.task, self.prompts, self.question, self.history, skeleton_format, self.revision
        )
        try:
            if skeleton_format == "structured":
                return await self._structured(messages)
            return await self._list(messages)
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

    def _call(self, settings: Mapping[str, Any]) -> ModelCall:
        config = self.task.child_config(run_name="draft skeleton", tag="sot:skeleton", metadata={})
        return ModelCall(self.model, "skeleton", self.task, config, settings)

    def _titles(self, raw: Sequence[str]) -> list[str]:
        return clean_titles(raw, max_words=self.prompts.max_title_words, drop_similar=self.prompts.drop_similar_titles)

    async def _structured(self, messages: list[BaseMessage]) -> Draft:
        options = self.task.options
        settings = {
            key: value for key, value in self.prompts.skeleton_settings.items() if key not in _CALL_SETTINGS_OF_LISTS
        }
        mode: StructuredMode = options.structured_mode
        try:
            parsed, text = await ask_structured(
                self._call(settings),
                messages,
                self._schema(),
                mode=mode,
                max_reasks=options.max_reasks,
                repair=self._json_from_list,
            )
        except InvalidOutputError as error:
            # Some models never write JSON, whatever they are told, but a fine list.
            most = 0
            for reply in reversed(error.replies):
                raw = parse_skeleton(reply)
                usable = len(self._titles(raw))
                if usable >= self._fewest():
                    return self._settle(raw, reply, "structured")
                most = max(most, usable)
            reason = self._too_few(most) if most else "the model's reply was not the JSON that was asked for"
            raise NoSkeletonError(reason) from error
        return self._settle(parsed.points, text, "structured")

    def _schema(self) -> type[SkeletonSchema]:
        return skeleton_schema(
            self._fewest(), max_words=self.prompts.max_title_words, drop_similar=self.prompts.drop_similar_titles
        )

    def _json_from_list(self, text: str) -> str | None:
        """A list in place of the JSON that was asked for is as good: no need to ask again."""
        raw = parse_skeleton(text)
        if len(self._titles(raw)) < self._fewest():
            return None
        return json.dumps({"points": raw})

    async def _list(self, messages: list[BaseMessage]) -> Draft:
        options = self.task.options
        prefill = skeleton_prefill(self.prompts)
        call = self._call(self.prompts.skeleton_settings)
        reason = "the model wrote nothing"
        for attempt in range(options.max_reasks + 1):
            if attempt:
                logger.warning("skeleton: %s; asking again.", reason)
            reply = await call.ask(messages)
            text = _with_prefill(reply.text, prefill)
            if reply.was_cut_off:
                text = text.rpartition("\n")[0]  # half a title is worse than none
            raw = parse_skeleton(text)
            titles = self._titles(raw)
            if len(titles) >= self._fewest():
                return self._settle(raw, text, "list")
            if reply.was_refused:
                reason = "the model declined"
                break
            reason = self._too_few(len(titles))
            again = HumanMessage(
                f"That list has {len(titles)} usable points. Write it again with at least {self._fewest()} "
                "different points, as a numbered list only, one title a line."
            )
            messages = [*_without_prefill(messages), AIMessage(text), again]
            if prefill:
                messages.append(AIMessage(prefill))
        raise NoSkeletonError(reason)

    def _too_few(self, usable: int) -> str:
        return f"{usable} usable points of at least {self._fewest()}"

    def _fewest(self) -> int:
        most = self.prompts.max_points
        fewest = self.task.options.min_points
        return fewest if most is None else min(fewest, most)

    def _settle(self, raw: Sequence[str], text: str, skeleton_format: str) -> Draft:
        titles = self._titles(raw)
        most = min(self.task.options.max_points, self.prompts.max_points or self.task.options.max_points)
        if len(titles) > most:
            whose = "the prompts' max_points" if most == self.prompts.max_points else "max_points"
            logger.warning("The skeleton has %d points; the first %d are kept (%s).", len(titles), most, whose)
            titles = titles[:most]
        points = number_points(titles)
        if not _says_the_same(text, raw, titles):
            text = numbered_list(points)
        return Draft(points, text, skeleton_format)


def _with_prefill(text: str, prefill: str) -> str:
    """The whole list, whether the server repeats the prefill, goes on after it, or never minded it."""
    has_it = any(line.lstrip().startswith(prefill) for line in text.splitlines())
    return text if has_it or not prefill else f"{prefill} {text.lstrip()}"


def _without_prefill(messages: list[BaseMessage]) -> list[BaseMessage]:
    return messages[:-1] if isinstance(messages[-1], AIMessage) else messages


def _says_the_same(text: str, raw: Sequence[str], titles: Sequence[str]) -> bool:
    """Whether the model's text holds these titles and next to nothing else.

    Then it may go, to the letter, into the expansions' prompts. A title that had to be cleaned, or text around the
    titles, may not.
    """
    structure = 16 * len(titles) + 64
    return [item.strip() for item in raw] == list(titles) and len(text) <= sum(map(len, titles)) + structure
