"""What a request to a simulated endpoint asks for, seen from its prompt."""

from __future__ import annotations

from collections.abc import Callable

from sot_graph.testing import ChatRequest

__all__ = ["decides", "number_of", "one_point", "point_number"]


def one_point(request: ChatRequest) -> bool:
    """Whether it asks for the text of a point."""
    return "one point" in request.last_user


def point_number(*numbers: int) -> Callable[[ChatRequest], bool]:
    """What tells whether a request asks for the text of one of these points."""
    return lambda request: any(f"<point>{number}. " in request.last_user for number in numbers)


def number_of(request: ChatRequest) -> int:
    """Of the point whose text it asks for."""
    return int(request.last_user.split("<point>")[1].split(".")[0])


def decides(request: ChatRequest) -> bool:
    """Whether it is the middleware's call that decides how an agent goes on."""
    return "Decide how to go on" in request.last_user
