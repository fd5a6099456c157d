"""`RunContext`: what one node's execution works with, and `Invocation`: what the nodes of one run share in a process.

LangGraph hands a `Send` task nothing but its payload, and a run's clock and limits belong to the process that runs
it, never to a checkpoint. So the state carries a key, and the key finds the `Invocation` here. A resumed run has
another `RunControl` of LangGraph's than the one that began, and gets a new clock under the old key.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, cast
from uuid import uuid4

from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from langgraph.runtime import get_runtime

from sot_graph._seams import somebody_listens, streaming_handlers
from sot_graph.concurrency import reset_after_fork
from sot_graph.concurrency.call_limiter import CallLimiter
from sot_graph.observability.run_trace import NodeTrace
from sot_graph.options import SotOptions, context_changes, with_changes
from sot_graph.usage import UsageMeter

if TYPE_CHECKING:
    import asyncio

    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig

    from sot_graph.cache import ResultCache
    from sot_graph.events import SotEvent
    from sot_graph.joiners import Join
    from sot_graph.llm.loop_bound_model import LoopModel
    from sot_graph.nodes.frame_parts import Opening
    from sot_graph.nodes.question_input import SectionBasis
    from sot_graph.prompts.templates import SotPrompts
    from sot_graph.retrieval.grounding import Ranker, TextIndex
    from sot_graph.retrieval.retriever import Retriever
    from sot_graph.routing.protocol import Router
    from sot_graph.streaming.live_message import LiveMessage
    from sot_graph.types import ChatTurn, Material, SkeletonPoint, SourceDocument, Stage, StageTiming
    from sot_graph.writing.expander import Expander

ANSWER_ID_KEY = "sot_answer_id"
"""In a config's `configurable`: the id that the answer's message is to have, for a caller who shows it as their own."""

ANSWER_ID_PREFIX = "sot-answer-"
"""The beginning of the id that the graph itself gives to an answer's message."""

QUESTION_ID_PREFIX = "sot-question-"
"""The beginning of the id of a question's message, where the graph writes that message before its answer."""

RETRIEVER = "sot_retriever"
"""In a config's `configurable`: the retriever of this run, in place of the graph's."""

LIMITERS_ABOVE = "sot_limiters_above"
"""In a config's `configurable`: `RunContext.limiters` of the run above, if this run writes one of its points."""

OWN_STEPS = 10_000
"""LangGraph's steps that a run may take beside a caller's `recursion_limit`: points that wait for one another take two
each."""
_IDLE_SECONDS = 600.0
"""A run that no node has touched for so long counts as over: only milliseconds lie between two nodes, but a synchronous
stream goes on only when its reader does."""
_SHORT_PAUSE_SECONDS = 60.0
_SWEEP_SECONDS = 10.0
"""Between two looks for such runs among all that there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphParts:
    """What a graph was made with. Its nodes reach it as `run.parts`."""

    model: LoopModel
    skeleton_model: LoopModel
    prompts: SotPrompts
    options: SotOptions
    join: Join
    cache: ResultCache | None
    limiter: CallLimiter | None = None
    router: Router | None = None
    draft_decides: bool = False
    """Whether the call that drafts may answer instead (`DraftRouter`). `router` is `None` then."""
    expander: Expander | None = None
    retriever: Retriever | None = None
    ranker: Ranker | None = None
    name: str = "sot_graph"
    """Of the answer's message."""

    def __deepcopy__(self, _memo: object) -> Self:
        """A copied graph shares what it was made with, as it shares functions: models hold locks and connections."""
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Inquiry:
    """What a run is to answer, and from what."""

    question: str
    history: list[ChatTurn]
    """The conversation before the question."""
    material: Material | None = None
    """The documents that the answer rests on; `None`: it rests on none."""
    shown_documents: str = ""
    """Those of them that every prompt shows, as it shows them."""
    may_depend: bool = False
    """Whether points may say which others they need."""


@dataclass(slots=True)
class Invocation:
    """One invocation of a graph in this process: its clock, and what its nodes need to know of each other."""

    control: object
    """LangGraph's `RunControl`, one an invocation. It is held so that its identity can't be given to another."""
    started: float = field(default_factory=time.monotonic)
    active: int = 0
    touched: float = 0.0
    ended: bool = False
    """Set by the run's last node, so that the run is forgotten. A run outside a graph has no other node."""
    limiter: CallLimiter | None = None
    """Bounds the run's calls in flight (`max_concurrency`)."""
    begun_here: bool = False
    """Whether this invocation read the question. A resumed run did that elsewhere, and its times come from several
    clocks."""
    tried: set[int] = field(default_factory=set)
    """The points that this invocation has tried to write."""
    basis: SectionBasis | None = None
    """What every text is written from, once it has been read from the state."""
    prefix_messages: tuple[object, list[BaseMessage]] | None = None
    """`(made_from, messages)`: the messages that every point's prompt begins with, made once, after what they were made
    from."""
    last_shared: Any = None
    """All prompts of a run begin alike, up to this user message: each call sets the provider's cache mark at its end.
    `None`: caching is off, the prompt is too short, or this invocation drafted nothing."""
    shown_documents: tuple[Material, str] | None = None
    """The documents that every prompt shows, as it shows them, made once."""
    index: asyncio.Future[TextIndex] | None = None
    """Ranks the run's documents."""
    retrievals: dict[str, asyncio.Task[tuple[list[SourceDocument], str]]] = field(default_factory=dict)
    """Those that were begun before their points' nodes, by the query."""
    is_described: bool = False
    """Whether the trace has been told what kind of run it is."""
    live: LiveMessage | None = None
    """The answer's message, for those who listen to the run's messages."""
    opening: Opening | None = None
    """The opening, while it is being written: one node begins it, another takes it over."""
    logged: set[str] = field(default_factory=set)
    """The warnings that need to be logged once a run only."""

    def end_retrievals(self, *, but: Collection[str] = ()) -> None:
        """End those that no point will take over."""
        for query in [query for query in self.retrievals if query not in but]:
            self.retrievals.pop(query).cancel()


class _Invocations:
    """The invocations of this process, by their runs' keys. One leaves when its run ends, or after a long idle time."""

    def __init__(self) -> None:
        self.reset_in_child()
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[str, Invocation] = {}
        self._swept = 0.0

    @contextmanager
    def entered(self, key: str, control: object) -> Iterator[Invocation]:
        """A node of this run executes."""
        with self._lock:
            now = time.monotonic()
            found = self._by_key.get(key)
            if found is None or found.control is not control:
                if now > self._swept + _SWEEP_SECONDS:  # each time looks at all of them
                    self._swept = now
                    for other, idle in list(self._by_key.items()):
                        if not idle.active and now - idle.touched > _IDLE_SECONDS:
                            del self._by_key[other]
                        elif not idle.active and now - idle.touched > _SHORT_PAUSE_SECONDS:
                            # It may be of a run that failed: what is large can be made again.
                            idle.basis = idle.shown_documents = idle.prefix_messages = idle.index = None
                # An invocation that resumes a run doesn't repeat its warnings.
                logged = set() if found is None else found.logged
                found = self._by_key[key] = Invocation(control, logged=logged)
            found.active += 1
            found.touched = now
        try:
            yield found
        finally:
            with self._lock:
                found.active -= 1
                found.touched = time.monotonic()
                if found.ended and self._by_key.get(key) is found:
                    del self._by_key[key]


_invocations = _Invocations()


@dataclass(slots=True)
class RunContext:
    """What one node's execution works with, beside its input.

    `config`, `write`, `meter` and `trace` are the node's. The others are the same in all nodes of a run.

    Attributes:
        parts: What the graph was made with. Code that runs without a graph, such as a router that is called alone,
            must not read it.
        key: The run's key, kept in the state and in every `Send`.
        config: LangChain's config of this node. Model calls hang under it in traces.
        options: The graph's options with the run's context laid over them.
        write: Writes an event to LangGraph's `custom` stream.
        invocation: The run's clock and what its nodes share.
        answer_id: The id of the answer's message: made for the run, so that no other run's answer takes its place.
        stream: Whether the model's replies are to be streamed.
        listeners: Who hears the run's messages: handlers of `stream_mode="messages"` and of event streams.
        in_graph: Whether LangGraph runs the node. It doesn't in a test of a node alone.
        threaded: Whether the graph runs synchronously. LangGraph then runs nodes in threads.
        retriever: The config's, else the graph's; `None`: there is none.
        limiters: What bounds its calls: the run's `max_concurrency`, the graph's limiter, and those of a run above. A
            call that waits for its own run must not hold a place that others need, so the run's own stands first.
        is_transient: Whether LangGraph drops the graph's state when the parent's node ends: in a subgraph that keeps no
            checkpoints of its own.
        meter: Counts the calls and tokens of this execution.
        trace: Says what the node's run in the trace, and the graph's, is about.
    """

    parts: GraphParts
    key: str
    config: RunnableConfig
    options: SotOptions
    write: Callable[[SotEvent], None]
    invocation: Invocation
    answer_id: str
    stream: bool = False
    listeners: Sequence[BaseCallbackHandler] = ()
    in_graph: bool = True
    threaded: bool = False
    is_transient: bool = False
    retriever: Retriever | None = None
    limiters: Sequence[CallLimiter] = ()
    meter: UsageMeter = field(default_factory=UsageMeter)
    trace: NodeTrace = field(kw_only=True)

    def emit(self, event: SotEvent) -> None:
        """Send an event to the `custom` stream and to the run's messages. An opening may hold it back or drop it."""
        if self.invocation.opening is not None and not self.invocation.opening.lets_through(event):
            return
        if self.write is not _write_nothing:
            subject = event.get("index") or event.get("part") or "answer"
            self.write(cast("SotEvent", {**event, "id": f"{self.answer_id}:{subject}"}))
        if self.invocation.live is not None:
            self.invocation.live.hear(event)

    def elapsed(self) -> float:
        """Seconds since the run's start."""
        return time.monotonic() - self.invocation.started

    def timing(self, start: float, first_text_at: float | None = None) -> StageTiming:
        """The timing of what began at `start` and ends now."""
        timing: StageTiming = {"start": start}
        if first_text_at is not None:
            timing["first_token"] = first_text_at
        timing["end"] = self.elapsed()
        return timing

    @property
    def prompt_cache_key(self) -> str:
        """A key for the calls that a provider's cache is to serve together: those of a thread, or else of a run."""
        thread = self.config.get("configurable", {}).get("thread_id")
        return self.key if thread is None else hashlib.sha256(str(thread).encode()).hexdigest()[:32]

    def redact(self, error: BaseException) -> None:
        """Hide an error's words, in place, where a trace hides content."""
        if not self.trace.shows_content:
            self.trace.redactor().redact_error(error)

    def shown_point(self, point: SkeletonPoint) -> str:
        """A point as traces and the log show it: `"3: Soil"`."""
        return f"{point['index']}: {point['title']}" if self.trace.shows_content else str(point["index"])

    def described(self, error: BaseException) -> str:
        """What a caller's own code has raised, as the log and an answer may show it."""
        return self.trace.redactor().text(f"{type(error).__name__}: {error}")

    def child_config(self, *, run_name: str, stage: Stage, **metadata: Any) -> RunnableConfig:
        """The config of a model call: readable in a trace, told apart in `stream_mode="messages"`."""
        # Those who listen to the run's messages hear its answer in place of its calls.
        unheard = self.listeners if self.options.messages == "answer" else ()
        return {
            **self.config,
            "callbacks": self.trace.callbacks_below(self.config.get("callbacks"), unheard=unheard),
            "run_name": run_name,
            "tags": [*self.config.get("tags", ()), f"sot:{stage}"],
            "metadata": {**self.config.get("metadata", {}), "sot_stage": stage, **metadata},
        }

    def seconds_left(self, timeout: float | None, *, share: float = 1.0) -> float | None:
        """The smaller of a timeout and what is left until the deadline, or a share of that; `None`: no limit."""
        deadline = self.options.deadline
        if deadline is None:
            return timeout
        left = share * max(0.0, deadline - self.elapsed())
        return left if timeout is None else min(left, timeout)

    @asynccontextmanager
    async def places(self, *others: CallLimiter) -> AsyncIterator[None]:
        """Hold a place for a model call, of each of the run's limiters and of others."""
        async with AsyncExitStack() as places:
            for limiter in (*self.limiters, *others):
                await places.enter_async_context(limiter)
            yield


def _write_nothing(_event: SotEvent) -> None:
    """For code that runs outside a graph, where nobody listens."""


@contextmanager
def open_run(
    config: RunnableConfig,
    options: SotOptions,
    *,
    parts: GraphParts | None = None,
    key: str | None = None,
    reads_context: bool = True,
    threaded: bool = False,
    write: Callable[[SotEvent], None] | None = None,
) -> Iterator[RunContext]:
    """Open the context of one node's execution.

    Args:
        config: The node's config.
        options: The graph's own options.
        parts: What the graph was made with; `None` outside a graph.
        key: The run's key from the state; `None` begins a new run.
        reads_context: Whether the run's context is laid over the options. Not in a part of somebody else's graph.
        threaded: Whether the graph runs synchronously.
        write: In place of LangGraph's stream writer.

    Raises:
        SotConfigError: The run's context is not valid.
    """
    try:
        runtime = get_runtime()
    except (RuntimeError, KeyError):  # outside a graph: a unit test, a notebook
        runtime = None
    writer: Callable[[Any], None] = _write_nothing
    control: object = object()
    is_transient = is_heard = False
    if runtime is not None:
        namespace = runtime.execution_info.checkpoint_ns if runtime.execution_info is not None else ""
        # "team:<id>|writer:<id>|draft_skeleton:<id>". Where the graph keeps a thread of its own, its step has no id:
        # "team:<id>|writer|draft_skeleton:<id>".
        _, _, parent_step = namespace.rpartition("|")[0].rpartition("|")
        is_transient = ":" in parent_step
        if reads_context and runtime.context is not None:
            repeated = config.get("configurable", {})  # some servers repeat it as the run's context
            changes = context_changes(runtime.context, embedded="|" in namespace, repeated=repeated)
            options = with_changes(options, changes)
        control = runtime.control or control
        if is_heard := somebody_listens(runtime):
            writer = runtime.stream_writer
    if parts is not None and parts.prompts.skeleton_format not in {None, options.skeleton_format}:
        options = replace(options, skeleton_format=parts.prompts.skeleton_format)
    begins = key is None
    key = key or uuid4().hex
    # With a deadline, replies are always streamed: one that is cut off would leave no text otherwise.
    stream = options.stream
    handlers = streaming_handlers(config)
    if stream == "auto":
        stream = options.deadline is not None or bool(handlers) or is_heard
    limiter, retriever = (None, None) if parts is None else (parts.limiter, parts.retriever)
    configurable = config.get("configurable", {})
    with _invocations.entered(key, control) as invocation:
        invocation.begun_here |= begins
        invocation.ended |= parts is None
        if options.max_concurrency is not None and invocation.limiter is None:
            invocation.limiter = CallLimiter(options.max_concurrency)
        above = configurable.get(LIMITERS_ABOVE, ())
        # A limiter above is told by the run above.
        on_tokens = None if limiter is None or limiter in above else limiter.add_tokens
        goes_on = False
        try:
            yield RunContext(
                parts=parts,  # type: ignore[arg-type]
                key=key,
                config=config,
                options=options,
                write=write or writer,
                invocation=invocation,
                answer_id=configurable.get(ANSWER_ID_KEY) or f"{ANSWER_ID_PREFIX}{key}",
                stream=stream,
                listeners=[each for each in handlers if not isinstance(each, (BaseTracer, AsyncBaseTracer))],
                in_graph=runtime is not None,
                threaded=threaded,
                is_transient=is_transient,
                # One that both have stands where the run above has it: two orders could wait for each other.
                limiters=[*filter(None, dict.fromkeys((*reversed(above), limiter, invocation.limiter)))][::-1],
                retriever=retriever if configurable.get(RETRIEVER) is None else configurable[RETRIEVER],
                meter=UsageMeter(on_tokens=on_tokens),
                trace=NodeTrace(config),
            )
            goes_on = not invocation.ended
        finally:
            if invocation.retrievals and not goes_on:
                invocation.end_retrievals()
