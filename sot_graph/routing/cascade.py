"""`CascadeRouter`: a cheap router first, a better one only where the first is unsure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sot_graph.errors import SotConfigError
from sot_graph.routing.protocol import BaseRouter, RouteDecision, Router, ask_router, check_router, is_share
from sot_graph.types import ChatTurn

if TYPE_CHECKING:
    from sot_graph.llm.loop_bound_model import LoopModel
    from sot_graph.run import RunContext

__all__ = ["CascadeRouter"]


class CascadeRouter(BaseRouter):
    """Asks `first`, and `second` only where the first one's confidence is below a threshold.

    Args:
        first: Such as `LearnedRouter()`: its decisions carry a confidence.
        second: Such as `ModelRouter(model)`.
        threshold: Confidence from which the first decision stands, from 0.5 (never ask) to 1 (always ask).

    Attributes:
        decided: How many questions it has decided.
        asked: How many of them the second router was asked for.

    Raises:
        SotConfigError: The threshold is no number from 0 to 1, or one of the two is no router.

    Example:
        >>> from sot_graph import RouteDecision
        >>> sure = lambda question, history: RouteDecision("direct", "too short", 0.99)
        >>> cascade = CascadeRouter(sure, lambda question, history: "skeleton", threshold=0.8)
    """

    def __init__(self, first: Router, second: Router, *, threshold: float = 0.8) -> None:
        if not is_share(threshold):
            message = f"CascadeRouter's threshold is a confidence from 0 to 1, not {threshold!r}."
            raise SotConfigError(message)
        check_router(first, "first")
        check_router(second, "second")
        self.first = first
        self.second = second
        self.threshold = threshold
        self.decided = 0
        self.asked = 0

    async def decide(
        self, question: str, history: Sequence[ChatTurn], *, run: RunContext, model: LoopModel | None
    ) -> RouteDecision:
        """Decide within a run."""
        self.decided += 1
        decision = await ask_router(self.first, question, history, run=run, model=model)
        if decision.confidence is not None and decision.confidence >= self.threshold:
            return decision
        self.asked += 1
        second = await ask_router(self.second, question, history, run=run, model=model)
        return replace(second, reason=f"{second.reason}; the first router was unsure")
