"""`expand_point`, one task a point, and the edges that fan out to it and to what stands around the points."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langgraph.graph import END
from langgraph.types import Send

from sot_graph.citations import without_citations
from sot_graph.expansion import ExpanderInput, PointWriter
from sot_graph.models import ModelCall
from sot_graph.nodes.announcing import announce_end, announce_whole
from sot_graph.nodes.describing import about_point, describe_end, describe_point
from sot_graph.nodes.names import (
    ANSWER_DIRECTLY,
    DRAFT_SKELETON,
    EXPAND_POINT,
    JOIN,
    WRITE_CONCLUSION,
    WRITE_INTRODUCTION,
)
from sot_graph.nodes.settling import skeleton_call_of
from sot_graph.options import frame_parts
from sot_graph.prompts.messages import expansion_messages
from sot_graph.types import Expansion, PointTiming

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_core.messages import BaseMessage

    from sot_graph.nodes.kit import Kit, Update
    from sot_graph.options import FrameChoice
    from sot_graph.runs import Task
    from sot_graph.state import ExpandPointInput, SotState
    from sot_graph.types import FramePartName, SkeletonPoint

__all__ = ["expand_point", "fan_out_points", "fan_out_rest"]

_SHARED_KEYS = ("run_key", "schema_version", "asked", "history", "skeleton", "skeleton_text", "skeleton_format")


def fan_out_points(state: SotState, frame: FrameChoice = "none") -> list[Send] | str:
    """The edge after a settled skeleton: a `Send` for each point that is still to be written and can be now.

    Before them one for the introduction, if it is wanted: where calls wait for a place, what is read first goes first.
    """
    if state.get("review_comment"):
        return DRAFT_SKELETON
    if not state["skeleton"]:
        return ANSWER_DIRECTLY
    if state.get("is_written"):
        return JOIN
    finished = {expansion["index"]: expansion for expansion in state["expansions"] if expansion["status"] == "ok"}
    sends = _sends(state, finished)
    if _lacks("introduction", state, frame):
        sends.insert(0, Send(WRITE_INTRODUCTION, _shared(state)))
    return sends or JOIN


def fan_out_rest(state: SotState, frame: FrameChoice = "none") -> list[Send] | str:
    """The edge after `join`: the next wave, of points that waited for those of the last; the conclusion; or the end."""
    waited = _sends(state, {expansion["index"]: expansion for expansion in state["expansions"]})
    return waited or (WRITE_CONCLUSION if _lacks("conclusion", state, frame) else END)


def _lacks(part: FramePartName, state: SotState, frame: FrameChoice) -> bool:
    return part in frame_parts(frame) and part not in state.get("frame", {})


def _sends(state: SotState, settled: Mapping[int, Expansion]) -> list[Send]:
    """For each point that isn't settled yet, but everything that it needs is."""
    todo = [
        point
        for point in state["skeleton"]
        if point["index"] not in settled and all(other in settled for other in point["depends_on"])
    ]
    if not todo:
        return []
    shared = _shared(state)
    return [
        Send(
            EXPAND_POINT,
            {**shared, "point": point, "needed": [settled[other] for other in point["depends_on"]]}
            if point["depends_on"]
            else {**shared, "point": point},
        )
        for point in todo
    ]


def _shared(state: SotState) -> dict[str, Any]:
    """What every text is written from."""
    shared: dict[str, Any] = {key: state[key] for key in _SHARED_KEYS}  # type: ignore[literal-required]
    if state.get("may_depend"):
        shared["may_depend"] = True
    return shared


async def expand_point(payload: ExpandPointInput, task: Task, kit: Kit) -> Update:
    """Write one point. What a model does wrong is in the expansion's status, never an exception."""
    point = payload["point"]
    describe_point(point, task)
    task.shared.tried.add(point["index"])
    timing = PointTiming(index=point["index"], start=task.shared.elapsed())
    if hindered := _hindered(payload):
        announce_end(hindered, task, kit)
        describe_end(hindered, task, cached=False)
        timing["end"] = task.shared.elapsed()
        return {"expansions": [hindered], "usage": task.meter.usage, "timings": {"points": [timing]}}
    prompt = partial(_messages, payload, task, kit)
    key = _cache_key(point, prompt, kit)
    text = await kit.cache.get(key)
    cached = isinstance(text, str)
    if cached:
        task.meter.add_cache_hit("expansion")
        expansion = Expansion(index=point["index"], title=point["title"], text=text, status="ok", error=None)
        announce_whole(expansion, task, kit)
    else:
        writer = PointWriter(
            _call(payload, task, kit),
            kit.prompts,
            point,
            prompt,
            expander=kit.expander,
            given=None if kit.expander is None else _given(payload, prompt()),
        )
        expansion = await writer.write()
        if expansion["status"] == "ok" and not expansion.get("truncated"):
            await kit.cache.put(key, expansion["text"])
        if writer.first_text_at is not None:
            timing["first_token"] = writer.first_text_at
        announce_end(expansion, task, kit)
    describe_end(expansion, task, cached=cached)
    timing["end"] = task.shared.elapsed()
    return {"expansions": [expansion], "usage": task.meter.usage, "timings": {"points": [timing]}}


def _cache_key(point: SkeletonPoint, prompt: Callable[[], list[BaseMessage]], kit: Kit) -> str | None:
    if not kit.cache.keeps or kit.expander is not None:
        # An expander may do anything: nothing tells whether what it wrote once would be written again.
        return None
    settings = {**kit.prompts.expansion_settings, "title": point["title"], "trim": kit.prompts.trim_to_sentence}
    return kit.cache.key("point", kit.model.fingerprint, prompt(), settings)


def _hindered(payload: ExpandPointInput) -> Expansion | None:
    """What becomes of a point that needs one that isn't there: nothing is asked for it."""
    point = payload["point"]
    for other in payload.get("needed", ()):
        if other["status"] != "ok":
            why = "was not finished in time" if other["status"] == "timed_out" else "could not be written"
            error = f"it needs point {other['index']}, which {why}"
            return Expansion(index=point["index"], title=point["title"], text="", status=other["status"], error=error)
    return None


def _messages(payload: ExpandPointInput, task: Task, kit: Kit) -> list[BaseMessage]:
    return expansion_messages(
        kit.prompts,
        point=payload["point"],
        skeleton=payload["skeleton"],
        skeleton_call=skeleton_call_of(payload, task, kit),
        skeleton_text=payload["skeleton_text"],
        question=payload["asked"],
        history=payload["history"],
        point_length=task.options.point_length,
        needed=[
            Expansion(**{**other, "text": without_citations(other["text"], other.get("sources") or [])})
            for other in payload.get("needed", ())
        ],
    )


def _given(payload: ExpandPointInput, messages: list[BaseMessage]) -> ExpanderInput:
    """What an expander gets. A prefill is for the model that goes on after it."""
    prompt = messages[:-1] if isinstance(messages[-1], AIMessage) else messages
    # Copies: what it does to them is its own affair.
    skeleton, point = deepcopy((payload["skeleton"], payload["point"]))
    return ExpanderInput(question=payload["asked"], skeleton=skeleton, point=point, messages=list(prompt))


def _call(payload: ExpandPointInput, task: Task, kit: Kit) -> ModelCall:
    point = payload["point"]
    name = task.trace.name(f"write {point['index']}", point["title"])
    config = task.child_config(run_name=name, stage="expansion", **about_point(point, task))
    return ModelCall(kit.model, "expansion", task, config, kit.prompts.expansion_settings)
