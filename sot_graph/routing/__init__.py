"""Which questions take the skeleton path: only those whose answer is a list of independent points."""

from __future__ import annotations

from sot_graph.routing.decision import RouteDecision
from sot_graph.routing.learned import LearnedRouter

__all__ = ["LearnedRouter", "RouteDecision"]
