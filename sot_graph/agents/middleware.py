"""`SkeletonOfThoughtMiddleware`: the long answers of a LangChain agent, written by Skeleton-of-Thought."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import add_usage
from langchain_core.runnables.config import ensure_config
from langgraph.constants import TAG_NOSTREAM

from sot_graph.agents.stand_in_model import AgentTurn, StandInModel
from sot_graph.concurrency.background_loop import run_sync
from sot_graph.errors import MissingExtraError, SotConfigError
from sot_graph.graph import check_parts, create_sot_graph
from sot_graph.joiners import Join, join_markdown
from sot_graph.llm.loop_bound_model import LoopModel, innermost_model
from sot_graph.nodes.question_input import last_human, length_of, turns_of
from sot_graph.options import SotOptions, context_changes, with_changes
from sot_graph.prompts.messages import draft_or_answer, point_limits
from sot_graph.prompts.templates import prompts_for
from sot_graph.routing.learned_router import LearnedRouter
from sot_graph.routing.model_router import DraftRouter
from sot_graph.routing.protocol import FailedDecision, Router, RunRouter, decide_in_time
from sot_graph.run import open_run
from sot_graph.skeleton.answering_drafter import SkeletonForm

if TYPE_CHECKING:
    from sot_graph.concurrency.call_limiter import CallLimiter
    from sot_graph.prompts.templates import SotPrompts
    from sot_graph.types import RouteName

K = TypeVar("K")
V = TypeVar("V")

logger = logging.getLogger("sot_graph")

_SETTINGS_OF_TOOLS = frozenset({"parallel_tool_calls", "strict", "tool_choice", "tools"})
"""Providers refuse them in a call without tools, such as a point's."""
_MOST_DECISIONS = 256
_MOST_MODELS = 16
_is_at_work: ContextVar[bool] = ContextVar("sot_graph_middleware_works", default=False)
"""Whether a middleware of this class has the model's call: a second would ask for a skeleton of the first's answer."""


try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
except ModuleNotFoundError as missing:
    message = (
        "SkeletonOfThoughtMiddleware is for LangChain's create_agent, and langchain is not installed: "
        "pip install 'sot-graph[agents]'"
    )
    raise MissingExtraError(message) from missing


class SkeletonOfThoughtMiddleware(AgentMiddleware[Any, Any]):
    """Has the long final answers of an agent of `langchain.agents.create_agent` written by Skeleton-of-Thought.

    Where the router says "skeleton", the agent's model gets its call, with its tools and settings, and one instruction
    more: call a tool, answer in short, or write the skeleton of a longer answer. Calls of tools and short answers are
    the agent's turn as they are. From a skeleton, all points are written at the same time by the agent's own model,
    with the system prompt, the conversation and what its tools have found. The call that decides is the draft: nothing
    is paid for twice.

    Calls with a `response_format` or a forced `tool_choice`, and questions that the router sends "direct", are left
    alone.

    Args:
        router: As in `create_sot_graph`, asked once a question; by default `LearnedRouter()`, which calls no model.
            `"draft"`: every call may become a skeleton.
        options: As in `create_sot_graph`; `min_points`, `max_points` and `title_length` shape the skeleton,
            `router_timeout` and `on_router_failure` hold for the router, and `deadline` for the whole call: the reply
            that decides, and the points.
        prompts: As in `create_sot_graph`: how the points are asked for.
        join: As in `create_sot_graph`.
        limiter: As in `create_sot_graph`, for the points.

    Raises:
        SotConfigError: An argument of the wrong kind, or `options.review_skeleton`: in the middle of a model's call
            nobody can be waited for. In a run: the agent has tools, and its model takes none.
        SkeletonError: In a run: the agent's model had not answered at the deadline.
        RoutingError: In a run: the router failed, and `options.on_router_failure` is `"raise"`.
        ExpansionError: In a run: points could not be written, and `options.on_point_failure` is `"raise"`, or it is
            `"skip"` and nothing is left. By default a message says which are missing, be it all of them.

    Examples:
        >>> from langchain.agents import create_agent
        >>> from sot_graph.testing import ScriptedChatModel
        >>> model = ScriptedChatModel(lambda messages: "Hello!")
        >>> agent = create_agent(model, middleware=[SkeletonOfThoughtMiddleware()])
        >>> agent.invoke({"messages": [("user", "Hi!")]})["messages"][-1].text
        'Hello!'
    """

    def __init__(
        self,
        router: Router | Literal["draft"] | None = None,
        *,
        options: SotOptions | None = None,
        prompts: SotPrompts | None = None,
        join: Join = join_markdown,
        limiter: CallLimiter | None = None,
    ) -> None:
        super().__init__()
        check_parts(router=router, join=join, prompts=prompts, options=options, limiter=limiter)
        self.options = options or SotOptions()
        if self.options.review_skeleton:
            message = (
                "SkeletonOfThoughtMiddleware can't stop for a review: leave out review_skeleton, or give the agent the "
                "graph as a tool (create_sot_tool), which can."
            )
            raise SotConfigError(message)
        self._prompts = prompts
        self._router: Router = LearnedRouter() if router is None else DraftRouter() if router == "draft" else router
        self._make_graph = partial(create_sot_graph, options=self.options, prompts=prompts, join=join, limiter=limiter)
        self._routes: dict[str, RouteName] = {}
        """The router's decisions, by the question with its history."""
        # By the identity of the agent's model, which isn't given to another as long as they hold theirs.
        self._models: dict[int, LoopModel] = {}
        """What a `ModelRouter` without a model asks: the agent's model as it is, by calls that the router repeats."""
        self._draft_models: dict[int, LoopModel] = {}
        """What makes the call that decides: the innermost model, with its client's retries, for nobody repeats it."""
        self._graphs: dict[tuple[int, str], tuple[Any, Any]] = {}
        """What writes the points, each behind the model that it is of; also by the settings that are bound to that."""

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Make the model's call, or the one that may become a skeleton."""
        turn = self._begin(request)
        if turn is None:
            return handler(request)
        route = run_sync(self._route(request, turn))
        with _at_work():
            return _finished(handler(self._request(request, turn, route)), request, turn)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """The same, asynchronously."""
        turn = self._begin(request)
        if turn is None:
            return await handler(request)
        route = await self._route(request, turn)
        with _at_work():
            return _finished(await handler(self._request(request, turn, route)), request, turn)

    def _begin(self, request: ModelRequest[Any]) -> AgentTurn | None:
        """What is to be answered. `None`: the call is left alone."""
        if _is_at_work.get() or request.response_format is not None or request.tool_choice not in (None, "auto"):
            return None
        messages, position = request.messages, last_human(request.messages)
        if position is None or not (question := str(messages[position].text).strip()):
            return None
        options = with_changes(self.options, context_changes(request.runtime.context, embedded=True))
        length = length_of(question, turns_of([*messages[:position], *messages[position + 1 :]]))
        if length > options.max_question_chars:
            logger.warning(
                "The conversation has %s characters, options.max_question_chars allows %s: the agent answers by "
                "itself.",
                f"{length:,}",
                f"{options.max_question_chars:,}",
            )
            return None
        return AgentTurn(question, turns_of(messages[:position]), options)

    async def _route(self, request: ModelRequest[Any], turn: AgentTurn) -> RouteName:
        """Ask the router, once a question, however many calls the agent makes for it. A failure is no decision.

        Raises:
            RoutingError: The router failed, and `on_router_failure` is `"raise"`.
        """
        if isinstance(self._router, DraftRouter):
            return "skeleton"
        key = hashlib.sha256(repr((turn.question, turn.history)).encode()).hexdigest()
        if (known := self._routes.get(key)) is not None:
            return known
        model = None
        if isinstance(self._router, RunRouter):  # one without a model of its own asks the agent's
            model = _kept(self._models, id(request.model), partial(LoopModel, request.model), _MOST_MODELS)
        # What a router's model says is no part of the agent's answer.
        config = ensure_config({"tags": [TAG_NOSTREAM]})
        with open_run(config, turn.options, reads_context=False) as run:
            decision = await decide_in_time(self._router, turn.question, turn.history, run=run, model=model)
        if isinstance(decision, FailedDecision):
            return decision.route
        return _kept(self._routes, key, lambda: decision.route, _MOST_DECISIONS)

    def _request(self, request: ModelRequest[Any], turn: AgentTurn, route: RouteName) -> ModelRequest[Any]:
        """The call as it is made: of the agent's model, or of the one that stands in its place."""
        if route == "direct":
            return request
        if request.tools and getattr(type(request.model), "bind_tools", None) is BaseChatModel.bind_tools:
            message = (
                f"The agent has tools, and its model ({type(request.model).__name__}) takes none: use a model that "
                "does, or an agent without tools."
            )
            raise SotConfigError(message)
        settings = {key: value for key, value in request.model_settings.items() if key not in _SETTINGS_OF_TOOLS}
        model = request.model.bind(**settings) if settings else request.model
        key = (id(request.model), repr(sorted(settings.items())))
        # Made once a model and settings, for making one opens connections.
        _, graph = _kept(self._graphs, key, lambda: (request.model, self._make_graph(model)), _MOST_MODELS)
        inner = innermost_model(request.model)
        loop_model = _kept(self._draft_models, id(inner), partial(LoopModel, inner, keeps_client=True), _MOST_MODELS)
        prompts, options = self._prompts or prompts_for(request.model), turn.options
        stand_in = StandInModel(
            agent_model=request.model,
            loop_model=loop_model,
            graph=graph,
            instruction=draft_or_answer(prompts, options, may_call_tools=bool(request.tools)),
            form=SkeletonForm(*point_limits(prompts, options)),
            turn=turn,
            name="skeleton of thought",
        )
        return request.override(model=stand_in)


def _finished(response: ModelResponse[Any], request: ModelRequest[Any], turn: AgentTurn) -> ModelResponse[Any]:
    """The response with what it cost in its message. For an agent's own answer, `astream_answer` gets `sot.answer`."""
    *before, last = response.result
    if not isinstance(last, AIMessage):
        return response
    if turn.usage is not None:
        last = last.model_copy(update={"usage_metadata": add_usage(turn.usage, last.usage_metadata)})
    if not (last.tool_calls or turn.by_skeleton) and last.text:
        event = {"type": "sot.answer", "answer": str(last.text), "id": f"{last.id}:answer"}
        request.runtime.stream_writer(event)
    return replace(response, result=[*before, last])


def _kept(values: dict[K, V], key: K, make: Callable[[], V], most: int) -> V:
    """What is kept under a key, or else made now, in place of the oldest. Of two made at once, the first stays."""
    kept = values.get(key)
    if kept is not None:
        return kept
    value = values.setdefault(key, make())
    for old in list(values)[:-most]:  # the list is made in one step, so other threads may change the values
        values.pop(old, None)
    return value


@contextmanager
def _at_work() -> Iterator[None]:
    token = _is_at_work.set(True)
    try:
        yield
    finally:
        _is_at_work.reset(token)
