"""The events that tell those who listen what the answer will look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sot_graph.events import FrameEndEvent, PointEndEvent, SkeletonDeltaEvent, SkeletonEvent
from sot_graph.joiners import PointwiseJoin, frame_tail, heads_and_separator, is_shown, tail_of
from sot_graph.options import frame_parts

if TYPE_CHECKING:
    from sot_graph.nodes.kit import Kit
    from sot_graph.runs import Task
    from sot_graph.types import Expansion, Frame, FramePart, FramePartName, SkeletonPoint

__all__ = [
    "announce_end",
    "announce_frame_end",
    "announce_point",
    "announce_skeleton",
    "announce_whole",
    "announce_whole_frame",
]


def announce_skeleton(
    points: list[SkeletonPoint],
    kept: Sequence[Expansion],
    task: Task,
    kit: Kit,
    *,
    frame: Frame | None = None,
    grown: bool = False,
) -> None:
    """The skeleton is settled, and these of its points, and of what stands around them, need not be written."""
    heads, separator = heads_and_separator(kit.join, points)
    settled = SkeletonEvent(
        type="sot.skeleton",
        points=points,
        heads=heads,
        separator=separator,
        grown=grown,
        eager=task.options.on_point_failure != "skip",
        introduction=_has_introduction(kit),
    )
    if kit.expander is not None or any(expansion.get("sources") for expansion in kept):
        _let_cite(settled, kit)
    task.emit(settled)
    announce_whole_frame(frame or {}, task, kit)
    for expansion in kept:
        announce_whole(expansion, task, kit)


def announce_point(point: SkeletonPoint, task: Task, kit: Kit) -> None:
    """The next point of a skeleton that is still being written."""
    heads, separator = heads_and_separator(kit.join, [point])
    grown = SkeletonDeltaEvent(
        type="sot.skeleton.delta",
        point=point,
        head=heads[0] if heads else None,
        separator=separator,
        eager=task.options.on_point_failure != "skip",
        introduction=_has_introduction(kit),
    )
    if kit.expander is not None:
        _let_cite(grown, kit)
    task.emit(grown)


def announce_whole(expansion: Expansion, task: Task, kit: Kit) -> None:
    """A point that is there at once: given, or from the cache."""
    task.emit({"type": "sot.point.delta", "index": expansion["index"], "text": expansion["text"]})
    announce_end(expansion, task, kit)


def announce_end(expansion: Expansion, task: Task, kit: Kit) -> None:
    """A point is done."""
    ended = PointEndEvent(
        type="sot.point.end",
        index=expansion["index"],
        status=expansion["status"],
        shown=is_shown(expansion, task.options.on_point_failure),
        tail=tail_of(kit.join, expansion),
    )
    if expansion.get("truncated"):
        ended["truncated"] = True
    if expansion.get("sources"):
        ended["sources"] = expansion["sources"]
    task.emit(ended)


def announce_whole_frame(frame: Frame, task: Task, kit: Kit) -> None:
    """Parts of the frame that are there at once: given, or from the cache."""
    for name in frame_parts(kit.options.frame):
        if part := frame.get(name):
            task.emit({"type": "sot.frame.delta", "part": name, "text": part["text"]})
            announce_frame_end(name, part, task, kit)


def announce_frame_end(name: FramePartName, part: FramePart, task: Task, kit: Kit) -> None:
    """The introduction or the conclusion is done."""
    tail = frame_tail(kit.join, part)
    ended = FrameEndEvent(type="sot.frame.end", part=name, status=part["status"], tail=tail)
    if part.get("truncated"):
        ended["truncated"] = True
    task.emit(ended)


def _has_introduction(kit: Kit) -> bool:
    return "introduction" in frame_parts(kit.options.frame)


def _let_cite(event: SkeletonEvent | SkeletonDeltaEvent, kit: Kit) -> None:
    event["cites"] = True
    if isinstance(kit.join, PointwiseJoin):
        event["sources_head"] = kit.join.sources
