"""How a run looks in a trace: names that read like the answer, figures to filter by, nothing that is to be hidden.

LangChain's tracers send it, LangSmith's first of all; here, `CallTrace.reject` alone does. What is said here reaches
every tracer that keeps LangChain's tree of runs, and a model call's name, tags and metadata reach every callback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages.ai import add_usage
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from langsmith import get_tracing_context
from openai import LengthFinishReasonError

from sot_graph._seams import client_hides_content
from sot_graph.observability.redaction import Redactor, discreet, messages_of

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import RunnableConfig
    from langchain_core.tracers.schemas import Run

    from sot_graph.types import Stage


class NodeTrace:
    """Says, where there are tracers, what a node's run is about.

    LangGraph posts a node's run before the node begins; what is changed here goes out when the run ends.
    """

    __slots__ = ("_runs", "is_watched", "shows_content")

    def __init__(self, config: RunnableConfig) -> None:
        manager: Any = config.get("callbacks")
        node_id = str(getattr(manager, "parent_run_id", None))
        handlers = getattr(manager, "handlers", ())
        tracers: list[Any] = [each for each in handlers if isinstance(each, (BaseTracer, AsyncBaseTracer))]
        self._runs: list[tuple[Any, Run]] = [
            (tracer, run) for tracer in tracers if (run := tracer.run_map.get(node_id)) is not None
        ]
        self.is_watched = bool(self._runs)
        """Whether there is any run to describe."""
        clients = [getattr(tracer, "client", None) for tracer in tracers]
        for _, run in self._runs:
            clients += [replica.get("client") for replica in getattr(run, "replicas", None) or ()]
        self.shows_content = not any(client_hides_content(client) for client in clients if client is not None)
        """Whether names and metadata may hold what was asked or written."""

    def redactor(self, secrets: Sequence[str] = ()) -> Redactor:
        """Takes these keys out of errors, and all their words where content is hidden."""
        return Redactor(secrets, hides_content=not self.shows_content)

    def callbacks_below(self, callbacks: Any, *, unheard: Sequence[BaseCallbackHandler] = ()) -> Any:
        """The node's callbacks for what it calls, without those that aren't to hear it (`unheard`).

        Where content is hidden, no error tells any of it.
        """
        if not isinstance(callbacks, BaseCallbackManager) or (self.shows_content and not unheard):
            return callbacks
        manager = callbacks.copy()
        for handlers in (manager.handlers, manager.inheritable_handlers):
            heard = [handler for handler in handlers if handler not in unheard]
            handlers[:] = heard if self.shows_content else map(discreet, heard)
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
        for _, run in self._runs:
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
        for tracer, node in self._runs:
            graph: Run | None = tracer.run_map.get(str(node.parent_run_id))
            if graph is None:
                continue
            _add_metadata(graph, metadata)
            if inputs is not None:
                graph.add_inputs(dict(inputs))
            if outputs is not None:
                graph.set(outputs=outputs)


def _add_metadata(run: Run, metadata: Mapping[str, Any]) -> None:
    """Not by `run.add_metadata`: sibling runs share one dictionary, and it would change them all."""
    known = {key: value for key, value in metadata.items() if value is not None}
    run.extra = {**(run.extra or {}), "metadata": {**run.metadata, **known}}


@dataclass(eq=False)
class CallTrace(BaseCallbackHandler):
    """Counts the tries of one call, and hears of each before the other handlers: no tracer gets an unredacted error."""

    run_inline = True
    """In the order in which things happen, and before any tracer is told."""

    last_failure: str = ""
    """Why the last try has failed, in one line, until one succeeds."""
    _tries: int = field(default=0, init=False)
    _handlers: list[BaseCallbackHandler] = field(default_factory=list, init=False)
    _redactor: Redactor = field(default_factory=Redactor, init=False)
    _open: set[UUID] = field(default_factory=set, init=False)
    _answered: list[Run] = field(default_factory=list, init=False)

    def begin(self, config: RunnableConfig, redactor: Redactor) -> RunnableConfig:
        """The config of the next try, made from that of the first. Its errors are redacted before a tracer is told."""
        self._tries += 1
        if self._tries > 1:
            name = f"{config.get('run_name') or 'call'}, try {self._tries}"
            config = {**config, "run_name": name, "metadata": {**config.get("metadata", {}), "sot_try": self._tries}}
        callbacks = config.get("callbacks")
        self._handlers = list(callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or ())
        self._redactor = redactor
        self._answered = []
        if not self._handlers:  # nobody traces: nothing to follow
            return config
        return {**config, "callbacks": with_first(callbacks, self)}

    async def end(self, error: BaseException) -> None:
        """Tell the end of a try that was given up: LangChain leaves the run of a cancelled `ainvoke` open for ever."""
        while self._open:
            run_id = self._open.pop()
            manager = AsyncCallbackManagerForLLMRun(run_id=run_id, handlers=self._handlers, inheritable_handlers=[])
            await manager.on_llm_error(error)

    def reject(self, reason: str) -> None:
        """Mark the latest try as failed, though the model answered: its reply was of no use."""
        runs, self._answered = self._answered, []
        # `patch` sends by itself, whatever the context says.
        if get_tracing_context().get("enabled") is False:
            return
        for run in runs:
            run.error = reason
            run.patch()

    def on_chat_model_start(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """A try begins."""
        self._open.add(run_id)

    on_llm_start = on_chat_model_start

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """A try has its reply."""
        self._open.discard(run_id)
        self._answered = self._runs(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A try has failed."""
        self._open.discard(run_id)
        response: LLMResult | None = kwargs.get("response")
        self._redactor.redact_failure(error, response)
        usage = usage_of_failure(error, response)
        if usage is not None:
            for run in self._runs(run_id):
                run.add_metadata({"usage_metadata": usage})

    def _runs(self, run_id: UUID) -> list[Run]:
        tracers = [handler for handler in self._handlers if isinstance(handler, LangChainTracer)]
        return [run for tracer in tracers if (run := tracer.run_map.get(str(run_id))) is not None]


def with_first(callbacks: Any, handler: BaseCallbackHandler) -> Any:
    """The same callbacks, with one handler before all others."""
    if not isinstance(callbacks, BaseCallbackManager):
        return [handler, *(callbacks or ())]
    manager = callbacks.copy()
    for handlers in (manager.handlers, manager.inheritable_handlers):
        handlers.insert(0, handler)
    return manager


def usage_of_failure(error: BaseException, response: LLMResult | None = None) -> UsageMetadata | None:
    """The tokens that a failed call is known to have used: of a reply that broke off, or that OpenAI's client raises.

    `response` is what had come of its reply.
    """
    if isinstance(error, LengthFinishReasonError) and (told := error.completion.usage) is not None:
        return {
            "input_tokens": told.prompt_tokens,
            "output_tokens": told.completion_tokens,
            "total_tokens": told.total_tokens,
        }
    usage: UsageMetadata | None = None
    for message in messages_of(response):
        usage = add_usage(usage, getattr(message, "usage_metadata", None))
    return usage if usage and usage["total_tokens"] else None
