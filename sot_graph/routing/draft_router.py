"""`DraftRouter`: the call that would draft the skeleton may answer instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from sot_graph.errors import SotConfigError
from sot_graph.routing.protocol import BaseRouter, RouteDecision
from sot_graph.types import ChatTurn, RouteName

if TYPE_CHECKING:
    from sot_graph.llm.loop_bound_model import LoopModel
    from sot_graph.run import RunContext


class DraftRouter(BaseRouter):
    """Has the model itself decide, in the call that drafts: it writes the skeleton, or the answer in its place.

    No call is made only to decide, and no token is paid twice: a long answer of eight points takes nine calls, a short
    one takes one. The model sees the whole conversation, in whatever language. A direct answer is streamed as soon as
    it can't be a skeleton any more. `router="draft"` means the same.

    It is for models that can follow such an instruction. Where they are too small for it, use `LearnedRouter`.

    Examples:
        >>> from sot_graph import create_sot_graph
        >>> from sot_graph.testing import ScriptedChatModel
        >>> graph = create_sot_graph(ScriptedChatModel(lambda messages: "It is 391."), router=DraftRouter())
        >>> result = graph.invoke({"question": "What is 17 * 23?"})
        >>> result["route"], result["usage"]["total"]["calls"]
        ('direct', 1)
    """

    async def decide(
        self, question: str, history: Sequence[ChatTurn], *, run: RunContext, model: LoopModel | None
    ) -> RouteDecision:
        """Never called: graphs and the middleware handle this router themselves. With it, it is one of ours."""
        return RouteDecision("skeleton", "the drafting call decides")

    def as_edge(self, targets: Mapping[RouteName, str]) -> NoReturn:
        """Refuse.

        Raises:
            SotConfigError: Always.
        """
        raise SotConfigError(_PLACE.format("An edge"))


def check_makes_decisions(router: object, who: str) -> None:
    """Raise `SotConfigError` for a router that decides nothing by itself, where its decision is needed."""
    if isinstance(router, DraftRouter):
        raise SotConfigError(_PLACE.format(who))


_PLACE = (
    "{} can't use DraftRouter, which decides within the call that drafts: give it to create_sot_graph or "
    "SkeletonOfThoughtMiddleware as the router, or use LearnedRouter or ModelRouter here."
)
