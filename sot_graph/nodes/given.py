"""What a caller brings along: a skeleton, and expansions of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from sot_graph.citations import read_sources
from sot_graph.errors import SotConfigError, kind_of
from sot_graph.options import frame_parts
from sot_graph.prompts.messages import clean_text
from sot_graph.skeleton import clean_title, given_points
from sot_graph.types import Expansion, Frame, FramePart, SkeletonPoint

if TYPE_CHECKING:
    from sot_graph.options import FrameChoice
    from sot_graph.state import SotState

__all__ = ["kept_expansions", "kept_frame", "read_given"]


def read_given(state: SotState) -> tuple[list[SkeletonPoint], list[Expansion]] | None:
    """What the caller brought along, checked; `None` if no skeleton follows from it."""
    skeleton, given_expansions = state.get("given_skeleton"), state.get("given_expansions")
    if skeleton is None and given_expansions is None:
        return None
    if given_expansions is not None and not isinstance(given_expansions, (list, tuple)):
        kind = type(given_expansions).__name__
        message = f"given_expansions is {kind}; pass back the expansions of an earlier result, a list."
        raise SotConfigError(message)
    expansions: list[Expansion] = []
    for position, item in enumerate(given_expansions or [], start=1):
        if not (
            isinstance(item, dict)
            and isinstance(item.get("index"), int)
            and isinstance(item.get("title"), str)
            and isinstance(item.get("text"), str)
            and isinstance(item.get("status"), str)
            and item["status"] in ("ok", "failed", "timed_out")
        ):
            message = (
                f"given_expansions: entry {position} is {kind_of(item)}; pass back the expansions of an earlier "
                "result as they are."
            )
            raise SotConfigError(message)
        expansions.append(cast("Expansion", _with_sources(item, position)))
    if skeleton is None:
        skeleton = [expansion["title"] for expansion in sorted(expansions, key=lambda expansion: expansion["index"])]
    points = given_points(skeleton)
    if not points:
        message = "given_skeleton is empty: leave it out to have a skeleton drafted."
        raise SotConfigError(message)
    return points, expansions


def _with_sources(item: dict[str, Any], position: int) -> dict[str, Any]:
    """An expansion with sources as an expander's are read."""
    if not item.get("sources"):
        return item
    try:
        return {**item, "sources": read_sources(item["sources"])}
    except ValueError:
        message = (
            f"given_expansions: the sources of entry {position} ({kind_of(item['sources'])}) are no list of texts or "
            'of {"title": ..., "url": ..., "id": ...}; pass back the expansions of an earlier result as they are.'
        )
        raise SotConfigError(message) from None  # whose text quotes it, for every trace to show


def kept_expansions(points: Sequence[SkeletonPoint], expansions: Sequence[Expansion]) -> list[Expansion]:
    """Those that are `ok` and belong to a point: by title, since a caller may have reordered the skeleton."""
    finished = [expansion for expansion in expansions if expansion["status"] == "ok"]
    places = {(point["index"], point["title"]) for point in points}
    # First those that stand where they stood, then the moved ones: titles may be equal, and each text is used once.
    by_place = {(expansion["index"], expansion["title"]): expansion for expansion in finished}
    moved: dict[str, list[Expansion]] = {}
    for expansion in finished:
        if (expansion["index"], expansion["title"]) not in places:
            moved.setdefault(clean_title(expansion["title"]), []).append(expansion)
    kept: list[Expansion] = []
    for point in points:
        others = moved.get(point["title"])
        found = by_place.get((point["index"], point["title"])) or (others.pop(0) if others else None)
        if found is not None:
            expansion = Expansion(
                index=point["index"], title=point["title"], text=clean_text(found["text"]), status="ok", error=None
            )
            if found.get("truncated"):
                expansion["truncated"] = True
            if found.get("sources"):
                expansion["sources"] = found["sources"]
            kept.append(expansion)
    return kept


def kept_frame(given: Any, frame: FrameChoice, *, whole: bool) -> Frame:
    """The parts of an earlier run's frame that need not be written: those that are wanted and `ok`.

    Args:
        given: What the caller brought along.
        frame: What the graph wants.
        whole: Whether every point is kept. A conclusion is of the points as they were: it goes with any of them.

    Raises:
        SotConfigError: It isn't what an earlier run gave.
    """
    kept: Frame = {}
    if given is None:
        return kept
    for name in frame_parts(frame):
        part = given.get(name) if isinstance(given, Mapping) else given
        if part is None:
            continue
        if not (
            isinstance(part, Mapping)
            and isinstance(part.get("text"), str)
            and part.get("status") in ("ok", "failed", "timed_out")
        ):
            message = f"given_frame: the {name} is {kind_of(part)}; pass back the frame of an earlier result as it is."
            raise SotConfigError(message)
        if part["status"] == "ok" and (name == "introduction" or whole):
            kept[name] = FramePart(text=clean_text(part["text"]), status="ok", error=None)
            if part.get("truncated"):
                kept[name]["truncated"] = True
    return kept
