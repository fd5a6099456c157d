"""`dispatch="pipelined"`: points are begun while the skeleton is still being written.

LangGraph's supersteps are barriers: a `Send` can't go out before its node has ended. So the node itself starts the
points, as LangGraph tasks (`@task`): these run at once, and a checkpointer keeps what each gives.

On a resume the node runs again. LangGraph then gives back the results that it kept, to the tasks in the order in which
they are started. A point's text must get to the point with the same title again. So each title is kept by a task of its
own, too, and the drafter is asked only for titles that come after these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langgraph.func import task as langgraph_task
from typing_extensions import TypedDict

from sot_graph._seams import has_checkpointer
from sot_graph.concurrency.background_loop import end_tasks, run_sync_from_worker, take_outcome
from sot_graph.joiners import JoinedAnswer
from sot_graph.nodes import EXPAND_POINT
from sot_graph.nodes.announcements import announce_kept, announce_point, announce_route, announce_skeleton
from sot_graph.nodes.answer_directly import AnswerInDraft, DirectAnswer
from sot_graph.nodes.expand_point import expand_point
from sot_graph.nodes.frame_parts import begin_opening
from sot_graph.options import FRAME_PARTS
from sot_graph.prompts.messages import skeleton_as_written
from sot_graph.run import OWN_STEPS, open_run
from sot_graph.skeleton.answering_drafter import DRAFT, DRAFTED
from sot_graph.skeleton.drafter import Draft
from sot_graph.state import SCHEMA_VERSION, ExpandPointInput, RunFacts, merge_timings
from sot_graph.types import FinishReason, FrameChoice, FramePartName, SkeletonFormat, StageTiming, Timings
from sot_graph.usage import add_usage

if TYPE_CHECKING:
    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import Inquiry, RunContext
    from sot_graph.types import SkeletonPoint, Usage

NEXT_POINT = "next_point"
"""The name of the tasks that keep the titles, in traces and in `stream_mode="updates"`."""

_Coroutine: TypeAlias = Callable[[Any], Coroutine[Any, Any, Any]]


class _Step(TypedDict, total=False):
    """What a title's task keeps: the next point, or the whole skeleton when there is none."""

    frame: FrameChoice
    """What is written around the points: a run that is resumed keeps to it, and so the order of its tasks."""
    point: SkeletonPoint
    titled: float
    skeleton: list[SkeletonPoint]
    text: str
    skeleton_format: str
    reason: str
    usage: Usage
    end: float
    answer: tuple[list[Any], StageTiming, FinishReason] | None
    """An answer in the skeleton's place: a `DirectAnswer`, its `JoinedAnswer` as a list, for the checkpoint."""


async def draft_and_expand(
    run_facts: RunFacts, inquiry: Inquiry, run: RunContext, *, route_reason: str | None, start: float
) -> tuple[Update, DirectAnswer | None]:
    """Draft the skeleton, and write its points from when each one's title is there.

    Returns:
        The node's update, and the answer that the model gave in the skeleton's place.
    """
    if run.threaded:  # a caller who has left reads nothing of what the points' threads raise then
        asyncio.current_task().add_done_callback(take_outcome)  # type: ignore[union-attr]
    pipeline = _Pipeline(run_facts, inquiry, run)
    try:
        end = await pipeline.draft()
        sections = await pipeline.written()
    finally:
        await pipeline.close()
    draft = Draft(end["skeleton"], end["text"], end["skeleton_format"])
    answer = end.get("answer")
    usage = end["usage"]
    timings: Timings = {"skeleton": StageTiming(start=start, end=end["end"])}
    for section in sections:
        usage = add_usage(usage, section["usage"])
        timings = merge_timings(timings, section["timings"])
    update = draft.as_update(end["reason"], route_reason)
    update["draft_facts"]["is_written"] = bool(draft.points)
    update |= {
        "expansions": [expansion for section in sections for expansion in section.get("expansions", ())],
        "frame": {name: part for section in sections for name, part in section.get("frame", {}).items()},
        "usage": usage,
        "timings": timings,
    }
    return update, None if answer is None else DirectAnswer(JoinedAnswer(*answer[0]), *answer[1:])


class _Pipeline:
    """One skeleton that is being drafted, and the tasks that write its points meanwhile."""

    def __init__(self, run_facts: RunFacts, inquiry: Inquiry, run: RunContext) -> None:
        self._run_facts = run_facts
        self._inquiry = inquiry
        self._run = run
        self._points: list[SkeletonPoint] = []
        self._drafting: asyncio.Task[tuple[Draft, str]] | None = None
        self._new_points: asyncio.Queue[SkeletonPoint | None] = asyncio.Queue()
        self._writing: list[asyncio.Task[Update]] = []
        """One task for each point."""
        self._writing_frame: list[asyncio.Task[Update]] = []
        """One task for each text that stands before the points."""
        self._context = copy_context()
        self._answer = AnswerInDraft(inquiry, run, partial(self._in_node, run.emit))

    async def draft(self) -> _Step:
        """Begin each point when its title is there. Returns the last step, which has the whole skeleton."""
        draft_decides = self._run.parts.draft_decides
        while "point" in (step := await self._next_step()):
            point = step["point"]
            if not self._points:
                if draft_decides:
                    announce_route("skeleton", DRAFTED, self._run.emit)
                self._begin_part("opening")
            self._points.append(point)
            announce_point(point, self._run, self._inquiry.material)
            self._writing.append(
                self._begin({**self._payload(), "point": point, "needed": []}, shown=point, titled=step["titled"])
            )
        if self._points:
            announce_skeleton(self._points, [], self._run, material=self._inquiry.material, grown=True)
            self._begin_part("introduction")
        elif not draft_decides:
            self._begin_part("opening")  # a direct answer goes on after it
        elif step.get("answer") is None and not self._answer.has_begun:
            announce_route("direct", step["reason"], self._run.emit)
        return step

    def _begin_part(self, name: FramePartName) -> None:
        if name in FRAME_PARTS[self._run.options.frame]:
            self._writing_frame.append(self._begin({**self._payload(), "part": name}, shown=name))

    async def written(self) -> list[Update]:
        """What `expand_point` gave, point by point, and what was written before the points."""
        return list(await asyncio.gather(*self._writing, *self._writing_frame))

    async def close(self) -> None:
        """End what is still under way."""
        await end_tasks(*self._writing, *self._writing_frame, self._drafting)
        self._answer.flush()

    async def _next_step(self) -> _Step:
        if not has_checkpointer(self._run.config):
            return await self._step(len(self._points) + 1)
        step: _Step = await self._start(NEXT_POINT, self._step, len(self._points) + 1)
        if step["frame"] != self._run.options.frame:
            self._run.options = replace(self._run.options, frame=step["frame"])
        return step

    async def _step(self, _index: int) -> _Step:
        """Draft up to the next point. On a resume LangGraph returns the stored points without calling this.

        The index is the task's input for traces alone.
        """
        if self._drafting is None:
            if not self._points and "opening" in FRAME_PARTS[self._run.options.frame]:
                # If the draft decides, the opening waits to be sent until there are points.
                is_decided = not self._run.parts.draft_decides
                self._in_node(begin_opening, self._inquiry, self._run, is_decided=is_decided)
            drafter = self._answer.drafter(on_point=self._new_points.put_nowait, known=self._points)
            self._drafting = asyncio.create_task(drafter.settle())
            self._drafting.add_done_callback(lambda _: self._new_points.put_nowait(None))
        point = await self._new_points.get()
        if point is not None:
            return _Step(point=point, titled=self._run.elapsed(), frame=self._run.options.frame)
        draft, reason = await self._drafting
        answer = self._answer.finish()
        return _Step(
            frame=self._run.options.frame,
            skeleton=draft.points,
            text=draft.text,
            skeleton_format=draft.skeleton_format,
            reason=reason,
            usage=self._run.meter.as_update,
            end=self._run.elapsed(),
            answer=None if answer is None else (list(answer.joined), answer.timing, answer.finish_reason),
        )

    def _payload(self) -> ExpandPointInput:
        """What a section is written from that begins now."""
        skeleton_format: SkeletonFormat = DRAFT if self._run.parts.draft_decides else self._run.options.skeleton_format
        points = list(self._points)
        draft = Draft(points, skeleton_as_written(points, skeleton_format), skeleton_format)
        return {
            "run_key": self._run.key,
            "schema_version": SCHEMA_VERSION,
            "run_facts": self._run_facts,
            "draft_facts": draft.as_update("")["draft_facts"],
            "history": self._inquiry.history,
            "skeleton": points,
            "material": self._inquiry.material,
        }

    def _begin(self, payload: ExpandPointInput, *, shown: Any, titled: float | None = None) -> asyncio.Task[Update]:
        """Have a section written by a LangGraph task of its own.

        Args:
            payload: What `expand_point` gets.
            shown: What the task's input is in traces.
            titled: When a point's title was there.
        """
        parts, is_begun_here = self._run.parts, False
        # A point needs only earlier points. LangGraph gives out places in order, so those points got theirs first, and
        # waiting for them here can't deadlock.
        needed = [self._writing[index - 1] for index in (payload["point"]["depends_on"] if "point" in payload else ())]

        async def write(_shown: Any) -> Update:
            nonlocal is_begun_here
            is_begun_here = True
            if needed:
                updates = await asyncio.gather(*map(asyncio.shield, needed))
                payload["needed"] = [expansion for update in updates for expansion in update["expansions"]]
            # Its own has the graph's limit of steps, and not the caller's.
            config = ensure_config()
            config["recursion_limit"] = self._run.config.get("recursion_limit", OWN_STEPS)
            var_child_runnable_config.set(config)
            with open_run(
                config,
                parts.options,
                parts=parts,
                key=self._run.key,
                threaded=self._run.threaded,
                write=partial(self._in_node, self._run.write),  # the task's own would send from a namespace below
            ) as run:
                return await expand_point(payload, run)

        async def follow() -> Update:
            update: Update = await writing
            if not is_begun_here:
                # An earlier process wrote it: those who listen to this one have seen nothing of it.
                announce_kept(update.get("expansions", ()), update.get("frame", {}), self._run)
            elif titled is not None:
                update["timings"]["points"][0]["titled"] = titled
            return update

        writing = self._start(EXPAND_POINT, write, shown)
        return asyncio.create_task(follow())

    def _in_node(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call a function with the node's context variables, as LangGraph needs them to send an event from the node.

        They are a copy: points may be written in threads, and two threads can't enter one context.
        """
        self._context.copy().run(function, *args, **kwargs)

    def _start(self, name: str, work: _Coroutine, argument: Any) -> Awaitable[Any]:
        """Start a LangGraph task, which runs in this thread's loop if the graph is asynchronous."""
        if not self._run.in_graph:
            return asyncio.ensure_future(work(argument))
        if not self._run.threaded:
            return langgraph_task(name=name)(work)(argument)  # type: ignore[arg-type]

        def in_thread(argument: Any) -> Any:
            return run_sync_from_worker(work(argument))

        return asyncio.wrap_future(langgraph_task(name=name)(in_thread)(argument))  # type: ignore[arg-type]
