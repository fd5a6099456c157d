"""What the nodes of one graph work with: models, prompts, options, the join."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.errors import GraphBubbleUp

from sot_graph.errors import SotConfigError
from sot_graph.models import LoopModel, run_sync
from sot_graph.nodes.describing import describe_run
from sot_graph.runs import Task, open_task
from sot_graph.state import SCHEMA_VERSION

if TYPE_CHECKING:
    from sot_graph.caching import ResultCache
    from sot_graph.expansion.expander import Expander
    from sot_graph.joiners import Join
    from sot_graph.limiting import CallLimiter
    from sot_graph.options import SotOptions
    from sot_graph.prompts import SotPrompts
    from sot_graph.routing.deciding import ModelRouting, Router

__all__ = ["Edge", "Kit", "Node", "NodeFunction", "Update"]

Update: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kit:
    """The collaborators that a graph is made with. Each node gets them as an argument."""

    model: LoopModel
    skeleton_model: LoopModel
    prompts: SotPrompts
    options: SotOptions
    join: Join
    cache: ResultCache
    limiter: CallLimiter | None = None
    router: Router | ModelRouting | None = None
    expander: Expander | None = None


NodeFunction: TypeAlias = Callable[[Any, Task, Kit], Awaitable[Update]]


class Node(Runnable[Any, Update]):
    """A node function as LangGraph takes it, in both worlds: `invoke` runs the coroutine on the library's loop.

    LangGraph's own way to a node with two halves (`RunnableLambda(sync, afunc=...)`) adds a traced run to every
    task.

    Args:
        function: The node.
        kit: What it works with.
        begins: Whether it is the first node: it starts the run's clock.
    """

    def __init__(self, function: NodeFunction, kit: Kit, *, name: str, begins: bool = False) -> None:
        self.function = function
        self.kit = kit
        self.name = name
        self.begins = begins

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Update:
        """Run the node to its end in the calling thread's time."""
        return run_sync(self._run(input, config, threaded=True))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Update:
        """Run the node."""
        return await self._run(input, config)

    async def _run(self, input: Any, config: RunnableConfig | None, *, threaded: bool = False) -> Update:
        key = None if self.begins and not input.get("review_comment") else _known_key(input)
        kit = self.kit
        # LangGraph's config is whole: completing it would copy it, which is 2 kB a point.
        config = ensure_config() if config is None else config
        with open_task(key, config, kit.options, kit.limiter, threaded=threaded) as task:
            describe_run(task, kit, input)
            try:
                return await self.function(input, task, kit)
            except GraphBubbleUp:
                raise
            except Exception as error:
                # A callable of the caller's, such as a join, may quote what it got.
                task.redact(error)
                raise


class Edge(Runnable[Any, Any]):
    """A conditional edge without I/O: the same function in both worlds, without a thread between them.

    Args:
        function: Takes the state, and these settings of the graph.
    """

    def __init__(self, function: Callable[..., Any], **settings: Any) -> None:
        self.function = function
        self.settings = settings
        self.name = function.__name__

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:
        """Decide."""
        return self.function(input, **self.settings)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:
        """Decide."""
        return self.function(input, **self.settings)


def _known_key(state: Mapping[str, Any]) -> str | None:
    version = state.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        message = (
            f"This checkpoint has state schema {version}, and this version of sot_graph uses schema "
            f"{SCHEMA_VERSION}: a run has to be finished by the version that began it. Ask the question again "
            "on a new thread."
        )
        raise SotConfigError(message)
    return state.get("run_key")
