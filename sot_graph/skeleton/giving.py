"""A skeleton that a caller, or a reviewer, gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sot_graph.errors import SotConfigError, kind_of
from sot_graph.skeleton.parsing import clean_title, number_points, title_of
from sot_graph.types import SkeletonPoint

__all__ = ["given_points"]


def given_points(given: object) -> list[SkeletonPoint]:
    """Points from what a caller gave as `given_skeleton`: titles, or points.

    A point's `depends_on` names others by their `index`, as in an earlier result, or where none has one by their
    place from 1. What is needed may also stand behind.

    Raises:
        SotConfigError: Not a list of these, a title without a word in it, or needs that can't be met.
    """
    if not isinstance(given, (list, tuple)):
        message = f"given_skeleton is a list of titles or points, not {type(given).__name__}."
        raise SotConfigError(message)
    titles: list[str] = []
    for position, item in enumerate(given, start=1):
        raw = title_of(item)
        title = clean_title(raw) if raw is not None else ""
        if not title:
            message = (
                f"given_skeleton: entry {position} is {kind_of(item)} without a word in it; it must be a title, or a "
                'point such as {"title": "Set clear goals"}.'
            )
            raise SotConfigError(message)
        titles.append(title)
    points = number_points(titles)
    if any(isinstance(item, Mapping) and item.get("depends_on") for item in given):
        _connect(points, given)
    return points


def _connect(points: Sequence[SkeletonPoint], given: Sequence[Any]) -> None:
    places = _places(given)
    for point, item in zip(points, given, strict=True):
        needs = item.get("depends_on") if isinstance(item, Mapping) else None
        where = f"given_skeleton: point {point['index']} ({point['title']})"
        if needs and not (isinstance(needs, (list, tuple)) and all(type(other) is int for other in needs)):
            message = f"{where} has depends_on={needs!r:.80}; it must be a list of other points' numbers."
            raise SotConfigError(message)
        for other in needs or ():
            if other not in places:
                message = f"{where} depends on {other}, and there is no such point: {sorted(places)}."
                raise SotConfigError(message)
        point["depends_on"] = sorted({places[other] for other in needs or ()})
    try:
        TopologicalSorter({point["index"]: point["depends_on"] for point in points}).prepare()
    except CycleError as error:
        circle = " -> ".join(map(str, reversed(error.args[1])))
        message = f"given_skeleton: its points wait for each other in a circle: {circle}. Take one depends_on out."
        raise SotConfigError(message) from error


def _places(given: Sequence[Any]) -> dict[int, int]:
    """From the numbers that `depends_on` speaks of to the points' own."""
    named = [item.get("index") if isinstance(item, Mapping) else None for item in given]
    if all(type(index) is int for index in named) and len(set(named)) == len(named):
        return {index: place for place, index in enumerate(named, start=1)}  # type: ignore[misc]
    return {place: place for place in range(1, len(named) + 1)}
