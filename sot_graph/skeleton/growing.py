"""A skeleton that is used while it is still being written: each point is there as soon as its title is whole."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from langchain_core.messages import AIMessage, HumanMessage
from openai import LengthFinishReasonError

from sot_graph.errors import SkeletonError
from sot_graph.models import BrokenStreamError, InvalidOutputError, ask_structured, explain
from sot_graph.prompts.delimiters import escape_delimiters
from sot_graph.prompts.messages import numbered_list, skeleton_prefill
from sot_graph.skeleton.asking import Draft, Drafting, NoSkeletonError, listed, without_prefill
from sot_graph.skeleton.parsing import parse_skeleton
from sot_graph.skeleton.scanning import TitleScanner
from sot_graph.skeleton.schema import SkeletonSchema

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from sot_graph.types import SkeletonPoint

__all__ = ["GrowingSkeleton", "skeleton_as_written"]

logger = logging.getLogger("sot_graph")

_End: TypeAlias = Literal["whole", "broken", "cut", "invalid", "refused"]
"""How a reply ended: as it should, on its way, at a token limit, not as JSON, or not at all."""


_REASONS: Mapping[_End, str] = {"cut": "the reply was cut off", "refused": "the model declined"}


_FORMS: Mapping[str, str] = {
    "structured": 'Reply with JSON only: {"points":["title","title"]}',
    "list": "Reply with a numbered list only, one title a line.",
}


_MOST_REPEATS = 20
"""Titles in a row that say nothing new: a model that is caught in a loop doesn't come out of it."""
_LONGEST_END = 200
"""Characters that may stand behind the last title: brackets, a fence, a friendly word."""


class _EnoughError(Exception):
    """The reply goes on, and nothing more of it is wanted."""


def skeleton_as_written(points: Sequence[SkeletonPoint], skeleton_format: str) -> str:
    """The skeleton as a model writes it in this format, be it only the beginning of one."""
    if skeleton_format == "structured":
        titles = [point["title"] for point in points]
        return json.dumps({"points": titles}, ensure_ascii=False, separators=(",", ":"))
    return numbered_list(points)


class GrowingSkeleton:
    """Drafts a skeleton, and gives out its points one by one while the model writes.

    A point that was given out stays. A reply that breaks off, isn't valid or has too few points is not asked for again
    as a whole: the model is shown what is kept, and asked for the rest. A reply that goes on when there are points
    enough is closed.

    Args:
        drafting: How to ask.
        known: Points that were given out before, by a process that is gone.
    """

    def __init__(self, drafting: Drafting, known: Sequence[SkeletonPoint] = ()) -> None:
        self._drafting = drafting
        self._sieve = drafting.sieve(known)
        self._points: asyncio.Queue[SkeletonPoint | None] = asyncio.Queue()
        self.is_whole = False
        """Whether the model came to its skeleton's end, and nothing is missing."""
        self._is_over = False
        """Whether there were more points than may be."""
        self._repeats = 0
        self._work = asyncio.create_task(self._run())

    async def next(self) -> SkeletonPoint | None:
        """The next point; `None`: there are no more."""
        return await self._points.get()

    async def draft(self) -> Draft:
        """The whole skeleton, once there are no more points.

        Raises:
            NoSkeletonError: The model answers, but in no format with a point.
            SkeletonError: It could not be asked, or not in time, and there is no point either.
            SotConfigError: The provider refused the key or the model's name.
        """
        return await self._work

    async def close(self) -> None:
        """End what is still under way."""
        self._work.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self._work

    async def _run(self) -> Draft:
        try:
            return await self._drafting.in_each_format(self._attempt)
        except (NoSkeletonError, SkeletonError) as error:
            if not self._sieve.points:
                raise
            return self._settled(self._drafting.task.options.skeleton_format, str(error))
        finally:
            self._points.put_nowait(None)

    async def _attempt(self, skeleton_format: str) -> Draft:
        """Ask in one format, and then for what is missing."""
        options = self._drafting.task.options
        chances: dict[_End, int] = dict.fromkeys(("whole", "cut", "invalid"), options.max_reasks)
        chances |= {"broken": options.max_retries, "refused": 0}
        while True:
            end, reason = await self._ask(skeleton_format)
            usable = len(self._sieve.points)
            if end == "whole" and usable >= self._drafting.fewest:
                return self._settled(skeleton_format)
            chances[end] -= 1
            if usable >= self._drafting.most or (chances[end] < 0 and usable >= self._drafting.fewest):
                return self._settled(skeleton_format, reason)
            if chances[end] < 0:
                raise NoSkeletonError(reason)
            logger.warning("skeleton: %s; asking %s.", reason, "for the rest" if usable else "again")

    async def _ask(self, skeleton_format: str) -> tuple[_End, str]:
        """One call: its points are given out as they come; how it ended, and what is wrong with it."""
        drafting = self._drafting
        messages = self._messages(skeleton_format)
        prefill = skeleton_prefill(drafting.prompts) if messages and isinstance(messages[-1], AIMessage) else ""
        scanned = _Scanned(self._take, self._has_enough, prefill)
        self._sieve.begin_list()
        self._repeats = 0
        on_text = None if drafting.task.options.stream is False else scanned.feed
        end: _End = "whole"
        try:
            if skeleton_format == "structured":
                schema, mode = SkeletonSchema, drafting.task.options.structured_mode
                call = drafting.call(skeleton_format)
                parsed, _ = await ask_structured(
                    call, messages, schema, mode=mode, max_reasks=0, repair=drafting.json_from_list, on_text=on_text
                )
                raw = parsed.points
            else:
                reply = await drafting.call(skeleton_format).ask(messages, on_text=on_text)
                raw = parse_skeleton(listed(reply, prefill))
                end = "refused" if reply.was_refused else "cut" if reply.was_cut_off else "whole"
        except BrokenStreamError as error:
            if isinstance(error.__cause__, _EnoughError):
                return end, self._usable
            if isinstance(error.__cause__, LengthFinishReasonError):
                return "cut", _REASONS["cut"]
            return "broken", f"the reply broke off ({explain(error.__cause__ or error)})"
        except InvalidOutputError as error:
            last = error.replies[-1] if error.replies else ""
            # Not every provider says that a reply was cut off. Its last title may be half of one.
            is_cut = error.was_cut_off or (last.lstrip()[:1] in ("{", "[") and last.rstrip()[-1:] not in ("}", "]"))
            raw = [] if is_cut else parse_skeleton(last)
            end = "cut" if is_cut else "whole" if len(raw) >= drafting.fewest else "invalid"
        except Exception as error:
            if not self._sieve.points:
                raise
            return "refused", explain(error)
        scanned.finish(raw)
        if end == "invalid" and not self._sieve.points:
            return end, "the model's reply was not the JSON that was asked for"
        return end, _REASONS.get(end, self._usable)

    @property
    def _usable(self) -> str:
        return f"{len(self._sieve.points)} usable points of at least {self._drafting.fewest}"

    def _messages(self, skeleton_format: str) -> list[BaseMessage]:
        messages = self._drafting.messages(skeleton_format)
        points = self._sieve.points
        if not points:
            return messages
        fewest, most = self._drafting.fewest - len(points), self._drafting.most - len(points)
        how_many = f"{fewest} to {most} of them" if fewest > 0 else f"{most} at most, none if nothing is missing"
        again = HumanMessage(
            f"These {len(points)} points are kept. Write those that are still missing, {how_many}, different from "
            f"these, in the same form: only the new ones. {_FORMS[skeleton_format]}"
        )
        kept = AIMessage(escape_delimiters(skeleton_as_written(points, skeleton_format)))
        return [*without_prefill(messages), kept, again]

    def _take(self, raw: str) -> None:
        if len(self._sieve.points) == self._drafting.most:
            self._is_over = True
            return
        point = self._sieve.take(raw)
        if point is None:
            self._repeats += 1
        else:
            self._repeats = 0
            self._points.put_nowait(point)

    def _has_enough(self, behind: int) -> bool:
        """Whether a reply with so many characters behind its last title may be closed."""
        is_full = len(self._sieve.points) == self._drafting.most
        return self._is_over or (is_full and behind > _LONGEST_END) or self._repeats > _MOST_REPEATS

    def _settled(self, skeleton_format: str, reason: str = "") -> Draft:
        points = list(self._sieve.points)
        self.is_whole = not reason
        if self._is_over:
            self._drafting.warn_of_too_many("more")
        if reason:
            logger.warning("skeleton: %s; the %d points that are there are used.", reason, len(points))
        return Draft(points, skeleton_as_written(points, skeleton_format), skeleton_format)


class _Scanned:
    """One reply's titles: first those that were whole while it was written, then the others.

    Args:
        take: Takes a title.
        has_enough: Given how many characters came since the last title: whether no more of the reply is wanted.
        prefill: What was put into the model's mouth.
    """

    def __init__(self, take: Callable[[str], None], has_enough: Callable[[int], bool], prefill: str) -> None:
        self._take = take
        self._has_enough = has_enough
        self._prefill = prefill
        self._behind = 0
        self._held = ""
        self._scanner = TitleScanner()
        self._titles: list[str] = []

    def feed(self, piece: str) -> None:
        if self._prefill:  # some servers repeat what was put into the model's mouth
            self._held += piece
            start = self._held.lstrip()
            if len(start) < len(self._prefill):
                return
            piece = self._held if start.startswith(self._prefill) else f"{self._prefill} {start}"
            self._prefill = ""
        titles = self._scanner.feed(piece)
        for raw in titles:
            self._titles.append(raw)
            self._take(raw)
        self._behind = 0 if titles else self._behind + len(piece)
        if self._has_enough(self._behind):
            raise _EnoughError

    def finish(self, raw: Sequence[str]) -> None:
        """The titles of the whole reply: those that weren't seen yet are new."""
        seen = len(self._titles)
        for title in raw[seen:] if list(raw[:seen]) == self._titles else raw:
            self._take(title)
