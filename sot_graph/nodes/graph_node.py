"""`GraphNode` and `GraphEdge`: the nodes' and edges' functions as LangGraph takes them, synchronous or not.

And what the nodes' runs, and the graph's run, tell in a trace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langgraph.errors import GraphBubbleUp
from langgraph.types import TracePolicy

from sot_graph._seams import state_reader
from sot_graph.concurrency.background_loop import CallerLeft, run_sync
from sot_graph.errors import SotConfigError
from sot_graph.nodes import ANSWER_DIRECTLY, DRAFT_SKELETON, EXPAND_POINT, JOIN, REVIEW_SKELETON
from sot_graph.nodes.question_input import with_history
from sot_graph.report import measure_run
from sot_graph.run import OWN_STEPS, open_run
from sot_graph.state import SCHEMA_VERSION
from sot_graph.streaming.live_message import follow_live

if TYPE_CHECKING:
    from sot_graph.run import GraphParts, RunContext

Update: TypeAlias = dict[str, Any]

_DIGITS = 3
_version = cache(version)
_INPUT_KEYS: Mapping[str, tuple[str, ...]] = {
    DRAFT_SKELETON: ("run_facts", "messages"),
    REVIEW_SKELETON: ("skeleton",),
    EXPAND_POINT: ("point", "part"),
    JOIN: ("expansions",),
    ANSWER_DIRECTLY: ("run_facts", "messages"),
}
_GIVEN_KEYS = ("question", "messages", "given_skeleton", "given_expansions")
_OUTPUT_KEYS = ("answer", "skeleton", "route", "route_reason", "review_comment")


class GraphNode(Runnable[Any, Update]):
    """A node's coroutine as LangGraph takes it. `invoke` runs it on the library's own event loop.

    LangGraph's own way to a node with two halves (`RunnableLambda(sync, afunc=...)`) adds a traced run to every node.

    Args:
        function: The coroutine, of the node's input and its `RunContext`.
        parts: What the graph was made with.
        name: The node's name.
        begins: Whether it is the first node, which starts the run's clock.
    """

    def __init__(
        self,
        function: Callable[[Any, RunContext], Awaitable[Update]],
        parts: GraphParts,
        *,
        name: str,
        begins: bool = False,
    ) -> None:
        self.function = function
        self.parts = parts
        self.name = name
        self.begins = begins

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Update:
        """Run the node to its end while the calling thread waits."""
        try:
            return run_sync(self.ainvoke(input, config, threaded=True))
        except CallerLeft as left:
            raise GraphBubbleUp from left  # the only error that LangGraph doesn't store: see `cancellation`

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, *, threaded: bool = False, **_: Any
    ) -> Update:
        """Run the node. `threaded`: for a synchronous caller."""
        key = None
        facts = input.get("run_facts", input)  # a lean `Send` has key and version, and no others
        # A rejected skeleton leads back to the first node, which then goes on with the same run.
        if not self.begins or input.get("review_comment"):
            schema = facts.get("schema_version", f"below {SCHEMA_VERSION}")
            if schema != SCHEMA_VERSION:
                message = (
                    f"This checkpoint has state schema {schema}, and this version of sot_graph uses schema "
                    f"{SCHEMA_VERSION}: a run has to be finished by the version that began it. Ask the question again "
                    "on a new thread."
                )
                raise SotConfigError(message)
            key = facts.get("run_key")
        parts = self.parts
        # A config of LangGraph's is complete but for a limit that nobody set: `ensure_config` would only copy it, which
        # takes 2 kB a point.
        config = ensure_config() if config is None else config
        if (limit := config.get("recursion_limit", 0)) > OWN_STEPS:
            config = {**config, "recursion_limit": limit - OWN_STEPS}  # for what the caller has handed in
            var_child_runnable_config.set(config)  # in this node's task alone
        input = with_history(input, config)
        with open_run(config, parts.options, parts=parts, key=key, threaded=threaded) as run:
            if key is not None and facts.get("wanted_frame", run.options.frame) != run.options.frame:
                run.options = replace(run.options, frame=facts["wanted_frame"])
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
    """A conditional edge without I/O. Asynchronously, LangGraph would run a plain function of the state in a thread."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.name = function.__name__

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:
        """Decide."""
        return self.function(input)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:
        """Decide."""
        return self.function(input)


def describe_run(run: RunContext, state: Mapping[str, Any]) -> None:
    """Tell the trace what the graph's run can be filtered by. It is told first, so that a run that fails has it, too.

    A run that goes on gets its question, too: LangGraph records what it was resumed with.
    """
    if not run.trace.is_watched or run.invocation.is_described:
        return
    run.invocation.is_described = True
    inputs = None
    if not run.invocation.begun_here:
        read = state_reader(run.config)
        holder = state if "run_facts" in state or read is None else read(["run_facts"])
        inputs = {"question": holder["run_facts"]["question_text"]}
    # Runs are compared by their settings: the same settings have the same fingerprint.
    settings = f"{run.parts.prompts!r}\n{run.options!r}".encode("utf-8", "surrogatepass")
    version_and_settings = {"sot_version": _version("sot-graph"), "sot_fingerprint": sha256(settings).hexdigest()[:12]}
    run.trace.describe_graph(version_and_settings, inputs=inputs)


def describe_result(result: Mapping[str, Any], run: RunContext, *, has_answer: bool = True) -> None:
    """Tell the trace the figures of a run, on the run of the graph.

    Args:
        result: What the graph returns, as far as it is known.
        run: The last node's execution.
        has_answer: Whether the result is whole: then it is shown in place of what LangGraph alone would record of a
            streamed run, which is every channel.
    """
    figures, expansions = measure_run(result, question=""), result.get("expansions", ())
    seconds: dict[str, float | None] = {"sot_seconds": figures.total}
    if run.invocation.begun_here:  # the times of a run that goes on are of several clocks
        seconds |= {
            "sot_time_to_first_word": figures.time_to_first_word if figures.streamed else None,
            "sot_critical_path": figures.critical_path,
            "sot_speed_up_estimate": figures.speed_up_estimate,
        }
    run.trace.describe_graph(
        {
            "sot_route": result["route"],
            "sot_points": len(expansions),
            "sot_failed_points": sum(each["status"] != "ok" for each in expansions),
            "sot_streamed": figures.streamed if figures.one_clock else None,
            **{name: None if value is None else round(value, _DIGITS) for name, value in seconds.items()},
        },
        outputs=dict(result) if has_answer else None,
    )


def trace_policy(node: str, *, begins: bool = False) -> TracePolicy:
    """What a node's run records: what one wants to read, in place of every channel of the state.

    The graph's first node (`begins`) reads the question from what the caller gave.
    """
    return TracePolicy(
        process_inputs=partial(_shown, _GIVEN_KEYS if begins else _INPUT_KEYS[node]),
        process_outputs=_section if node == EXPAND_POINT else partial(_shown, _OUTPUT_KEYS),
    )


def _shown(keys: Sequence[str], state: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: state[key] for key in keys if state.get(key)}
    if "run_facts" in shown:
        shown = {"question": shown.pop("run_facts")["question_text"], **shown}
    if "expansions" in shown:
        shown["points"] = [{"index": each["index"], "status": each["status"]} for each in shown.pop("expansions")]
    return shown


def _section(update: Mapping[str, Any]) -> dict[str, Any]:
    """The text of a node that writes one section; nothing where an opening was dropped."""
    sections: list[Any] = [*update.get("expansions", ()), *update.get("frame", {}).values()]
    return {key: section[key] for section in sections for key in ("text", "status", "error") if section[key]}
