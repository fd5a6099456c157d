"""What a router is, what it may return, and how one is asked: its failures never fail a run."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, get_args, runtime_checkable

from sot_graph.concurrency.isolation import IsolatedCallError, call_in_new_thread, run_isolated
from sot_graph.errors import RoutingError, SotConfigError, brief, carried_status, check_call, message_of
from sot_graph.types import ChatTurn, RouteName

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable, RunnableConfig

    from sot_graph.llm.loop_bound_model import LoopModel
    from sot_graph.run import RunContext

logger = logging.getLogger("sot_graph")

_ROUTES = get_args(RouteName)


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """How one question is to be answered, and why.

    Examples:
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
        # Callers' own routers make these too.
        if self.route not in _ROUTES:
            message = f'RouteDecision: route must be "skeleton" or "direct", not {self.route!r}'
            raise SotConfigError(message)
        reason: Any = self.reason
        if not isinstance(reason, str) or not reason.strip():
            message = f"RouteDecision: reason must be a text that says why, not {reason!r}"
            raise SotConfigError(message)
        if self.confidence is not None and not is_probability(self.confidence):
            message = f"RouteDecision: confidence must be None or a number from 0 to 1, not {self.confidence!r}"
            raise SotConfigError(message)


class FailedDecision(RouteDecision):
    """Where a question goes whose router has failed. The next time it may go elsewhere."""


@runtime_checkable
class RunRouter(Protocol):
    """A router that calls models: it is handed the run, so that its calls are traced, bounded and counted."""

    async def decide(
        self, question: str, history: Sequence[ChatTurn], *, run: RunContext, model: LoopModel | None
    ) -> RouteDecision:
        """Decide. `model` is the graph's own; `None`: no graph asks."""


Router: TypeAlias = (
    Callable[[str, Sequence[ChatTurn]], RouteName | RouteDecision | Awaitable[RouteName | RouteDecision]] | RunRouter
)
"""`(question, history) -> "skeleton" | "direct" | RouteDecision`, synchronous or not, or a router of this package."""


class BaseRouter:
    """What the routers of this package have in common."""

    is_instant = False
    """Whether it is called on the event loop: it decides in less time than starting a thread would take."""

    def as_edge(self, targets: Mapping[RouteName, str]) -> Runnable[Any, str]:
        """This router as a conditional edge of a parent graph.

        It reads `question` from the parent's state, else its last human message. A router that fails goes `"direct"`.

        Args:
            targets: The node for each route, such as `{"skeleton": "long_answer", "direct": "chat"}`.

        Raises:
            SotConfigError: The targets aren't these two.

        Examples:
            >>> from sot_graph import LearnedRouter
            >>> edge = LearnedRouter().as_edge({"skeleton": "long_answer", "direct": "chat"})
            >>> edge.invoke({"question": "What is 17 * 23?"})
            'chat'
        """
        # Imported here, because they import LangChain, which a learned router alone does without.
        from langchain_core.runnables import RunnableLambda

        from sot_graph.concurrency.background_loop import run_sync
        from sot_graph.options import SotOptions
        from sot_graph.run import open_run

        if set(targets) != set(_ROUTES):
            message = f'as_edge takes {{"skeleton": node, "direct": node}}, not the keys {sorted(map(str, targets))}.'
            raise SotConfigError(message)

        async def choose(state: Any, config: RunnableConfig) -> str:
            router: Any = self
            with open_run(config, SotOptions(), reads_context=False) as run:
                decision = await decide_in_time(router, *_asked_in(state), run=run, model=None)
            return targets[decision.route]

        return RunnableLambda(lambda state, config: run_sync(choose(state, config)), choose, name="route")


def _asked_in(state: Any) -> tuple[str, list[ChatTurn]]:
    """The question in a parent's state, and the conversation before it."""
    from langchain_core.messages import AIMessage, HumanMessage

    from sot_graph.state import fields_of

    values = fields_of(state)
    turns = [
        ChatTurn(role="user" if isinstance(each, HumanMessage) else "assistant", content=str(each.text))
        for each in values.get("messages") or ()
        if isinstance(each, (HumanMessage, AIMessage))
    ]
    asked = {turn["content"]: place for place, turn in enumerate(turns) if turn["role"] == "user"}
    question = values.get("question")
    if not (isinstance(question, str) and question.strip()):
        question = max(asked, key=asked.__getitem__, default=None)
    if question is None:
        message = "The state has neither a question nor a human message to route by."
        raise SotConfigError(message)
    return question, turns[: asked.get(question)]


async def always_direct(_question: str, _history: object) -> RouteName:
    """A router for which every answer is an ordinary one, to compare the points with."""
    return "direct"


def is_probability(value: Any) -> bool:
    """Whether a value is a number from 0 to 1. `True` is none, and neither is NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def check_router(router: object, name: str = "router") -> None:
    """Raise `SotConfigError` unless this, the argument of that name, is a router."""
    if isinstance(router, type) or not isinstance(router, RunRouter):
        ours = ", or one of ours, such as LearnedRouter()" + (' or "draft"' if name == "router" else "")
        hint = f"{ours}; not {brief(router)}" if isinstance(router, str) else ours
        check_call(name, router, {"question": "", "history": []}, hint=hint)


async def decide_in_time(
    router: Router, question: str, history: Sequence[ChatTurn], *, run: RunContext, model: LoopModel | None
) -> RouteDecision:
    """Ask a router within `router_timeout`. Of one that fails it makes a `FailedDecision`, with a WARNING.

    Raises:
        RoutingError: It failed, or was late, and `on_router_failure` is `"raise"`.
    """
    limit = run.seconds_left(run.options.router_timeout)
    try:
        async with asyncio.timeout(limit) as timer:
            return await ask_router(router, question, history, run=run, model=model)
    except Exception as error:
        # Imported here, because they import LangChain, which a learned router alone does without.
        from langgraph.errors import GraphBubbleUp

        from sot_graph.llm.provider_errors import explain

        if isinstance(error, GraphBubbleUp):  # an interrupt: somebody is asked, and the router goes on with the answer
            raise
        redactor = run.trace.redactor(() if model is None else model.secrets)
        redactor.redact_error(error)
        if isinstance(error, TimeoutError) and timer.expired():
            reason = f"the router did not decide within {limit:.3g} s"
        elif isinstance(error, RoutingError):
            reason = str(error)
        else:
            # `explain` reads a model's errors. Of what a caller's own code has raised it gets the words alone.
            is_models = isinstance(router, RunRouter) or isinstance(error, IsolatedCallError) or carried_status(error)
            words = type(error).__name__, redactor.text(message_of(error))
            told = error if is_models else RuntimeError(": ".join(filter(None, words)))
            reason = f"the router failed: {explain(told)}"
        if run.options.on_router_failure == "raise":
            raise RoutingError(reason) from error
    logger.warning("Answering directly: %s.", reason)
    return FailedDecision("direct", reason)


async def ask_router(
    router: Router, question: str, history: Sequence[ChatTurn], *, run: RunContext, model: LoopModel | None
) -> RouteDecision:
    """Ask a router of any kind. It may raise what it likes; `RoutingError` where it returns no route."""
    if isinstance(router, RunRouter):
        return _as_decision(await router.decide(question, history, run=run, model=model))
    try:
        if getattr(router, "is_instant", False):
            return _as_decision(router(question, history))
        return _as_decision(await run_isolated(_ask_user_router(router, question, history, run), "The router"))
    except RoutingError:
        if run.trace.shows_content:
            raise
        # A router of the caller's may quote the question, in what it raises and in what it returns.
        message = "the router returned no route, or raised a RoutingError; the trace hides which"
        raise RoutingError(message) from None


def _as_decision(answer: Any) -> RouteDecision:
    if isinstance(answer, RouteDecision):
        return answer
    if answer in _ROUTES:
        return RouteDecision(answer, "the router said so")
    message = f'the router returned {answer!r:.80}; it must return "skeleton", "direct" or a RouteDecision'
    raise RoutingError(message)


async def _ask_user_router(
    router: Callable[..., Any], question: str, history: Sequence[ChatTurn], run: RunContext
) -> Any:
    """Ask a caller's own router, whether it is asynchronous, synchronous, or returns an awaitable."""
    if run.in_graph:
        from langchain_core.runnables.config import var_child_runnable_config

        # Models that it calls without a config take this one: as those of ours, they aren't heard.
        var_child_runnable_config.set(run.child_config(run_name="choose a route", stage="route"))
    if inspect.iscoroutinefunction(router) or inspect.iscoroutinefunction(type(router).__call__):
        return await router(question, history)
    # A synchronous one may block: it may read a file, make a request, or wait for a lock.
    return await call_in_new_thread(router, question, history)
