"""A skeleton that a caller, or a reviewer, gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sot_graph.errors import SotConfigError, kind_of
from sot_graph.skeleton.parsing import clean_title, number_points, title_of

if TYPE_CHECKING:
    from sot_graph.types import SkeletonPoint

__all__ = ["given_points"]


def given_points(given: object) -> list[SkeletonPoint]:
    """Points from what a caller gave as `given_skeleton`: titles, or points.

    Raises:
        SotConfigError: Not a list of these, or a title without a word in it.
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
    return number_points(titles)
