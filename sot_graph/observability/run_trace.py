"""How a run looks in a trace: names that read like the answer, figures to filter by, nothing that is to be hidden.

Nothing here sends anything. LangChain's tracers do, LangSmith's first of all. What is said here reaches every tracer
that keeps LangChain's tree of runs, and a model call's name, tags and metadata reach every callback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages.ai import add_usage
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from langsmith import get_tracing_context

from sot_graph.observability.redaction import discreet, replicas_hide_content, tracer_hides_content

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import RunnableConfig
    from langchain_core.tracers.schemas import Run

    from sot_graph.types import Stage

__all__ = ["CallTrace", "NodeTrace", "OnError", "with_first"]

OnError: TypeAlias = "Callable[[BaseException, LLMResult | None], UsageMetadata | None]"


class NodeTrace:
    """Says, where there are tracers, what a node's run is about.

    LangGraph names the run of a `Send` after its node, and posts it before the node begins; what is changed here goes
    out when the run ends.

    Args:
        config: The node's config.
    """

    __slots__ = ("_node_id", "_tracers", "shows_content")

    def __init__(self, config: RunnableConfig) -> None:
        manager: Any = config.get("callbacks")
        self._tracers = [
            handler
            for handler in getattr(manager, "handlers", ())
            if isinstance(handler, (BaseTracer, AsyncBaseTracer))
        ]
        self._node_id = getattr(manager, "parent_run_id", None)
        self.shows_content = not any(map(tracer_hides_content, self._tracers)) and not replicas_hide_content(
            self._nodes()
        )
        """Whether names and metadata may hold what was asked or written."""

    @property
    def is_watched(self) -> bool:
        """Whether there is any tracer to describe something to."""
        return bool(self._tracers)

    def name(self, name: str, title: str) -> str:
        """A run's name: with its title, where content isn't hidden."""
        return f"{name}: {title}" if self.shows_content else name

    def callbacks_below(self, callbacks: Any) -> Any:
        """The node's callbacks for what it calls: where content is hidden, no error tells any of it."""
        if self.shows_content or not isinstance(callbacks, BaseCallbackManager):
            return callbacks
        manager = callbacks.copy()
        manager.handlers = [discreet(handler) for handler in manager.handlers]
        manager.inheritable_handlers = [discreet(handler) for handler in manager.inheritable_handlers]
        return manager

    def describe_node(
        self, *, name: str | None = None, stage: Stage | None = None, error: str | None = None, **metadata: Any
    ) -> None:
        """Say what the node's run is about.

        Args:
            name: In place of the node's own.
            stage: Tags it.
            error: Marks the run as failed, though the node ended well: one failed point doesn't fail the graph.
            **metadata: To filter by. A value of `None` isn't told.
        """
        for run in self._nodes():
            run.name = name or run.name
            run.error = error or run.error
            if stage is not None:
                run.tags = [*(run.tags or []), f"sot:{stage}"]
            _add_metadata(run, metadata)

    def describe_graph(
        self,
        metadata: Mapping[str, Any],
        *,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what the run of the whole graph is about; of a subgraph, that of the subgraph.

        Args:
            metadata: To filter by. A value of `None` isn't told.
            inputs: Shown beside what LangGraph was given: of a resumed run, that is no question.
            outputs: Shown in place of what LangGraph returns: of a streamed run, that is all of its channels.
        """
        for run in self._graphs():
            _add_metadata(run, metadata)
            if inputs is not None:
                run.add_inputs(dict(inputs))
            if outputs is not None:
                run.set(outputs=outputs)

    def _nodes(self) -> Iterator[Run]:
        for tracer in self._tracers:
            run = tracer.run_map.get(str(self._node_id))
            if run is not None:
                yield run

    def _graphs(self) -> Iterator[Run]:
        for tracer in self._tracers:
            node = tracer.run_map.get(str(self._node_id))
            graph = tracer.run_map.get(str(node.parent_run_id)) if node is not None else None
            if graph is not None:
                yield graph


def _add_metadata(run: Run, metadata: Mapping[str, Any]) -> None:
    """Not by the run's own method: the runs of sibling tasks share one dictionary, which that would change."""
    known = {key: value for key, value in metadata.items() if value is not None}
    run.extra = {**(run.extra or {}), "metadata": {**run.metadata, **known}}


class CallTrace:
    """Numbers the tries of one purpose, and follows each through the callbacks."""

    __slots__ = ("_follower", "_tries")

    def __init__(self) -> None:
        self._tries = 0
        self._follower: _Follower | None = None

    def begin(self, config: RunnableConfig, on_error: OnError) -> RunnableConfig:
        """The config of the next try.

        Args:
            config: That of the first, with its name.
            on_error: Gets an error, and what had come of the reply, before any tracer does; returns the tokens that the
                failed call is known to have used.
        """
        self._tries += 1
        if self._tries > 1:
            name = f"{config.get('run_name') or 'call'}, try {self._tries}"
            config = {**config, "run_name": name, "metadata": {**config.get("metadata", {}), "sot_try": self._tries}}
        handlers = _handlers(config)
        if not handlers:  # nobody traces: nothing to follow
            self._follower = None
            return config
        self._follower = _Follower(handlers, on_error)
        return {**config, "callbacks": with_first(config.get("callbacks"), self._follower)}

    async def end(self, error: BaseException) -> None:
        """Tell the end of a try that was given up: LangChain leaves the run of a cancelled `ainvoke` open for ever."""
        if self._follower is not None:
            await self._follower.end(error)

    def reject(self, reason: str) -> None:
        """Mark the latest try as failed, though the model answered: its reply was of no use."""
        if self._follower is not None:
            self._follower.reject(reason)


class _Follower(BaseCallbackHandler):
    """Stands before a call's other handlers."""

    run_inline = True

    def __init__(self, others: list[BaseCallbackHandler], on_error: OnError) -> None:
        self._others = others
        self._on_error = on_error
        self._open: set[UUID] = set()
        self._answered: list[Run] = []

    def on_chat_model_start(self, *_: Any, run_id: UUID, **__: Any) -> None:
        self._open.add(run_id)

    on_llm_start = on_chat_model_start

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        self._open.discard(run_id)
        self._answered = [run for _, run in self._runs(run_id)]

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._open.discard(run_id)
        response: LLMResult | None = kwargs.get("response")
        usage = self._on_error(error, response) or _usage_of(response)
        if usage is not None:
            for _, run in self._runs(run_id):
                run.add_metadata({"usage_metadata": usage})

    async def end(self, error: BaseException) -> None:
        while self._open:
            run_id = self._open.pop()
            manager = AsyncCallbackManagerForLLMRun(run_id=run_id, handlers=self._others, inheritable_handlers=[])
            await manager.on_llm_error(error)

    def reject(self, reason: str) -> None:
        runs, self._answered = self._answered, []
        if get_tracing_context().get("enabled") is False:
            return
        for run in runs:
            run.error = reason
            run.patch()

    def _runs(self, run_id: UUID) -> list[tuple[LangChainTracer, Run]]:
        tracers = [handler for handler in self._others if isinstance(handler, LangChainTracer)]
        return [(tracer, run) for tracer in tracers if (run := tracer.run_map.get(str(run_id))) is not None]


def _handlers(config: RunnableConfig) -> list[BaseCallbackHandler]:
    callbacks = config.get("callbacks")
    return list(callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or ())


def with_first(callbacks: Any, handler: BaseCallbackHandler) -> Any:
    """The same callbacks, with one handler before all others."""
    if not isinstance(callbacks, BaseCallbackManager):
        return [handler, *(callbacks or ())]
    manager = callbacks.copy()
    for handlers in (manager.handlers, manager.inheritable_handlers):
        handlers.insert(0, handler)
    return manager


def _usage_of(response: LLMResult | None) -> UsageMetadata | None:
    """What a reply that broke off had told of its tokens."""
    usage: UsageMetadata | None = None
    for generations in response.generations if response is not None else ():
        for generation in generations:
            message = getattr(generation, "message", None)
            usage = add_usage(usage, getattr(message, "usage_metadata", None)) if message is not None else usage
    return usage if usage and usage["total_tokens"] else None
