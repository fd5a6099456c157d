"""`write_introduction`, beside the points, and `write_conclusion`, after them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sot_graph.citations import number_sources
from sot_graph.expansion import FrameWriter
from sot_graph.joiners import shown_expansions
from sot_graph.models import ModelCall
from sot_graph.nodes.announcing import announce_frame_end, announce_whole_frame
from sot_graph.nodes.describing import describe_frame, describe_frame_end
from sot_graph.nodes.settling import skeleton_call_of
from sot_graph.prompts.rendering import conclusion_messages, introduction_messages
from sot_graph.types import FramePart, StageTiming

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from sot_graph.nodes.kit import Kit, Update
    from sot_graph.runs import Task
    from sot_graph.state import SotState, WriteIntroductionInput
    from sot_graph.types import FramePartName

__all__ = ["write_conclusion", "write_introduction"]

logger = logging.getLogger("sot_graph")


async def write_introduction(payload: WriteIntroductionInput, task: Task, kit: Kit) -> Update:
    """Write the introduction from the skeleton alone, beside the points."""
    describe_frame("introduction", task)
    messages = introduction_messages(kit.prompts, **_given(payload, task, kit))
    return await _written("introduction", messages, task, kit)


async def write_conclusion(state: SotState, task: Task, kit: Kit) -> Update:
    """Write the conclusion from the points' texts, which cite as they do in the answer.

    Where there are none, or no time is left, nothing is asked for.
    """
    describe_frame("conclusion", task)
    numbered, _ = number_sources(shown_expansions(state["expansions"], task.options.on_point_failure))
    texts = [expansion for expansion in numbered if expansion["text"]]
    if task.seconds_left(None) == 0:
        given_up = FramePart(text="", status="timed_out", error="there was no time left for it (deadline)")
    elif not texts:
        given_up = FramePart(text="", status="failed", error="no point has a text that it could conclude")
    else:
        messages = conclusion_messages(kit.prompts, expansions=texts, **_given(state, task, kit))
        return await _written("conclusion", messages, task, kit)
    logger.warning("The conclusion is left out: %s", given_up["error"])
    announce_frame_end("conclusion", given_up, task, kit)
    describe_frame_end(given_up, task)
    now = task.shared.elapsed()
    return _update("conclusion", given_up, StageTiming(start=now, end=now), task)


async def _written(name: FramePartName, messages: list[BaseMessage], task: Task, kit: Kit) -> Update:
    timing = StageTiming(start=task.shared.elapsed())
    settings = kit.prompts.frame_settings
    key = kit.cache.key(name, kit.model.fingerprint, messages, {**settings, "trim": kit.prompts.trim_to_sentence})
    text = await kit.cache.get(key)
    cached = isinstance(text, str)
    if cached:
        task.meter.add_cache_hit("frame")
        part = FramePart(text=text, status="ok", error=None)
        announce_whole_frame({name: part}, task, kit)  # type: ignore[misc]
    else:
        config = task.child_config(run_name=f"write the {name}", stage="frame", sot_frame_part=name)
        writer = FrameWriter(ModelCall(kit.model, "frame", task, config, settings), kit.prompts, name, messages)
        part = await writer.write()
        if part["status"] == "ok" and not part.get("truncated"):
            await kit.cache.put(key, part["text"])
        if writer.first_text_at is not None:
            timing["first_token"] = writer.first_text_at
        announce_frame_end(name, part, task, kit)
    describe_frame_end(part, task, cached=cached)
    timing["end"] = task.shared.elapsed()
    return _update(name, part, timing, task)


def _update(name: FramePartName, part: FramePart, timing: StageTiming, task: Task) -> Update:
    return {"frame": {name: part}, "usage": task.meter.usage, "timings": {name: timing}}


def _given(given: WriteIntroductionInput | SotState, task: Task, kit: Kit) -> dict[str, Any]:
    return {
        "skeleton": given["skeleton"],
        "skeleton_call": skeleton_call_of(given, task, kit),
        "skeleton_text": given["skeleton_text"],
        "question": given["asked"],
        "history": given["history"],
    }
