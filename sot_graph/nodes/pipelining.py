"""`dispatch="pipelined"`: points are begun while the skeleton is still being written.

LangGraph's supersteps are barriers: a `Send` can't go out before its node has ended. So the node itself starts the
points, as LangGraph tasks (`@task`): these run at once, and a checkpointer keeps what each gives. On a resume the node
runs again, and LangGraph gives the tasks' results back in the order of their calls. That is why each title is a task
of its own, too: titles that an earlier process has begun to write points for must come again, and in their places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.runnables.config import ensure_config
from langgraph.func import task as langgraph_task
from typing_extensions import TypedDict

from sot_graph.models import run_in_own_thread
from sot_graph.nodes.announcing import announce_point, announce_skeleton, announce_whole, announce_whole_frame
from sot_graph.nodes.expanding import expand_point
from sot_graph.nodes.framing import write_introduction
from sot_graph.nodes.names import EXPAND_POINT, WRITE_INTRODUCTION
from sot_graph.nodes.settling import (
    DRAFTED,
    IN_THE_CACHE,
    drafting_of,
    no_skeleton,
    recall,
    remember,
    skeleton_key,
    skeleton_keys,
)
from sot_graph.options import frame_parts
from sot_graph.runs import open_task
from sot_graph.skeleton import Draft, GrowingSkeleton, NoSkeletonError, skeleton_as_written
from sot_graph.state import SCHEMA_VERSION, ExpandPointInput, WriteIntroductionInput, add_usage, merge_timings
from sot_graph.types import ChatTurn, StageTiming, Timings

if TYPE_CHECKING:
    from sot_graph.events import SotEvent
    from sot_graph.nodes.kit import Kit, Update
    from sot_graph.runs import Task
    from sot_graph.types import SkeletonPoint, Usage

__all__ = ["can_pipeline", "draft_and_expand"]

NEXT_POINT = "next_point"
"""The name of the tasks that keep the titles, in traces and in `stream_mode="updates"`."""

_Work: TypeAlias = Callable[[Any], Coroutine[Any, Any, Any]]


class _Step(TypedDict, total=False):
    """What a title's task keeps: the next point, or the whole skeleton when there is none."""

    point: SkeletonPoint
    titled: float
    skeleton: list[SkeletonPoint]
    text: str
    skeleton_format: str
    reason: str
    usage: Usage
    end: float


def can_pipeline(task: Task, kit: Kit) -> bool:
    """Whether points may be begun before the skeleton is whole.

    Not before somebody has approved it, and not where LangGraph runs one task at a time: ours would wait for the
    place that their own node holds.
    """
    wanted = task.options.dispatch == "pipelined" and not kit.options.review_skeleton
    return wanted and task.config.get("max_concurrency") != 1


async def draft_and_expand(
    question: str, history: list[ChatTurn], task: Task, kit: Kit, *, why: str | None, start: float, may_depend: bool
) -> Update:
    """Draft the skeleton, and write its points from when each one's title is there.

    Args:
        question: The question.
        history: The conversation before it.
        task: The node's execution.
        kit: What the graph works with.
        why: The reason of the route, where a router gave one.
        start: When the stage began, in seconds from the run's start.
        may_depend: Whether points may say which others they need.
    """
    pipeline = _Pipeline(question, history, task, kit, may_depend=may_depend)
    try:
        end = await pipeline.draft()
        updates = await pipeline.written()
    finally:
        await pipeline.close()
    settled = Draft(end["skeleton"], end["text"], end["skeleton_format"])
    usage = end["usage"]
    timings: Timings = {"skeleton": StageTiming(start=start, end=end["end"])}
    for update in updates:
        usage = add_usage(usage, update["usage"])
        timings = merge_timings(timings, update["timings"])
    return {
        **skeleton_keys(settled, why if why and settled.points else end["reason"]),
        "is_written": bool(settled.points),
        "expansions": [expansion for update in updates for expansion in update.get("expansions", ())],
        "frame": {name: part for update in updates for name, part in update.get("frame", {}).items()},
        "usage": usage,
        "timings": timings,
    }


class _Pipeline:
    def __init__(self, question: str, history: list[ChatTurn], task: Task, kit: Kit, *, may_depend: bool) -> None:
        self._question = question
        self._history = history
        self._task = task
        self._kit = kit
        self._may_depend = may_depend
        self._points: list[SkeletonPoint] = []
        self._kept: Draft | None = None
        self._growing: GrowingSkeleton | None = None
        self._writing: list[asyncio.Task[Update]] = []
        self._begun_here: set[int] = set()
        self._introduced_here = False
        self._context = copy_context()

    async def draft(self) -> _Step:
        """Begin each point when its title is there; the last step, when there are no more."""
        while "point" in (step := await self._next_step()):
            point = step["point"]
            self._points.append(point)
            announce_point(point, self._task, self._kit)
            self._writing.append(asyncio.create_task(self._follow(point, step["titled"], self._begin(point))))
        if self._points:
            announce_skeleton(self._points, [], self._task, self._kit, grown=True)
            if "introduction" in frame_parts(self._kit.options.frame):
                self._writing.append(asyncio.create_task(self._follow_introduction(self._introduce())))
        return step

    async def written(self) -> list[Update]:
        """What `expand_point` gave, point by point, and what `write_introduction` gave."""
        return list(await asyncio.gather(*self._writing))

    async def close(self) -> None:
        """End what is still under way."""
        for writing in self._writing:
            writing.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)
        if self._growing is not None:
            await self._growing.close()

    # --- the skeleton

    async def _next_step(self) -> _Step:
        if not self._task.has_checkpointer:
            return await self._step(len(self._points) + 1)
        step: _Step = await self._start(NEXT_POINT, self._step, len(self._points) + 1)
        return step

    async def _step(self, _index: int) -> _Step:
        """The next point that isn't known yet: those of an earlier process never come by here."""
        if self._kept is None and self._growing is None:
            await self._open()
        known = len(self._points)
        point: SkeletonPoint | None
        if self._growing is not None:
            point = await self._growing.next()
        else:
            assert self._kept is not None
            point = self._kept.points[known] if known < len(self._kept.points) else None
        if point is None:
            return await self._whole()
        return _Step(point=point, titled=self._task.shared.elapsed())

    async def _open(self) -> None:
        kept = await recall(self._task, self._kit, self._key())
        if kept is not None and kept.points[: len(self._points)] == self._points:
            self._kept = kept
        else:
            drafting = drafting_of(self._task, self._kit, self._question, self._history, may_depend=self._may_depend)
            self._growing = GrowingSkeleton(drafting, self._points)

    async def _whole(self) -> _Step:
        if self._kept is not None:
            settled, reason = self._kept, IN_THE_CACHE
        else:
            assert self._growing is not None
            try:
                settled, reason = await self._growing.draft(), DRAFTED
            except NoSkeletonError as error:
                settled, reason = no_skeleton(error)
            if self._growing.is_whole:
                await remember(settled, self._kit, self._key())
        return _Step(
            skeleton=settled.points,
            text=settled.text,
            skeleton_format=settled.skeleton_format,
            reason=reason,
            usage=self._task.meter.usage,
            end=self._task.shared.elapsed(),
        )

    def _key(self) -> str | None:
        return skeleton_key(self._task, self._kit, self._question, self._history, may_depend=self._may_depend)

    # --- the points and the introduction

    def _known(self) -> WriteIntroductionInput:
        """What a text is written from that begins now."""
        skeleton_format = self._task.options.skeleton_format
        points = list(self._points)
        return WriteIntroductionInput(
            run_key=self._task.key,
            schema_version=SCHEMA_VERSION,
            asked=self._question,
            history=self._history,
            skeleton=points,
            skeleton_text=skeleton_as_written(points, skeleton_format),
            skeleton_format=skeleton_format,
            may_depend=self._may_depend,
        )

    def _begin(self, point: SkeletonPoint) -> Awaitable[Update]:
        payload = ExpandPointInput(**self._known(), point=point, needed=[])
        # What it needs stands before it, and LangGraph lets those who wait for a place in by their order: theirs are
        # taken before this one waits for them.
        needed = [self._writing[index - 1] for index in point["depends_on"]]

        async def write(point: SkeletonPoint) -> Update:
            self._begun_here.add(point["index"])
            if needed:
                updates = await asyncio.gather(*map(asyncio.shield, needed))
                payload["needed"] = [expansion for update in updates for expansion in update["expansions"]]
            with self._opened(payload) as task:
                return await expand_point(payload, task, self._kit)

        return self._start(EXPAND_POINT, write, point)

    def _introduce(self) -> Awaitable[Update]:
        async def write(payload: WriteIntroductionInput) -> Update:
            self._introduced_here = True
            with self._opened(payload) as task:
                return await write_introduction(payload, task, self._kit)

        return self._start(WRITE_INTRODUCTION, write, self._known())

    @contextmanager
    def _opened(self, given: Any) -> Iterator[Task]:
        """The execution of a LangGraph task of ours, on what it was given."""
        with open_task(
            self._task.key,
            ensure_config(),
            self._kit.options,
            self._kit.limiter,
            threaded=self._task.threaded,
            emit=self._emit,
        ) as task:
            yield task

    async def _follow(self, point: SkeletonPoint, titled: float, writing: Awaitable[Update]) -> Update:
        update = await writing
        if point["index"] in self._begun_here:
            update["timings"]["points"][0]["titled"] = titled
        else:  # an earlier process wrote it: those who listen to this one have seen nothing of it
            for expansion in update["expansions"]:
                announce_whole(expansion, self._task, self._kit)
        return update

    async def _follow_introduction(self, writing: Awaitable[Update]) -> Update:
        update = await writing
        if not self._introduced_here:
            announce_whole_frame(update["frame"], self._task, self._kit)
        return update

    def _emit(self, event: SotEvent) -> None:
        """As the node does: a task's own events would come from one namespace deeper."""
        self._context.run(self._task.emit, event)

    def _start(self, name: str, work: _Work, argument: Any) -> Awaitable[Any]:
        """Start a LangGraph task, which runs in this thread's loop if the graph is asynchronous."""
        if not self._task.in_graph:
            return asyncio.ensure_future(work(argument))
        if not self._task.threaded:
            return langgraph_task(name=name)(work)(argument)  # type: ignore[arg-type]

        def in_thread(argument: Any) -> Any:
            return run_in_own_thread(work(argument))

        return asyncio.wrap_future(langgraph_task(name=name)(in_thread)(argument))  # type: ignore[arg-type]
