"""`write_opening`: the short answer, begun with the skeleton and read while the points are written.

LangGraph's supersteps are barriers, and the points must not wait for an opening that is still being written. So it is
a task of the run, begun where the skeleton is and ended with the run. The node of this name, beside the points, takes
it over.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from sot_graph.concurrency.background_loop import create_run_task
from sot_graph.nodes.expand_point import describe_frame_part, text_basis, write_frame_part
from sot_graph.options import FRAME_PARTS
from sot_graph.prompts.messages import opening_messages
from sot_graph.run import open_run
from sot_graph.usage import empty_usage
from sot_graph.writing.writer import WrittenText

if TYPE_CHECKING:
    from sot_graph.events import SotEvent
    from sot_graph.nodes.graph_node import Update
    from sot_graph.run import RunContext
    from sot_graph.state import WriteIntroductionInput
    from sot_graph.types import ChatTurn

_LATE = "nothing of it was there when the first point could be read"


async def write_opening(payload: WriteIntroductionInput, run: RunContext) -> Update:
    """Take over the opening that was begun with the skeleton; where none was, as on a resumed run, write it now."""
    run.trace.describe_node(stage="frame", sot_frame_part="opening")
    opening = run.invocation.opening
    if opening is None:
        basis = text_basis(payload, run)
        opening = Opening(basis["asked"], basis["history"], run)
    update = await opening.finished()
    if update is None:
        return {"frame": {}, "usage": run.meter.usage, "timings": {}}
    describe_frame_part("opening", update, run)
    return update


def begin_opening(question: str, history: list[ChatTurn], run: RunContext, *, is_decided: bool = True) -> None:
    """Begin the opening, where one is wanted; not before a review, which nobody may come back from.

    Args:
        question: The question.
        history: The conversation before it.
        run: The node's execution.
        is_decided: Whether there will be points. Else nothing of it is told before `sot.route` says so.
    """
    options = run.graph.options
    if "opening" in FRAME_PARTS[options.frame] and not options.review_skeleton:
        Opening(question, history, run, is_decided=is_decided)


async def opening_alone(run: RunContext) -> Update:
    """What an opening gives that no points will follow: a direct answer goes on after it."""
    opening = run.invocation.opening
    update = None if opening is None else await opening.finished()
    return update or {"frame": {}, "usage": empty_usage(), "timings": {}}


class Opening:
    """An opening that is being written. Nothing of it that was told is taken back.

    Args:
        question: The question.
        history: The conversation before it.
        run: The execution of the node that begins it.
        is_decided: Whether there will be points.
    """

    def __init__(self, question: str, history: list[ChatTurn], run: RunContext, *, is_decided: bool = True) -> None:
        self._begun_by = run
        self._own: RunContext | None = None
        # Points that are written in threads of their own speak at the same time.
        self._lock = threading.Lock()
        self._held: list[SotEvent] | None = None if is_decided else []
        self._has_text = self._is_late = self._is_dropped = False
        self._loop = asyncio.get_running_loop()
        self._gives_up = asyncio.Event()
        run.invocation.opening = self
        self._task = create_run_task(self._write(partial(opening_messages, run.graph.prompts, question, history)))

    def passes(self, event: SotEvent) -> bool:
        """Whether an event of the run is to be told now. What is decided by it is done here, before anybody hears it.

        Where a router or the draft decides for a direct answer, the opening is dropped unheard. Where the first point
        can be read before anything of the opening is there, the answer begins with the points.
        """
        kind = event["type"]
        with self._lock:
            if event.get("part") == "opening":
                if self._is_dropped or (self._is_late and kind != "sot.frame.end"):
                    return False
                self._has_text |= kind != "sot.frame.start"  # what is held is told in a moment, and comes first
                if self._held is not None:
                    self._held.append(event)
                    return False
                return True
            if kind == "sot.point.delta" and event.get("index") == 1 and not self._has_text and not self._is_late:
                self._is_late = True
                self._loop.call_soon_threadsafe(self._gives_up.set)
                return True
        if kind == "sot.route" and self._held is not None:
            if event.get("route") == "skeleton":
                self._loop.call_soon_threadsafe(self._show)
            else:
                self._drop()
        return True

    async def finished(self) -> Update | None:
        """The node's update, once it is written; `None` where it was dropped."""
        if self._is_dropped:
            await self.close()
            return None
        return await self._task

    async def close(self) -> None:
        """End it; what became of it is nobody's concern."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _show(self) -> None:
        with self._lock:
            held, self._held = self._held or [], None
        for event in held:
            if self._own is not None:
                self._own.emit(event)

    def _drop(self) -> None:
        self._is_dropped = True
        self._loop.call_soon_threadsafe(self._task.cancel)
        if self._own is not None:  # its call counts where it was begun, with all that is still to be known of it
            self._begun_by.meter.add_usage(self._own.meter.usage)
            self._own.meter = self._begun_by.meter

    async def _write(self, messages: Any) -> Update:
        run = self._begun_by
        settings: Any = {"graph": run.graph, "key": run.key, "threaded": run.threaded, "write": run.write}
        with open_run(run.config, run.graph.options, **settings) as self._own:
            writing = asyncio.create_task(write_frame_part("opening", messages, self._own))
            given_up = asyncio.create_task(self._gives_up.wait())
            try:
                await asyncio.wait({writing, given_up}, return_when=asyncio.FIRST_COMPLETED)
                if not self._is_late:
                    return await writing
            finally:
                writing.cancel()
                given_up.cancel()
                await asyncio.gather(writing, given_up, return_exceptions=True)
            return await write_frame_part("opening", messages, self._own, written=WrittenText("", "timed_out", _LATE))
