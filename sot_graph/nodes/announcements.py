"""The events that tell those who listen what the answer will look like: the skeleton, and the end of each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from sot_graph.joiners import frame_tail, is_pointwise, shown_expansions
from sot_graph.options import FRAME_PARTS
from sot_graph.state import marks_of

if TYPE_CHECKING:
    from sot_graph.events import FrameEndEvent, PointEndEvent, SkeletonDeltaEvent, SkeletonEvent, SotEvent
    from sot_graph.run import RunContext
    from sot_graph.types import Expansion, Frame, FramePart, FramePartName, Material, RouteName, SkeletonPoint


def announce_route(
    route: RouteName, reason: str, emit: Callable[[SotEvent], None], confidence: float | None = None
) -> None:
    """Tell how the question is answered."""
    emit({"type": "sot.route", "route": route, "reason": reason, "confidence": confidence})


def announce_skeleton(
    points: list[SkeletonPoint],
    kept: Sequence[Expansion],
    run: RunContext,
    *,
    material: Material | None,
    frame: Frame | None = None,
    grown: bool = False,
) -> None:
    """Tell that the skeleton is settled, and which texts of it are there already: of points, and around them."""
    given = [*kept, *(frame or {}).values()]
    cites = any(each.get("sources") is not None for each in cast("list[Expansion]", given))
    heads, layout = _layout(points, run, material, cites=cites)
    settled = {"type": "sot.skeleton", "points": points, "heads": heads, "grown": grown, **layout}
    run.emit(cast("SkeletonEvent", settled))
    if kept or frame:
        announce_kept(kept, frame or {}, run)


def announce_point(point: SkeletonPoint, run: RunContext, material: Material | None) -> None:
    """Tell the next point of a skeleton that is still being written."""
    heads, layout = _layout([point], run, material)
    grown = {"type": "sot.skeleton.delta", "point": point, "head": heads[0] if heads else None, **layout}
    run.emit(cast("SkeletonDeltaEvent", grown))


def announce_kept(expansions: Sequence[Expansion], frame: Frame, run: RunContext) -> None:
    """Tell texts that are there at once: given, or written by an earlier process."""
    for name in FRAME_PARTS[run.options.frame]:
        if part := frame.get(name):
            run.emit({"type": "sot.frame.delta", "part": name, "text": part["text"]})
            announce_frame_end(name, part, run)
    for expansion in expansions:
        run.emit({"type": "sot.point.delta", "index": expansion["index"], "text": expansion["text"]})
        announce_point_end(expansion, run)


def announce_point_end(expansion: Expansion, run: RunContext) -> None:
    """Tell that a point is done."""
    join, is_ok = run.parts.join, expansion["status"] == "ok"
    ended = {
        "type": "sot.point.end",
        "index": expansion["index"],
        "status": expansion["status"],
        "shown": is_ok or bool(shown_expansions([expansion], run.options.on_point_failure)),
        "tail": "" if is_ok or not is_pointwise(join) else join.tail_of(expansion),
    }
    run.emit(cast("PointEndEvent", {**ended, **marks_of(expansion)}))


def announce_frame_end(name: FramePartName, part: FramePart, run: RunContext) -> None:
    """Tell that a text around the points is done."""
    tail = frame_tail(run.parts.join, part)
    ended = {"type": "sot.frame.end", "part": name, "status": part["status"], "tail": tail}
    run.emit(cast("FrameEndEvent", {**ended, **marks_of(part)}))


def _layout(
    points: Sequence[SkeletonPoint], run: RunContext, material: Material | None, *, cites: bool = False
) -> tuple[list[str] | None, dict[str, Any]]:
    """What an `AnswerReader` must know: what goes before each of these points, and of the whole answer.

    Of a join that needs all points, nothing can be known before its end.
    """
    join, heads = run.parts.join, None
    if is_pointwise(join):
        heads = [join.head_of(point) for point in points]
    layout: dict[str, Any] = {
        "separator": join.separator if is_pointwise(join) else "",
        "eager": run.options.on_point_failure != "skip",
        "introduction": "introduction" in FRAME_PARTS[run.options.frame],
    }
    if "opening" in FRAME_PARTS[run.options.frame]:
        layout["opening"] = True
    cites |= material is not None
    if cites or run.parts.expander is not None:
        layout |= citing(run, frame_cites=cites)
    return heads, layout


def citing(run: RunContext, *, frame_cites: bool = True) -> dict[str, Any]:
    """What an `AnswerReader` must know to number citations."""
    return {
        "cites": True,
        "frame_cites": frame_cites,
        "citation_style": run.options.citation_style,
        "lists_all": run.options.sources == "all",
    }
