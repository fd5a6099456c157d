"""A skeleton that is used once it is whole: structured or as a list, asked for again where the reply is of no use."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, HumanMessage

from sot_graph.models import InvalidOutputError, ask_structured
from sot_graph.prompts.messages import numbered_list, skeleton_prefill
from sot_graph.skeleton.asking import Draft, Drafting, NoSkeletonError, Revision, listed, without_prefill
from sot_graph.skeleton.parsing import parse_skeleton
from sot_graph.skeleton.scanning import TitleScanner
from sot_graph.skeleton.schema import SkeletonSchema, skeleton_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

    from sot_graph.models import LoopModel
    from sot_graph.models.structured import StructuredMode
    from sot_graph.prompts.templates import SotPrompts
    from sot_graph.runs import Task
    from sot_graph.types import ChatTurn

__all__ = ["draft_skeleton"]

logger = logging.getLogger("sot_graph")


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
    return await drafting.in_each_format(_WholeReply(drafting).attempt)


class _WholeReply:
    """Asks for a skeleton in one format, and reads the whole reply."""

    def __init__(self, drafting: Drafting) -> None:
        self._drafting = drafting

    async def attempt(self, skeleton_format: str) -> Draft:
        """Ask in one format for a whole skeleton."""
        messages = self._drafting.messages(skeleton_format)
        return await (self._structured(messages) if skeleton_format == "structured" else self._list(messages))

    async def _structured(self, messages: list[BaseMessage]) -> Draft:
        options = self._drafting.task.options
        mode: StructuredMode = options.structured_mode
        call = self._drafting.call("structured")
        try:
            parsed, text = await ask_structured(
                call,
                messages,
                self._schema(),
                mode=mode,
                max_reasks=options.max_reasks,
                repair=self._drafting.json_from_list,
            )
        except InvalidOutputError as error:
            # Some models never write JSON, whatever they are told, but a fine list.
            most = 0
            for reply in reversed(error.replies):
                raw = parse_skeleton(reply)
                usable = len(self._drafting.points(raw))
                if usable >= self._drafting.fewest:
                    return self._settle(raw, reply, "structured")
                most = max(most, usable)
            if error.was_cut_off and (titles := self._enough_titles(error.replies[-1])):
                return self._settle(titles, error.replies[-1], "structured")
            reason = self._too_few(most) if most else _no_json(error)
            call.trace.reject(reason)
            raise NoSkeletonError(reason) from error
        return self._settle(parsed.points, text, "structured")

    def _enough_titles(self, reply: str) -> list[str]:
        """The whole titles of a reply that was cut off, where it has as many as there may be: it might never end."""
        titles = TitleScanner().feed(reply)
        return titles if len(self._drafting.points(titles)) >= self._drafting.most else []

    def _schema(self) -> type[SkeletonSchema]:
        return skeleton_schema(
            self._drafting.fewest,
            max_words=self._drafting.prompts.max_title_words,
            drop_similar=self._drafting.prompts.drop_similar_titles,
        )

    async def _list(self, messages: list[BaseMessage]) -> Draft:
        options = self._drafting.task.options
        prefill = skeleton_prefill(self._drafting.prompts)
        call = self._drafting.call("list")
        reason = "the model wrote nothing"
        for attempt in range(options.max_reasks + 1):
            if attempt:
                logger.warning("skeleton: %s; asking again.", reason)
            reply = await call.ask(messages)
            text = listed(reply, prefill)
            raw = parse_skeleton(text)
            usable = len(self._drafting.points(raw))
            if usable >= self._drafting.fewest:
                return self._settle(raw, text, "list")
            reason = "the model declined" if reply.was_refused else self._too_few(usable)
            call.trace.reject(reason)
            if reply.was_refused:
                break
            again = HumanMessage(
                f"That list has {usable} usable points. Write it again with at least {self._drafting.fewest} "
                "different points, as a numbered list only, one title a line."
            )
            messages = [*without_prefill(messages), AIMessage(text), again]
            if prefill:
                messages.append(AIMessage(prefill))
        raise NoSkeletonError(reason)

    def _too_few(self, usable: int) -> str:
        return f"{usable} usable points of at least {self._drafting.fewest}"

    def _settle(self, raw: Sequence[str], text: str, skeleton_format: str) -> Draft:
        points = self._drafting.points(raw)
        if len(points) > self._drafting.most:
            self._drafting.warn_of_too_many(str(len(points)))
            points = points[: self._drafting.most]
        if not _says_the_same(text, raw, [point["title"] for point in points]):
            text = numbered_list(points)
        return Draft(points, text, skeleton_format)


def _says_the_same(text: str, raw: Sequence[str], titles: Sequence[str]) -> bool:
    """Whether the model's text holds these titles and next to nothing else.

    Then it may go, to the letter, into the expansions' prompts. A title that had to be cleaned, or text around the
    titles, may not.
    """
    structure = 16 * len(titles) + 64
    return [item.strip() for item in raw] == list(titles) and len(text) <= sum(map(len, titles)) + structure


def _no_json(error: InvalidOutputError) -> str:
    return (
        "the model's reply was cut off"
        if error.was_cut_off
        else "the model's reply was not the JSON that was asked for"
    )
