"""The texts around the points: an opening or an introduction, and a conclusion.

LangGraph's supersteps are barriers, and the points must not wait for an opening that is still being written. So an
opening is a task of the run, begun where the skeleton is and ended with the run; `expand_point` takes it over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sot_graph._seams import state_reader
from sot_graph.citations import number_sources, without_its_citations
from sot_graph.concurrency.background_loop import create_run_task, end_tasks
from sot_graph.joiners import shown_expansions
from sot_graph.nodes.announcements import announce_frame_end, citing
from sot_graph.nodes.join import numbering_of
from sot_graph.nodes.question_input import section_basis
from sot_graph.prompts.messages import frame_messages, opening_messages
from sot_graph.retrieval.grounding import Grounds
from sot_graph.run import open_run
from sot_graph.state import current_expansions
from sot_graph.types import Expansion, FramePart, FramePartName
from sot_graph.writing.cleaner import TextCleaner
from sot_graph.writing.writer import Section, WrittenText, write_text

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from sot_graph.events import SotEvent
    from sot_graph.nodes.graph_node import Update
    from sot_graph.nodes.question_input import SectionBasis
    from sot_graph.run import Inquiry, RunContext
    from sot_graph.types import Material

logger = logging.getLogger("sot_graph")

_LATE = "nothing of it was there when the first point could be read"


async def write_part(name: FramePartName, payload: Mapping[str, Any], run: RunContext) -> Update:
    """Write the opening, the introduction or the conclusion, from what the `Send` carries or the state holds."""
    run.trace.describe_node(name=f"write_{name}", stage="frame", sot_frame_part=name)
    basis = section_basis(payload, run)
    if name == "opening":
        # Where none was begun with the skeleton, as on a resumed run, it is written now.
        update = await (run.invocation.opening or begin_opening(basis.inquiry, run)).finished()
        if update is None:
            return {"frame": {}, "usage": run.meter.as_update, "timings": {}}
    else:
        written, expansions = None, _concluded(payload, basis, run) if name == "conclusion" else []
        if name == "conclusion" and not expansions:
            written = WrittenText("", "failed", "no point has a text that it could conclude")
        messages = partial(frame_messages, run.parts.prompts, name, expansions=expansions, **basis.prompt_parts)
        update = await _part_update(name, messages, run, basis.inquiry.material, written)
    if part := update["frame"].get(name):
        cache_hit = True if update["usage"].get("frame", {}).get("cache_hits") else None
        run.trace.describe_node(error=part["error"], sot_frame_status=part["status"], sot_cache_hit=cache_hit)
    return update


def _concluded(payload: Mapping[str, Any], basis: SectionBasis, run: RunContext) -> list[Expansion]:
    """The points' texts as the conclusion's prompt shows them, with the citations that they have in the answer.

    Where the answer rests on documents, they are shown without citations: the prompt has the documents under other
    numbers.
    """
    expansions = payload.get("expansions")
    if expansions is None and (read := state_reader(run.config)) is not None:
        expansions = current_expansions(read(["skeleton", "expansions"]))
    shown = shown_expansions(expansions or [], run.options.on_point_failure)
    if basis.inquiry.material is None:
        shown = number_sources(shown, numbering_of(run))
    else:
        shown = [without_its_citations(one) for one in shown]
    return [expansion for expansion in shown if expansion["text"]]


async def _part_update(
    name: FramePartName,
    messages: Callable[[], list[BaseMessage]],
    run: RunContext,
    material: Material | None,
    written: WrittenText | None = None,
) -> Update:
    """The update of a part: it is written now, unless `written` says already what has become of it."""
    start = run.elapsed()
    prompts = run.parts.prompts
    grounds = None if material is None else Grounds(material, run)
    if written is not None:
        logger.warning("The %s is left out: %s", name, written.error)
    else:
        section = Section(
            label=f"The {name}",
            stage="frame",
            call_name=f"write the {name}",
            metadata={"sot_frame_part": name},
            settings=prompts.frame_settings,
            messages=messages,
            # Models like to put the part's name before its text.
            make_cleaner=lambda: TextCleaner(title=name.capitalize(), trim_to_sentence=prompts.trim_to_sentence),
            # An opening begins before the `sot.skeleton` event, which says how the other texts cite.
            start_event=lambda attempt: {
                "type": "sot.frame.start",
                "part": name,
                "attempt": attempt,
                **(citing(run) if name == "opening" and material is not None else {}),
            },
            delta_event=lambda text: {"type": "sot.frame.delta", "part": name, "text": text},
            cached_as=(name, {**prompts.frame_settings, "trim": prompts.trim_to_sentence}),
            grounds=grounds,
        )
        written = await write_text(section, run)
    part: FramePart = written.as_section(grounds)
    announce_frame_end(name, part, run)
    timing = run.timing(start, written.first_text_at)
    return {"frame": {name: part}, "usage": run.meter.as_update, "timings": {name: timing}}


def begin_opening(inquiry: Inquiry, run: RunContext, *, is_decided: bool = True) -> Opening:
    """Begin the run's opening, as `Opening` says: the nodes after this one find it in `run.invocation`."""
    run.invocation.opening = Opening(inquiry, run, is_decided=is_decided)
    return run.invocation.opening


class Opening:
    """An opening. It begins to be written as it is made, by a task of the run. What was told of it is never taken back.

    Args:
        inquiry: What the run is to answer. An opening that didn't rest on the same documents would contradict the rest.
        run: The execution of the node that begins it.
        is_decided: Whether there will be points. Else nothing of it is told before `sot.route` says so.
    """

    def __init__(self, inquiry: Inquiry, run: RunContext, *, is_decided: bool = True) -> None:
        self._begun_by = run
        self._own_run: RunContext | None = None
        # Points that are written in threads of their own speak at the same time.
        self._lock = threading.Lock()
        self._held: list[SotEvent] | None = None if is_decided else []
        self._is_told = self._is_late = False
        self.is_dropped = False
        """Whether the answer goes without it: it was ended unheard."""
        self._loop = asyncio.get_running_loop()
        self._gives_up = asyncio.Event()
        about = inquiry.question, inquiry.history, inquiry.shown_documents
        messages = partial(opening_messages, run.parts.prompts, *about)
        self._task = create_run_task(self._write_unless_late(messages, inquiry.material))

    def lets_through(self, event: SotEvent) -> bool:
        """Whether an event of the run, of whichever text, is sent now. `False`: it is held back, or dropped.

        Where a router or the draft decides for a direct answer, the opening is dropped unheard. Where the first point
        can be read before anything of the opening is there, the answer begins with the points.
        """
        kind = event["type"]
        with self._lock:
            if event.get("part") == "opening":
                if self.is_dropped or (self._is_late and kind != "sot.frame.end"):
                    return False
                self._is_told |= kind != "sot.frame.start"  # also of held events: they will be sent first
                if self._held is not None:
                    self._held.append(event)
                    return False
                return True
            if kind == "sot.point.delta" and event.get("index") == 1 and not self._is_told and not self._is_late:
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
        if self.is_dropped:
            await end_tasks(self._task)
            return None
        return await self._task

    def _show(self) -> None:
        with self._lock:
            held, self._held = self._held or [], None
        for event in held:
            if self._own_run is not None:
                self._own_run.emit(event)

    def _drop(self) -> None:
        self.is_dropped = True
        self._loop.call_soon_threadsafe(self._task.cancel)
        # Nobody will take over the opening's task, so its usage counts in the node that began it: what it has used so
        # far, and, by the shared meter, what its cancelled call still reports.
        if self._own_run is not None:
            self._begun_by.meter.add(self._own_run.meter.usage)
            self._own_run.meter = self._begun_by.meter

    async def _write_unless_late(self, messages: Any, material: Material | None) -> Update:
        run = self._begun_by
        settings: Any = {"parts": run.parts, "key": run.key, "threaded": run.threaded, "write": run.write}
        with open_run(run.config, run.parts.options, **settings) as self._own_run:
            write_opening = partial(_part_update, "opening", messages, self._own_run, material)
            writing = asyncio.create_task(write_opening())
            given_up = asyncio.create_task(self._gives_up.wait())
            try:
                await asyncio.wait({writing, given_up}, return_when=asyncio.FIRST_COMPLETED)
                if not self._is_late:
                    return await writing
            finally:
                await end_tasks(writing, given_up)
            return await write_opening(WrittenText("", "timed_out", _LATE))
