"""`NodeTrace`: the run of one node's execution, and that of the graph above it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer

from sot_graph.complaints import quiet_langsmith
from sot_graph.tracing.hiding import discreet, hides_content, replicas_hide_content

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langchain_core.tracers.schemas import Run

    from sot_graph.types import Stage

__all__ = ["NodeTrace", "tag_of"]


def tag_of(stage: Stage) -> str:
    """The tag of the runs of a stage: `sot:expansion`."""
    return f"sot:{stage}"


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
        self.shows_content = not any(map(hides_content, self._tracers)) and not replicas_hide_content(self._nodes())
        """Whether names and metadata may hold what was asked or written."""

    @property
    def is_watched(self) -> bool:
        """Whether there is any tracer to describe something to."""
        return bool(self._tracers)

    def know_clients(self) -> None:
        """Have what LangSmith's clients log be understood."""
        for tracer in self._tracers:
            if isinstance(tracer, LangChainTracer):
                quiet_langsmith().know(tracer.client)

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
                run.tags = [*(run.tags or []), tag_of(stage)]
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
