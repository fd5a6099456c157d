"""The wiring: the one place that builds a `StateGraph`."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import DEFAULT_RECURSION_LIMIT, ensure_config, var_child_runnable_config
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from sot_graph._seams import ResumedCall, in_class, resumed_call, state_reader, with_parents_messages
from sot_graph.cache import ResultCache
from sot_graph.concurrency.background_loop import CancelScope
from sot_graph.concurrency.call_limiter import CallLimiter
from sot_graph.concurrency.cancellation import cancelled_by_ctrl_c, cancelled_once, closing_calls, ending_run_tasks
from sot_graph.errors import SotConfigError, check_call, check_kind, check_returns_at_once, kind_of
from sot_graph.joiners import Join, PointwiseJoin, join_markdown
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.llm.resolve import resolve_model
from sot_graph.nodes import ANSWER_DIRECTLY, DRAFT_SKELETON, EXPAND_POINT, JOIN, REVIEW_SKELETON, ROUTE, is_sot_graph
from sot_graph.nodes.answer_directly import answer_directly
from sot_graph.nodes.draft_skeleton import draft_skeleton, to_review
from sot_graph.nodes.expand_point import NestedGraph, expand_point, fan_out_points, fan_out_rest
from sot_graph.nodes.graph_node import GraphEdge, GraphNode, trace_policy
from sot_graph.nodes.join import EmbeddedResult, join as join_node
from sot_graph.nodes.question_input import asks_another, last_human
from sot_graph.nodes.review_skeleton import review_skeleton
from sot_graph.nodes.route import after_route, after_route_to_review, route
from sot_graph.options import SotContext, SotOptions
from sot_graph.prompts.templates import SotPrompts, prompts_for
from sot_graph.retrieval.grounding import Ranker
from sot_graph.retrieval.retriever import Retriever, check_retriever
from sot_graph.routing.model_router import DraftRouter
from sot_graph.routing.protocol import Router, check_router
from sot_graph.run import OWN_STEPS, GraphParts
from sot_graph.state import ExpandPointInput, SotInput, SotOutput, SotState, fields_of
from sot_graph.streaming import AnswerTransformer
from sot_graph.writing.expander import Expander, check_expander

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.cache.base import BaseCache
    from langgraph.store.base import BaseStore
    from langgraph.types import Checkpointer, StateSnapshot, StreamMode

logger = logging.getLogger("sot_graph")
_SYNC_WIDTH = 1024
"""LangGraph's sync default runs cpu + 4 tasks at once; a graph's points are to run all together."""


def build_sot_graph(
    model: Runnable[Any, Any] | str,
    *,
    skeleton_model: Runnable[Any, Any] | str | None = None,
    router: Router | Literal["draft"] | None = None,
    expander: Expander | None = None,
    retriever: Retriever | None = None,
    ranker: Ranker | None = None,
    join: Join = join_markdown,
    prompts: SotPrompts | None = None,
    options: SotOptions | None = None,
    cache: BaseCache[Any] | None = None,
    limiter: CallLimiter | None = None,
    name: str = "sot_graph",
) -> StateGraph[SotState, SotContext, SotInput, SotOutput]:
    """The graph before it is compiled, for those who compile it themselves.

    Takes what `create_sot_graph` takes, and raises what it raises. Compiled by hand, a synchronous `invoke`
    expands as many points at once as LangGraph's thread pool is wide (cores + 4) unless the run's config sets
    `max_concurrency`, and a run that ends early leaves its opening to be written to the end.

    Examples:
        >>> from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought
        >>> builder = build_sot_graph(ScriptedChatModel(answer_skeleton_of_thought()))
        >>> graph = builder.compile(name="answer")
    """
    resolved = resolve_model(model)
    drafting = resolved if skeleton_model is None else resolve_model(skeleton_model, argument="skeleton_model")
    check_parts(router=router, join=join, prompts=prompts, options=options, limiter=limiter)
    if expander is not None:
        check_expander(expander)
    if retriever is not None:
        check_retriever(retriever)
    if ranker is not None:
        check_call("ranker", ranker, {"query": "", "documents": []})
    draft_decides = router == "draft" or isinstance(router, DraftRouter)
    own_router = None if draft_decides else cast("Router | None", router)
    loop_model = LoopModel(resolved)
    prompts, options = prompts or prompts_for(resolved), options or SotOptions()
    parts = GraphParts(
        model=loop_model,
        skeleton_model=loop_model if drafting is resolved else LoopModel(drafting),
        prompts=prompts,
        options=options,
        join=join,
        cache=None if cache is None else ResultCache(cache),
        limiter=limiter,
        router=own_router,
        draft_decides=draft_decides,
        expander=expander,
        retriever=retriever,
        ranker=ranker,
        # Providers take nothing else in a message's name.
        name=re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:64],
    )
    _warn_of_ignored_lengths(prompts, options)
    if draft_decides and prompts.max_title_words is not None:
        logger.warning(
            'router="draft" leaves the decision to a model whose prompts are for small ones (SotPrompts.small()), '
            "which may be too small for it: LearnedRouter() decides without a model."
        )
    return _wired(_with_levels(parts))


def _wired(parts: GraphParts) -> StateGraph[SotState, SotContext, SotInput, SotOutput]:
    builder: StateGraph[SotState, SotContext, SotInput, SotOutput] = StateGraph(
        SotState, context_schema=SotContext, input_schema=SotInput, output_schema=SotOutput
    )

    def add(name: str, function: Callable[..., Any], *, begins: bool = False, schema: type[Any] = SotState) -> None:
        node = GraphNode(function, parts, name=name, begins=begins)
        builder.add_node(name, node, input_schema=schema, trace_policy=trace_policy(name, begins=begins))

    reviews = parts.options.review_skeleton
    add(DRAFT_SKELETON, draft_skeleton, begins=parts.router is None)
    add(EXPAND_POINT, expand_point, schema=ExpandPointInput)
    add(JOIN, join_node)
    add(ANSWER_DIRECTLY, answer_directly)
    before_join = [EXPAND_POINT, JOIN]
    if parts.router is None:
        builder.add_edge(START, DRAFT_SKELETON)
    else:
        add(ROUTE, route, begins=True)
        builder.add_edge(START, ROUTE)
        after = GraphEdge(after_route_to_review if reviews else after_route)
        ways = [DRAFT_SKELETON, ANSWER_DIRECTLY, END, *([REVIEW_SKELETON] if reviews else before_join)]
        builder.add_conditional_edges(ROUTE, after, ways)
    without_skeleton = [ANSWER_DIRECTLY, END] if parts.draft_decides else [ANSWER_DIRECTLY]
    fan_out = GraphEdge(fan_out_points)
    if reviews:
        add(REVIEW_SKELETON, review_skeleton)
        builder.add_conditional_edges(DRAFT_SKELETON, GraphEdge(to_review), [REVIEW_SKELETON, *without_skeleton])
        builder.add_conditional_edges(REVIEW_SKELETON, fan_out, [*before_join, DRAFT_SKELETON])
    else:
        builder.add_conditional_edges(DRAFT_SKELETON, fan_out, [*before_join, *without_skeleton])
    builder.add_edge(EXPAND_POINT, JOIN)
    builder.add_conditional_edges(JOIN, GraphEdge(fan_out_rest), [EXPAND_POINT, END])
    builder.add_edge(ANSWER_DIRECTLY, END)
    return builder


def _with_levels(parts: GraphParts) -> GraphParts:
    """The same parts, with the graph that writes the points, if any: the `expander`, or one for the level below."""
    expander, options = parts.expander, parts.options
    if expander is None and options.depth > 1:
        join = parts.join if isinstance(parts.join, PointwiseJoin) else join_markdown
        # The frame and the review belong to the whole answer. The point's own time and places bound it.
        off: dict[str, Any] = {"frame": "none", "review_skeleton": False, "deadline": None, "max_concurrency": None}
        below = GraphParts(
            model=parts.model,
            skeleton_model=parts.skeleton_model,
            prompts=parts.prompts,
            options=replace(options, depth=options.depth - 1, **off),
            join=join.below(),
            cache=None,
            draft_decides=True,
        )
        expander = _compiled(_wired(_with_levels(below)))
    return replace(parts, expander=NestedGraph(expander) if is_sot_graph(expander) else expander)


def check_parts(
    *,
    router: object = None,
    join: object = join_markdown,
    prompts: object = None,
    options: object = None,
    limiter: object = None,
) -> None:
    """Check what a graph is made with beside its model.

    Raises:
        SotConfigError: One of them is of the wrong kind.
    """
    if router is not None and router != "draft":
        check_router(router)
    check_kind("limiter", limiter, CallLimiter)
    check_call("join", join, {"question": "", "skeleton": [], "expansions": []})
    check_returns_at_once("join", join, "returns the answer as a string")
    check_kind("prompts", prompts, SotPrompts)
    check_kind("options", options, SotOptions)


def create_sot_graph(
    model: Runnable[Any, Any] | str,
    *,
    skeleton_model: Runnable[Any, Any] | str | None = None,
    router: Router | Literal["draft"] | None = None,
    expander: Expander | None = None,
    retriever: Retriever | None = None,
    ranker: Ranker | None = None,
    join: Join = join_markdown,
    prompts: SotPrompts | None = None,
    options: SotOptions | None = None,
    limiter: CallLimiter | None = None,
    checkpointer: Checkpointer = None,
    cache: BaseCache[Any] | None = None,
    store: BaseStore | None = None,
    name: str = "sot_graph",
) -> CompiledStateGraph[SotState, SotContext, SotInput, SotOutput]:
    """Skeleton-of-Thought as a compiled LangGraph graph.

    The model drafts a short skeleton of the answer, all points are expanded in parallel, and a join puts them
    together (Ning et al., "Skeleton-of-Thought", ICLR 2024, section 2).

    Args:
        model: A LangChain chat model, or a name: `"gpt-4o-mini"`, `"openai:..."`, or `"provider:..."` where
            LangChain's `init_chat_model` is installed. Another Runnable, such as a chain, is asked as it is.
        skeleton_model: Drafts the skeleton in `model`'s place.
        router: Says which questions take the skeleton. `"draft"`, or `DraftRouter()`: the call that would draft it may
            answer instead. Others decide before it: `LearnedRouter()`, `ModelRouter(model)`, `CascadeRouter(...)`,
            or any callable, also async, of `(question, history)` that returns `"skeleton"`, `"direct"` or a
            `RouteDecision`. Without one, every question does.
        expander: Writes the points in the model's place: a Runnable, a graph such as an agent with tools, or a callable
            of `{"question", "skeleton", "point", "messages"}`, also async, also a generator. It returns a text, an
            `AIMessage`, `{"text", "sources"}`, or an agent's state.
        retriever: Finds documents that the answer rests on and cites: a retriever of LangChain's, or a callable of a
            query, also async. It is asked for the question, and for each point by `"{question} {title}"`.
        ranker: Says which of many documents concern a point, in place of BM25: a callable of `(query, documents)`, also
            async, that returns those that do, best first.
        join: Puts the expansions together: `join_markdown`, `join_plain`, `join_headings`, a `PointwiseJoin`,
            or any callable of `(question, skeleton, expansions) -> str`.
        prompts: What the models are told. By default `SotPrompts()`, or `SotPrompts.small()` for a model whose
            `metadata` says `{"sot_prompts": "small"}`, as the embedded one's does.
        options: Every limit and switch.
        checkpointer: LangGraph's, for threads, resume and interrupts.
        limiter: Bounds the model calls of all graphs that it is given to, together.
        cache: LangGraph's. Keeps skeletons and points that are good, by model, prompts, options, history and
            question.
        store: LangGraph's.
        name: The graph's name in traces and in Studio, and that of the answer's message.

    Returns:
        A graph: `graph.invoke({"question": "..."})` gives a dict with `answer` and the keys of `SotOutput`;
        `parent.add_node("answer", graph)` makes it a subgraph.

    Raises:
        SotConfigError: A prompt template, a graph, or nothing that can be asked in `model`'s place; an unknown
            provider, a missing package or key.

    Examples:
        >>> from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought
        >>> graph = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought()))
        >>> result = graph.invoke({"question": "How does sleep help memory?"})
        >>> result["route"]
        'skeleton'
    """
    builder = build_sot_graph(
        model,
        skeleton_model=skeleton_model,
        router=router,
        expander=expander,
        retriever=retriever,
        ranker=ranker,
        join=join,
        prompts=prompts,
        options=options,
        cache=cache,
        limiter=limiter,
        name=name,
    )
    return _compiled(builder, checkpointer=checkpointer, cache=cache, store=store, name=name)


def _compiled(
    builder: StateGraph[SotState, SotContext, SotInput, SotOutput], *, name: str = "sot_graph", **kept_by: Any
) -> CompiledStateGraph[SotState, SotContext, SotInput, SotOutput]:
    graph = builder.compile(name=name, transformers=[AnswerTransformer], **kept_by)
    return in_class(graph, _SotGraph).with_config(max_concurrency=_SYNC_WIDTH)


class _SotGraph(CompiledStateGraph[SotState, SotContext, SotInput, SotOutput]):
    """A compiled graph that, as a node, writes only its own keys; its calls end when a synchronous caller leaves."""

    def __deepcopy__(self, _memo: object) -> Self:
        """A copy that runs. A deep copy wouldn't: LangGraph knows its mark of a missing value by identity."""
        return self.copy()

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As LangGraph's; in a parent with an `EmbeddedResult`."""
        result = super().invoke(input, config, **kwargs)
        return _for_parent(result, config) if _is_embedded(config) and _wants_values(kwargs) else result

    def batch(self, inputs: Any, config: Any = None, **kwargs: Any) -> Any:
        """As LangChain's, which runs threads. Ctrl-C ends their model calls at once."""
        scope = CancelScope()
        with scope.entered(), cancelled_by_ctrl_c(scope):
            return super().batch(inputs, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The same, asynchronously."""
        result = await super().ainvoke(input, config, **kwargs)
        return _for_parent(result, config) if _is_embedded(config) and _wants_values(kwargs) else result

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """As LangGraph's, whose `invoke` reads this."""
        config, kwargs = _call_settings(input, self.config, config, kwargs)
        is_embedded = _is_embedded(config)
        if is_embedded:
            if call := self._resumed_call(input, config):
                config = _config_after(self.get_state(call.thread), call, input)
            input, config = self._without_history(input, config)
        chunks = super().stream(input, config, **kwargs)
        is_for_parent = is_embedded and _wants_values(kwargs, default=_stream_mode(config))
        return closing_calls(chunks, partial(_for_parent, config=config) if is_for_parent else None)

    def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """The same, asynchronously."""
        config, kwargs = _call_settings(input, self.config, config, kwargs)
        if _is_embedded(config):
            return self._astream_in_parent(input, config, kwargs, self._resumed_call(input, config))
        # Without it, a web server's second cancellation would end LangGraph's clean-up, and calls would go on. A node
        # is cancelled by LangGraph, which does that once.
        return cancelled_once(self._astream(input, config, kwargs))

    def _astream(self, input: Any, config: RunnableConfig | None, settings: dict[str, Any]) -> AsyncGenerator[Any]:
        # Without it, an opening would be written on after a run that ends early.
        return ending_run_tasks(cast("AsyncGenerator[Any]", super().astream(input, config, **settings)))

    async def _astream_in_parent(
        self, input: Any, config: RunnableConfig | None, settings: dict[str, Any], call: ResumedCall | None
    ) -> AsyncGenerator[Any]:
        if call is not None:
            config = _config_after(await self.aget_state(call.thread), call, input)
        input, config = self._without_history(input, config)
        is_for_parent = _wants_values(settings, default=_stream_mode(config))
        async with aclosing(self._astream(input, config, settings)) as chunks:
            async for chunk in chunks:
                yield _for_parent(chunk, config) if is_for_parent else chunk

    def _resumed_call(self, given: Any, config: RunnableConfig | None) -> ResumedCall | None:
        """As a node with a thread of its own, in a parent that is resumed: what may become of an input for it."""
        is_question = self.checkpointer is True and not (given is None or isinstance(given, Command))
        return resumed_call(ensure_config(config)) if is_question else None

    def _without_history(self, given: Any, config: RunnableConfig | None) -> tuple[Any, RunnableConfig | None]:
        """As a node: the parent's messages before the question go to the nodes by the config, and into no checkpoint.

        The parent's checkpoints hold them already, and a parent that is resumed gives the same input again. That is so
        only of messages that stand in the parent's state: a function may give others, such as a summary. With
        `checkpointer=True` the graph's thread is its own, and outlives the parent's node.
        """
        read = None if config is None or self.checkpointer is True else state_reader(config)
        messages: Any = fields_of(given).get("messages")
        place = last_human(messages) if isinstance(messages, list) else None
        if config is None or read is None or not place or not _has(read, "messages"):
            return given, config
        history, kept = messages[:place], read(["messages"]).get("messages")
        own = kept if isinstance(kept, list) else []
        known = {message.id: message for message in own if isinstance(message, BaseMessage) and message.id}
        if not all(isinstance(message, BaseMessage) and known.get(message.id or "") == message for message in history):
            return given, config
        if isinstance(given, Mapping):
            changed: Any = {**given, "messages": messages[place:]}
        else:
            changed = copy(given)
            object.__setattr__(changed, "messages", messages[place:])  # a dataclass may be frozen
        return changed, with_parents_messages(config, history)


def _call_settings(
    given: object, own: RunnableConfig | None, config: RunnableConfig | None, settings: dict[str, Any]
) -> tuple[RunnableConfig | None, dict[str, Any]]:
    """The config and the settings of a call, whose input is checked. `own`: the graph's, by `with_config`.

    A caller's `recursion_limit` is for loops. This graph has none: it would end a run that is paid for. Its nodes give
    the limit back to what the caller has handed in, such as an agent that writes points.

    A context that is passed to this graph's own `invoke` is meant for it, also within a node of another graph: there it
    goes below `sot`, where the nodes look for it.

    Raises:
        SotConfigError: What is often given in place of a graph's input.
    """
    if isinstance(given, (str, list, tuple, BaseMessage)):
        message = f'The graph takes {{"question": "..."}} or {{"messages": [...]}}, not {kind_of(given)}.'
        raise SotConfigError(message)
    limits = [each.get("recursion_limit") or 0 for each in (config, own, var_child_runnable_config.get()) if each]
    # LangChain's default stands in a config where nobody has set any.
    allowed = next((limit for limit in limits if limit not in {0, DEFAULT_RECURSION_LIMIT}), 0)
    config = {**(config or {}), "recursion_limit": OWN_STEPS + allowed}
    context = settings.get("context")
    if not isinstance(context, Mapping) or "sot" in context or not _is_embedded(config):
        return config, settings
    # A function in a node may hand on its parent's whole context, whose other keys are no mistakes.
    options = {key: value for key, value in context.items() if key in SotContext.__annotations__}
    return config, {**settings, "context": {**context, "sot": options}}


def _config_after(kept: StateSnapshot, call: ResumedCall, given: Any) -> RunnableConfig:
    """How a graph with a thread of its own is called by a parent that is resumed.

    It goes on with a run that was begun in this very step of the parent and hasn't ended, such as one that waits for
    its review. With one of this step that has ended, or of an earlier step that hasn't, only if the question is the
    same: all calls of a task of LangGraph's functional API, for one, are of one step.
    """
    step, begun_in = call.thread["configurable"].get("checkpoint_map", {}), (kept.metadata or {}).get("parents", {})
    is_of_this_step = bool(begun_in) and begun_in.items() <= step.items()
    is_under_way = bool(kept.next)
    goes_on = (is_of_this_step and is_under_way) or (
        (is_of_this_step or is_under_way) and not asks_another(given, kept.values)
    )
    return call.goes_on if goes_on else call.begins


def _wants_values(settings: Mapping[str, Any], *, default: StreamMode = "values") -> bool:
    """Whether a caller asks for whole results, and for all of their keys."""
    return settings.get("output_keys") is None and (settings.get("stream_mode") or default) == "values"


def _stream_mode(config: RunnableConfig | None) -> StreamMode:
    """How LangGraph streams where nobody says it: a graph that was given the config of a parent's node, by values."""
    return "values" if config is not None and state_reader(config) is not None else "updates"


def _is_embedded(config: RunnableConfig | None) -> bool:
    """Whether the graph is called within a node of another one."""
    return bool(ensure_config(config).get("configurable", {}).get("checkpoint_ns"))


def _for_parent(result: Any, config: RunnableConfig | None) -> Any:
    if type(result) is not dict:
        return result
    read = state_reader(ensure_config(config))
    return EmbeddedResult(result, is_lost=read is not None and not any(_has(read, key) for key in ("messages", "sot")))


def _has(read: Callable[[list[str]], Any], key: str) -> bool:
    """Whether the parent, whose state is read, has a key."""
    try:
        read([key])
    except KeyError:
        return False
    return True


def _warn_of_ignored_lengths(prompts: SotPrompts, options: SotOptions) -> None:
    """Warn of lengths that the prompts have no placeholder for. Those of the small profile show lengths by examples."""
    skeleton = "skeleton_list" if (prompts.skeleton_format or options.skeleton_format) == "list" else "skeleton"
    places = {"title_length": skeleton, "point_length": "expansion"}
    defaults = SotOptions()
    for option, template in places.items():
        value = getattr(options, option)
        if value != getattr(defaults, option) and f"{{{option}}}" not in getattr(prompts, template):
            what = f"options.{option}={value!r} changes nothing: prompts.{template} has no {{{option}}}"
            logger.warning("%s, as in SotPrompts.small().", what)
