"""What a router says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from sot_graph.errors import SotConfigError
from sot_graph.types import RouteName

if TYPE_CHECKING:
    from typing import Any

__all__ = ["RouteDecision"]

_ROUTES = get_args(RouteName)


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """How one question is to be answered, and why.

    Example:
        >>> RouteDecision("direct", "asks for a translation", 0.97).route
        'direct'
    """

    route: RouteName
    """`"skeleton"` or `"direct"`."""
    reason: str
    """Why, in a few words that a person can read. Never empty."""
    confidence: float | None = None
    """How sure the router is of `route`, from 0 to 1. None: it can't say."""
    dependent: bool | None = None
    """Whether the answer is a list of points that build on each other: with `SotOptions(dependent="graph")` such a
    question takes the skeleton, whatever `route` says. None: it can't say."""

    def __post_init__(self) -> None:
        """Checks the fields, because callers' own routers make these too.

        Raises:
            SotConfigError: An unknown route, an empty reason, or a confidence outside 0 to 1.
        """
        if self.route not in _ROUTES:
            msg = f'RouteDecision: route must be "skeleton" or "direct", not {self.route!r}'
            raise SotConfigError(msg)
        reason: Any = self.reason
        if not isinstance(reason, str) or not reason.strip():
            msg = f"RouteDecision: reason must be a text that says why, not {reason!r}"
            raise SotConfigError(msg)
        confidence: Any = self.confidence
        if confidence is None:
            return
        if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not _is_share(confidence):
            msg = f"RouteDecision: confidence must be None or a number from 0 to 1, not {confidence!r}"
            raise SotConfigError(msg)


def _is_share(number: float) -> bool:
    return math.isfinite(number) and 0.0 <= number <= 1.0
