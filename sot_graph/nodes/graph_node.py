"""`GraphNode` and `GraphEdge`: the nodes' and edges' functions as LangGraph takes them, synchronous or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.errors import GraphBubbleUp

from sot_graph.concurrency.background_loop import run_sync
from sot_graph.errors import SotConfigError
from sot_graph.nodes.question_input import with_history
from sot_graph.nodes.trace_summary import describe_run
from sot_graph.run import open_run
from sot_graph.state import SCHEMA_VERSION
from sot_graph.streaming.live_message import follow_live

if TYPE_CHECKING:
    from sot_graph.run import GraphParts, RunContext

Update: TypeAlias = dict[str, Any]


class GraphNode(Runnable[Any, Update]):
    """A node's coroutine as LangGraph takes it. `invoke` runs it on the library's own event loop.

    LangGraph's own way to a node with two halves (`RunnableLambda(sync, afunc=...)`) adds a traced run to every node.

    Args:
        function: The coroutine, of the node's input and its `RunContext`.
        graph: What the graph was made with.
        name: The node's name.
        begins: Whether it is the first node, which starts the run's clock.
    """

    def __init__(
        self,
        function: Callable[[Any, RunContext], Awaitable[Update]],
        graph: GraphParts,
        *,
        name: str,
        begins: bool = False,
    ) -> None:
        self.function = function
        self.graph = graph
        self.name = name
        self.begins = begins

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Update:
        """Run the node to its end while the calling thread waits."""
        return run_sync(self._run(input, config, threaded=True))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Update:
        """Run the node."""
        return await self._run(input, config)

    async def _run(self, input: Any, config: RunnableConfig | None, *, threaded: bool = False) -> Update:
        key = None
        # A rejected skeleton leads back to the first node, which then goes on with the same run.
        begins_run = self.begins and not input.get("review_comment")
        if not begins_run:
            version = input.get("schema_version", SCHEMA_VERSION)
            if version != SCHEMA_VERSION:
                message = (
                    f"This checkpoint has state schema {version}, and this version of sot_graph uses schema "
                    f"{SCHEMA_VERSION}: a run has to be finished by the version that began it. Ask the question again "
                    "on a new thread."
                )
                raise SotConfigError(message)
            key = input.get("run_key")
        graph = self.graph
        # A config of LangGraph's is complete: `ensure_config` would only copy it, which takes 2 kB a point.
        config = ensure_config() if config is None else config
        input = with_history(input, config)
        with open_run(config, graph.options, graph=graph, key=key, threaded=threaded) as run:
            if key is not None and input.get("wanted_frame", run.options.frame) != run.options.frame:
                run.options = replace(run.options, frame=input["wanted_frame"])
            if key is not None and input.get("material") is not None:
                # Another invocation has read the question: before a review, or before a process died.
                run.invocation.is_grounded = True
            describe_run(run, input)
            if run.listeners:
                follow_live(run, input.get("messages", ()) if self.begins else ())
            try:
                return await self.function(input, run)
            except GraphBubbleUp:
                raise
            except Exception as error:
                # A callable of the caller's, such as a join, may quote what it got.
                run.redact(error)
                if run.invocation.live is not None:
                    run.invocation.live.fail(error)
                raise
            finally:
                if run.invocation.live is not None:
                    await run.invocation.live.all_told()


class GraphEdge(Runnable[Any, Any]):
    """A conditional edge without I/O. Asynchronously, LangGraph would run a plain function in a thread.

    Args:
        function: Takes the state.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.name = function.__name__

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:
        """Decide."""
        return self.function(input)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:
        """Decide."""
        return self.function(input)
