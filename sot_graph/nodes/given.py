"""What a caller brings along: a skeleton, and expansions of an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from sot_graph.errors import SotConfigError
from sot_graph.skeleton import given_points, number_points
from sot_graph.types import Expansion, SkeletonPoint

if TYPE_CHECKING:
    from sot_graph.state import SotState

__all__ = ["kept_expansions", "read_given"]


def read_given(state: SotState) -> tuple[list[SkeletonPoint], list[Expansion]] | None:
    """What the caller brought along, checked; `None` if no skeleton follows from it."""
    skeleton, given_expansions = state.get("given_skeleton"), state.get("given_expansions")
    if skeleton is None and given_expansions is None:
        return None
    expansions: list[Expansion] = []
    for position, item in enumerate(given_expansions or [], start=1):
        if not (
            isinstance(item, dict)
            and isinstance(item.get("index"), int)
            and isinstance(item.get("title"), str)
            and isinstance(item.get("text"), str)
            and item.get("status") in ("ok", "failed", "timed_out")
        ):
            message = (
                f"given_expansions: entry {position} is {item!r:.80}; pass back the expansions of an earlier "
                "result as they are."
            )
            raise SotConfigError(message)
        expansions.append(cast("Expansion", item))
    if skeleton is None:
        skeleton = [expansion["title"] for expansion in sorted(expansions, key=lambda expansion: expansion["index"])]
    points = given_points(skeleton)
    if not points:
        message = "given_skeleton is empty: leave it out to have a skeleton drafted."
        raise SotConfigError(message)
    return points, expansions


def kept_expansions(points: Sequence[SkeletonPoint], expansions: Sequence[Expansion]) -> list[Expansion]:
    """Those that are `ok` and belong to a point: by title, since a caller may have reordered the skeleton."""
    finished = {
        point["title"]: expansion
        for expansion in expansions
        if expansion["status"] == "ok"
        for point in number_points([expansion["title"]])
    }
    return [
        Expansion(index=point["index"], title=point["title"], text=kept["text"], status="ok", error=None)
        for point in points
        if (kept := finished.get(point["title"])) is not None
    ]
