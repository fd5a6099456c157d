"""What the tasks of one run share in the process that runs them: its clock and its limits.

LangGraph hands a `Send` task nothing but its payload, and a run's start and limits belong to the process,
never to a checkpoint. So the state carries a key, and the key finds the run here. A resumed run has another
`RunControl` than the one that began: it gets a new clock under the old key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langgraph.runtime import get_runtime

from sot_graph.forking import reset_after_fork
from sot_graph.limiting import CallLimiter
from sot_graph.listening import somebody_listens
from sot_graph.observability.redaction import Redactor
from sot_graph.options import SotOptions, apply_context
from sot_graph.tracing import NodeTrace, tag_of
from sot_graph.usage import UsageMeter

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig
    from langgraph.runtime import Runtime

    from sot_graph.events import SotEvent
    from sot_graph.types import Stage

__all__ = ["ANSWER_ID", "RunShared", "Task", "open_task"]

ANSWER_ID = "sot_answer_id"
"""In a config's `configurable`: the id of the answer's message, where whoever runs the graph shows it as his own."""

_IDLE_SECONDS = 60.0
"""A run that no task has touched for so long is over: between two tasks lie milliseconds."""


@dataclass(slots=True)
class RunShared:
    """One run in this process."""

    control: object
    """LangGraph's `RunControl`, one an invocation. Held, so that its identity can't be given to another."""
    started: float = field(default_factory=time.monotonic)
    active: int = 0
    touched: float = 0.0
    gate: CallLimiter | None = None
    begun_here: bool = False
    """Whether the question was read in this invocation. Not in one that goes on with a run: it has other clocks."""
    tried: set[int] = field(default_factory=set)
    """The points that were written, or could not be, in this invocation."""
    skeleton_call: tuple[object, list[BaseMessage]] | None = None
    """What every point's prompt begins with, after what makes it differ from run to run: made once."""
    is_described: bool = False
    """Whether the trace has been told what kind of run it is."""
    told: set[str] = field(default_factory=set)
    """What the log has been told, that it needs to be told once a run."""

    def elapsed(self) -> float:
        """Seconds since the run's start."""
        return time.monotonic() - self.started


class _Registry:
    """The runs of this process. A run leaves when it ends, or when it has been idle for long."""

    def __init__(self) -> None:
        self.reset_in_child()
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, RunShared] = {}

    def enter(self, key: str, control: object) -> RunShared:
        with self._lock:
            now = time.monotonic()
            run = self._runs.get(key)
            if run is None or run.control is not control:
                self._drop_idle(now)
                told = set() if run is None else run.told  # an invocation that goes on with a run doesn't repeat it
                run = self._runs[key] = RunShared(control, told=told)
            run.active += 1
            run.touched = now
            return run

    def leave(self, key: str, run: RunShared, *, ended: bool) -> None:
        with self._lock:
            run.active -= 1
            run.touched = time.monotonic()
            if ended and self._runs.get(key) is run:
                del self._runs[key]

    def _drop_idle(self, now: float) -> None:
        idle = [key for key, run in self._runs.items() if not run.active and now - run.touched > _IDLE_SECONDS]
        for key in idle:
            del self._runs[key]

    def __len__(self) -> int:
        return len(self._runs)


_runs = _Registry()


def _emit_nothing(_event: SotEvent) -> None:
    """For a node that runs outside a graph."""


@dataclass(slots=True)
class Task:
    """One node's execution: what it may use beside its input.

    Attributes:
        key: The run's key, kept in the state and in every `Send`.
        config: LangChain's config of this task: model calls hang under it in traces.
        options: The graph's options with the run's context over them.
        emit: Writes an event to LangGraph's `custom` stream.
        shared: The run's clock and limits.
        meter: Counts the calls and tokens of this task.
        trace: Says what the node's run, and the graph's, is about.
    """

    key: str
    config: RunnableConfig
    options: SotOptions
    emit: Callable[[SotEvent], None]
    shared: RunShared
    stream: bool = False
    """Whether the model's replies are to be streamed."""
    in_graph: bool = True
    """Whether LangGraph runs it: not in a test of a node alone."""
    threaded: bool = False
    """Whether the graph runs synchronously: LangGraph then runs tasks in threads."""
    limiter: CallLimiter | None = None
    meter: UsageMeter = field(default_factory=UsageMeter)
    place: str = ""
    """The nodes of the parents that lead to this graph, such as `"team/writer"`; empty: it is the root."""
    ended: bool = False
    """Set by the run's last node: the run is forgotten."""
    trace: NodeTrace = field(init=False)

    def __post_init__(self) -> None:
        self.trace = NodeTrace(self.config)

    @property
    def answer_id(self) -> str | None:
        """The id that the answer's message is to have; `None`: one of its own."""
        return self.config.get("configurable", {}).get(ANSWER_ID)

    @property
    def has_checkpointer(self) -> bool:
        """Whether the run, or a parent of it, is kept: only then can it stop and go on later."""
        return self.config.get("configurable", {}).get("__pregel_checkpointer") is not None

    def redact(self, error: BaseException) -> None:
        """Hide an error's words, in place, where a trace hides content."""
        if not self.trace.shows_content:
            Redactor(hides_content=True).error(error)

    def child_config(self, *, run_name: str, stage: Stage, **metadata: Any) -> RunnableConfig:
        """The config for a model call: readable in a trace, told apart in `stream_mode="messages"`."""
        return {
            **self.config,
            "callbacks": self.trace.callbacks_below(self.config.get("callbacks")),
            "run_name": run_name,
            "tags": [*self.config.get("tags", ()), tag_of(stage)],
            "metadata": {**self.config.get("metadata", {}), "sot_stage": stage, **metadata},
        }

    def seconds_left(self, timeout: float | None) -> float | None:
        """The smaller of a timeout and what is left until the deadline, in seconds; `None`: no limit."""
        deadline = self.options.deadline
        if deadline is None:
            return timeout
        left = max(0.0, deadline - self.shared.elapsed())
        return left if timeout is None else min(left, timeout)

    def slot(self) -> AbstractAsyncContextManager[None]:
        """Hold a place for a model call: one of the run's `max_concurrency`, and one of the limiter's."""
        limit = self.options.max_concurrency
        if limit is not None and self.shared.gate is None:
            self.shared.gate = CallLimiter(limit)
        return _UNBOUNDED if self.shared.gate is None and self.limiter is None else self._places()

    @asynccontextmanager
    async def _places(self) -> AsyncIterator[None]:
        # The run's own place first: a run that waits for itself must not hold a place that others could use.
        async with self.shared.gate or nullcontext(), self.limiter or nullcontext():
            yield


_UNBOUNDED = nullcontext()


@contextmanager
def open_task(
    key: str | None,
    config: RunnableConfig,
    options: SotOptions,
    limiter: CallLimiter | None = None,
    *,
    reads_context: bool = True,
    threaded: bool = False,
    emit: Callable[[SotEvent], None] | None = None,
) -> Iterator[Task]:
    """Open a node's execution.

    Args:
        key: The run's key from the state; `None` begins a new run.
        config: The node's config.
        options: The graph's own options.
        limiter: Bounds the model calls of several graphs together.
        reads_context: Whether the run's context is laid over the options. Not in a part of somebody else's graph.
        threaded: Whether the graph runs synchronously.
        emit: In place of LangGraph's stream writer.

    Raises:
        SotConfigError: The run's context is not valid.
    """
    try:
        runtime = get_runtime()
    except (RuntimeError, KeyError):  # outside a graph: a unit test, a notebook
        runtime = None
    write: Callable[[Any], None] = _emit_nothing
    control: object = None
    place = ""
    if runtime is not None:
        info = runtime.execution_info
        place = _place(info.checkpoint_ns) if info is not None else ""
        embedded = info is not None and "|" in info.checkpoint_ns
        if reads_context:
            options = apply_context(options, runtime.context, embedded=embedded)
        write, control = runtime.stream_writer, runtime.control
    begins = key is None
    key = key or uuid4().hex
    shared = _runs.enter(key, control if control is not None else object())
    shared.begun_here |= begins
    stream = _is_streamed(options, config, runtime)
    task = Task(
        key, config, options, emit or write, shared, stream, runtime is not None, threaded, limiter, place=place
    )
    try:
        yield task
    finally:
        _runs.leave(key, shared, ended=task.ended)


def _is_streamed(options: SotOptions, config: RunnableConfig, runtime: Runtime[Any] | None) -> bool:
    """Whether the model's replies are streamed. At a deadline nothing would be there of a reply that isn't."""
    if options.stream != "auto":
        return options.stream
    return options.deadline is not None or somebody_listens(config, runtime)


def _place(checkpoint_ns: str) -> str:
    """The parents' nodes in a checkpoint's namespace, `"team:<id>|writer:<id>|draft_skeleton:<id>"`."""
    steps = [step.partition(":")[0] for step in checkpoint_ns.split("|")[:-1]]
    return "/".join(step for step in steps if not step.isdigit())  # a number counts calls within one task
