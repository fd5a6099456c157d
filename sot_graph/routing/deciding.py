"""Asking a router, whatever it is: a callable of the user's, or one of ours. Its failures never fail a run."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from sot_graph.checking import check_call
from sot_graph.containing import contained, in_own_thread
from sot_graph.errors import RoutingError
from sot_graph.models import explain
from sot_graph.observability.redaction import Redactor
from sot_graph.routing.decision import RouteDecision
from sot_graph.types import ChatTurn, RouteName

if TYPE_CHECKING:
    from sot_graph.models import LoopModel
    from sot_graph.options import SotOptions
    from sot_graph.runs import Task

__all__ = ["ModelRouting", "Router", "after_failure", "ask_in_time", "ask_router", "check_router", "decide"]

logger = logging.getLogger("sot_graph")

Router: TypeAlias = Callable[
    [str, Sequence[ChatTurn]], "RouteName | RouteDecision | Awaitable[RouteName | RouteDecision]"
]
"""`(question, history) -> "skeleton" | "direct" | RouteDecision`, synchronous or not."""


@runtime_checkable
class ModelRouting(Protocol):
    """A router that calls models: it is handed the run's task, so that its calls are traced, bounded and counted."""

    async def decide(
        self, question: str, history: Sequence[ChatTurn], *, task: Task, model: LoopModel
    ) -> RouteDecision:
        """Decide, by a call within the run. `model` is the graph's own."""


def check_router(router: object, name: str = "router") -> None:
    """Check what is given as a router.

    Args:
        router: What was given.
        name: The argument's.

    Raises:
        SotConfigError: It is none.
    """
    if isinstance(router, type) or not isinstance(router, ModelRouting):
        check_call(name, router, {"question": "", "history": []}, hint=", or one of ours")


async def decide(
    router: Router | ModelRouting, question: str, history: Sequence[ChatTurn], *, task: Task, model: LoopModel
) -> RouteDecision:
    """Ask a router within `router_timeout`; where it fails, do as `on_router_failure` says.

    Raises:
        RoutingError: As `after_failure`.
    """
    try:
        return await ask_in_time(router, question, history, task=task, model=model)
    except RoutingError as error:
        return after_failure(error, task.options)


def after_failure(error: RoutingError, options: SotOptions) -> RouteDecision:
    """The route `"direct"`, with the reason and a WARNING.

    Raises:
        RoutingError: The error, where `on_router_failure` is `"raise"`.
    """
    if options.on_router_failure == "raise":
        raise error
    logger.warning("Answering directly: %s.", error)
    return RouteDecision("direct", str(error))


async def ask_in_time(
    router: Router | ModelRouting, question: str, history: Sequence[ChatTurn], *, task: Task, model: LoopModel
) -> RouteDecision:
    """Ask a router within `router_timeout`.

    Raises:
        RoutingError: It failed, or was late.
    """
    limit = task.seconds_left(task.options.router_timeout)
    try:
        async with asyncio.timeout(limit) as timer:
            return await ask_router(router, question, history, task=task, model=model)
    except Exception as error:
        Redactor(model.secrets, hides_content=not task.trace.shows_content).error(error)
        if isinstance(error, TimeoutError) and timer.expired():
            reason = f"the router did not decide within {limit:.3g} s"
        elif isinstance(error, RoutingError):
            reason = str(error)
        else:
            reason = f"the router failed: {explain(error)}"
        raise RoutingError(reason) from error


async def ask_router(
    router: Router | ModelRouting, question: str, history: Sequence[ChatTurn], *, task: Task, model: LoopModel
) -> RouteDecision:
    """Ask a router of any kind.

    Raises:
        RoutingError: It returned something else than a route.
        Exception: Its own.
    """
    if isinstance(router, ModelRouting):
        return _checked(await router.decide(question, history, task=task, model=model))
    try:
        if getattr(router, "is_instant", False):
            return _checked(router(question, history))
        return _checked(await contained(_asked(router, question, history), "The router"))
    except RoutingError:
        if task.trace.shows_content:
            raise
        # A router of the caller's may quote the question, in what it raises and in what it returns.
        message = "the router returned no route, or raised a RoutingError; the trace hides which"
        raise RoutingError(message) from None


async def _asked(router: Router, question: str, history: Sequence[ChatTurn]) -> Any:
    if inspect.iscoroutinefunction(router) or inspect.iscoroutinefunction(type(router).__call__):
        return await router(question, history)  # type: ignore[misc]
    answer = await in_own_thread(lambda: router(question, history))  # it may block: a file, a request, a lock
    return await answer if inspect.isawaitable(answer) else answer


def _checked(answer: Any) -> RouteDecision:
    if isinstance(answer, RouteDecision):
        return answer
    if answer in ("skeleton", "direct"):
        return RouteDecision(answer, "the router said so")
    message = f'the router returned {answer!r:.80}; it must return "skeleton", "direct" or a RouteDecision'
    raise RoutingError(message)
