"""`SkeletonOfThoughtMiddleware`: the long answers of a LangChain agent, written by Skeleton-of-Thought."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import add_usage

from sot_graph.errors import SotConfigError
from sot_graph.graph import check_parts, create_sot_graph
from sot_graph.integrations.answering import AnsweringModel, Spent
from sot_graph.integrations.bounding import Clock
from sot_graph.integrations.extra import AgentMiddleware, ModelRequest, ModelResponse
from sot_graph.integrations.routing import AgentQuestion, AgentRouting, Recent, read_agent_question
from sot_graph.joiners import Join, join_markdown
from sot_graph.models import run_sync
from sot_graph.options import SotOptions, apply_context
from sot_graph.routing.learned import LearnedRouter

if TYPE_CHECKING:
    from sot_graph.limiting import CallLimiter
    from sot_graph.prompts import SotPrompts
    from sot_graph.routing.deciding import ModelRouting, Router
    from sot_graph.types import RouteName

__all__ = ["SkeletonOfThoughtMiddleware"]

_SETTINGS_OF_TOOLS = frozenset({"parallel_tool_calls", "strict", "tool_choice", "tools"})
"""Providers refuse them in a call without tools, such as a point's."""
_MOST_GRAPHS = 16
_RUN_NAME = "skeleton of thought"
_works: ContextVar[bool] = ContextVar("sot_graph_middleware_works", default=False)
"""Whether one around this one has the model's call: two of them would each ask for a skeleton of the other's answer."""


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

    Example:
        >>> from langchain.agents import create_agent
        >>> from sot_graph.testing import ScriptedChatModel
        >>> model = ScriptedChatModel(lambda messages: "Hello!")
        >>> agent = create_agent(model, middleware=[SkeletonOfThoughtMiddleware()])
        >>> agent.invoke({"messages": [("user", "Hi!")]})["messages"][-1].text
        'Hello!'
    """

    def __init__(
        self,
        router: Router | ModelRouting | None = None,
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
        self._routing = AgentRouting(LearnedRouter() if router is None else router)
        self._make_graph = partial(create_sot_graph, options=self.options, prompts=prompts, join=join, limiter=limiter)
        self._graphs: Recent[tuple[int, str], tuple[Any, Any]] = Recent(_MOST_GRAPHS)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Make the model's call, or the one that may become a skeleton."""
        turn = self._begin(request)
        if turn is None:
            return handler(request)
        route = run_sync(self._routing.route(turn.question, request.model, turn.options))
        with _at_work():
            return turn.finish(handler(self._request(turn, route)))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """The same, asynchronously."""
        turn = self._begin(request)
        if turn is None:
            return await handler(request)
        route = await self._routing.route(turn.question, request.model, turn.options)
        with _at_work():
            return turn.finish(await handler(self._request(turn, route)))

    def _begin(self, request: ModelRequest[Any]) -> _Turn | None:
        """What is to be answered; `None`: the call isn't for an answer in free text, or another of us has it."""
        if _works.get() or request.response_format is not None or request.tool_choice not in (None, "auto"):
            return None
        options = apply_context(self.options, request.runtime.context, embedded=True)
        question = read_agent_question(request.messages, options)
        return None if question is None else _Turn(request, question, options)

    def _request(self, turn: _Turn, route: RouteName) -> ModelRequest[Any]:
        """The call as it is made: of the agent's model, or of the one that stands in its place."""
        request = turn.request
        if route == "direct":
            return request
        _check_takes_tools(request)
        model = AnsweringModel(
            asked=request.model,
            graph=self._graph_for(request),
            options=turn.options,
            clock=turn.clock,
            spent=turn.spent,
            name=_RUN_NAME,
        )
        return request.override(model=model)

    def _graph_for(self, request: ModelRequest[Any]) -> Any:
        """The graph that writes with this model and these settings: made once, for making one opens connections."""
        settings = {key: value for key, value in request.model_settings.items() if key not in _SETTINGS_OF_TOOLS}
        key = (id(request.model), repr(sorted(settings.items())))
        kept = self._graphs.get(key)
        if kept is None:
            model = request.model.bind(**settings) if settings else request.model
            # With the model, whose identity could otherwise be given to another.
            kept = self._graphs.put(key, (request.model, self._make_graph(model)))
        return kept[1]


class _Turn:
    """One call of the agent's model, from its request to its response."""

    def __init__(self, request: ModelRequest[Any], question: AgentQuestion, options: SotOptions) -> None:
        self.request = request
        self.question = question
        self.options = options
        self.clock = Clock(options.deadline)
        self.spent = Spent()

    def finish(self, response: ModelResponse[Any]) -> ModelResponse[Any]:
        """The response with what it cost in its message; a final answer is told to those who listen."""
        *before, last = response.result
        if not isinstance(last, AIMessage):
            return response
        if self.spent.usage is not None:
            last = last.model_copy(update={"usage_metadata": add_usage(self.spent.usage, last.usage_metadata)})
        if not (last.tool_calls or self.spent.by_skeleton) and last.text:
            self.request.runtime.stream_writer({"type": "sot.answer", "answer": str(last.text)})
        return replace(response, result=[*before, last])


@contextmanager
def _at_work() -> Iterator[None]:
    token = _works.set(True)
    try:
        yield
    finally:
        _works.reset(token)


def _check_takes_tools(request: ModelRequest[Any]) -> None:
    takes_none = getattr(type(request.model), "bind_tools", None) is BaseChatModel.bind_tools
    if request.tools and takes_none:
        message = (
            f"The agent has tools, and its model ({type(request.model).__name__}) takes none: use a model that does, "
            "or an agent without tools."
        )
        raise SotConfigError(message)
