"""The answer's text in reading order, as it is written: `astream_answer`, `stream_answer`, and a run's `answer`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.utils import convert_to_messages
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.constants import END
from langgraph.stream import StreamChannel, StreamTransformer
from langgraph.types import Overwrite

from sot_graph.concurrency.cancellation import cancelled_once, closing_calls, closing_once, run_to_end
from sot_graph.errors import SotConfigError
from sot_graph.events import BREAKS_OFF
from sot_graph.run import ANSWER_ID_PREFIX, QUESTION_ID_PREFIX
from sot_graph.streaming.answer_reader import BETWEEN_ANSWERS, AnswerReader, is_sot_event

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel.protocol import PregelProtocol
    from langgraph.types import Durability, StateSnapshot

logger = logging.getLogger("sot_graph")

_SOT_NODE, _LAST_SOT_NODE = "expand_point", "answer_directly"
"""Names of nodes, which this layer must not import. A graph that has the first is one of `create_sot_graph`. After the
second such a graph ends: what is written to its thread in that node's name makes nothing run next."""
_needs_no_warning: WeakSet[object] = WeakSet()
"""Graphs that have streamed an answer, and those that were warned about for streaming none: no more warnings."""


async def astream_answer(
    graph: PregelProtocol[Any, Any, Any, Any],
    input: Any,
    config: RunnableConfig | None = None,
    context: Any = None,
    *,
    node: str | None = None,
    keep_cut: bool = False,
    durability: Durability | None = None,
) -> AsyncIterator[str]:
    """Run a graph and yield its answer's text in reading order.

    The title of point 1 comes as soon as the skeleton is there; the text of the point being read flows as the model
    writes it; of a later point, what is written already comes at once when its turn comes. The chunks, joined, are
    exactly the final `answer`, also with failed points, on a resumed run (`input=None`) and with a `join` that
    can't be streamed (then it is one chunk at the end). If a parent answers several times, one after the other, the
    answers come with a blank line between them. If only other nodes answer, the parent's last `AIMessage` is the
    answer: live, if a model of a last node writes it, else at the end. If nothing could be streamed, a WARNING says so,
    once for each graph. Leaving the iterator early cancels the model calls; close it with `contextlib.aclosing`, as
    every async generator.

    Args:
        graph: A graph of `create_sot_graph`, a parent that has one as a subgraph, in a function or in a tool, or a
            `RemoteGraph` of any of these: there the answers of other nodes aren't read.
        input: As for `graph.astream`.
        config: As for `graph.astream`.
        context: As for `graph.astream`.
        node: In a parent with several SoT subgraphs: the node whose answer is wanted.
        keep_cut: Whether the thread keeps what was read by a reader who leaves, as an answer that is marked as cut.
            Else it holds a question without an answer. Needs a checkpointer.
        durability: As for `graph.astream`.

    Raises:
        SotConfigError: Two SoT subgraphs answer at once and `node` says of neither that it is wanted, there is no node
            of that name, or `keep_cut` without a checkpointer.
        Exception: What the run raises, after the last chunk.

    Examples:
        >>> async def show(graph: Any) -> None:
        ...     async with aclosing(astream_answer(graph, {"question": "How do plants grow?"})) as chunks:
        ...         async for text in chunks:
        ...             print(text, end="", flush=True)
    """
    reading = _Reading(node, graph, keep_cut=keep_cut)
    settings = _settings(graph, config, context, durability, reading)
    parts: AsyncGenerator[Any] = cancelled_once(graph.astream(input, **settings))  # type: ignore[arg-type]
    try:
        async with aclosing(parts):
            async for part in parts:
                if text := reading.take(part):
                    yield text
    except (GeneratorExit, asyncio.CancelledError):
        if keep_cut and reading.cut:
            await run_to_end(_akeep_cut(graph, input, config or {}, reading))
        raise
    if text := reading.finish():
        yield text
    if not reading.heard_nothing:
        _needs_no_warning.add(graph)
    elif graph not in _needs_no_warning and not (
        _keeps_threads(graph, config) and (await graph.aget_state(config or {})).next
    ):
        _warn_of_silence(graph)


def stream_answer(
    graph: PregelProtocol[Any, Any, Any, Any],
    input: Any,
    config: RunnableConfig | None = None,
    context: Any = None,
    *,
    node: str | None = None,
    keep_cut: bool = False,
    durability: Durability | None = None,
) -> Iterator[str]:
    """The same as `astream_answer`, synchronously.

    Closing the iterator (`contextlib.closing`), forgetting it, or Ctrl-C cancels the model calls.
    """
    reading = _Reading(node, graph, keep_cut=keep_cut)
    settings = _settings(graph, config, context, durability, reading)
    try:
        with closing_once(closing_calls(graph.stream(input, **settings))) as parts:
            for part in parts:
                if text := reading.take(part):
                    yield text
    except (GeneratorExit, KeyboardInterrupt):
        if keep_cut and reading.cut:
            with _logged_failure():
                state = graph.get_state(config or {})
                update = reading.cut_answer(input, state, graph.get_state(state.config))
                graph.update_state(config or {}, **update)
        raise
    if text := reading.finish():
        yield text
    if not reading.heard_nothing:
        _needs_no_warning.add(graph)
    elif graph not in _needs_no_warning and not (_keeps_threads(graph, config) and graph.get_state(config or {}).next):
        _warn_of_silence(graph)


async def _akeep_cut(graph: Any, given: Any, config: RunnableConfig, reading: _Reading) -> None:
    with _logged_failure():
        state = await graph.aget_state(config)
        update = reading.cut_answer(given, state, await graph.aget_state(state.config))
        await graph.aupdate_state(config, **update)


@contextmanager
def _logged_failure() -> Iterator[None]:
    """Whoever leaves a stream hears no errors any more: they go into the log."""
    try:
        yield
    except Exception:
        logger.warning("The answer that was cut could not be kept on its thread.", exc_info=True)


def _keeps_threads(graph: object, config: RunnableConfig | None) -> bool:
    """Whether the graph can be asked what is left to do: where it waits for somebody, there is no answer yet."""
    has_thread = "thread_id" in ((config or {}).get("configurable") or {})
    is_remote = hasattr(graph, "assistant_id")  # LangGraph's `RemoteGraph`: its server keeps threads
    return isinstance(getattr(graph, "checkpointer", None), BaseCheckpointSaver) or (is_remote and has_thread)


def _warn_of_silence(graph: object) -> None:
    _needs_no_warning.add(graph)
    logger.warning(
        "Nothing was streamed: no graph of create_sot_graph was heard in this run. Where the run had ended before, or "
        "a node's CachePolicy gave an earlier answer, that is as it should be: the answer is in the state. Else a node "
        "that runs such a graph in a thread of its own must hand on its config: graph.invoke(input, config)."
    )


def _settings(
    graph: object, config: RunnableConfig | None, context: Any, durability: Durability | None, reading: _Reading
) -> dict[str, Any]:
    modes = ["custom", "messages", "values"] if reading.others_may_answer else ["custom"]
    settings: dict[str, Any] = {"config": config, "stream_mode": modes, "subgraphs": True}
    if context is not None:
        settings["context"] = context
    if durability is not None:
        settings["durability"] = durability
    module = sys.modules.get("langgraph.pregel.remote")  # where it isn't imported, no graph is a `RemoteGraph`
    if module is not None and isinstance(graph, module.RemoteGraph):
        settings["on_disconnect"] = "cancel"  # else its server goes on, and pays, when the reader has left
    return settings


class _Reading:
    """Picks one SoT graph's events out of a stream, and reads them."""

    def __init__(self, node: str | None, graph: object, *, keep_cut: bool) -> None:
        if keep_cut and getattr(graph, "checkpointer", True) in (None, False):
            message = "keep_cut=True keeps an answer on its thread: compile the graph with a checkpointer."
            raise SotConfigError(message)
        self._node = node
        builder: Any = getattr(graph, "builder", None)
        self._is_parents = builder is not None and _SOT_NODE not in builder.nodes
        self.others_may_answer = node is None and self._is_parents
        """Whether the graph is a parent, in which nodes without an SoT graph may answer, too."""
        self._last_nodes = _last_nodes(builder) if self.others_may_answer else set()
        self._message = _ParentsMessage()
        self._reader = AnswerReader()
        self._namespace: tuple[str, ...] = ()
        """The namespace of the graph that is read."""
        self._path = ""
        """The nodes that lead to it; empty at the root, and as long as none has spoken."""
        self._seen: set[str] = set()
        """The nodes that lead to each SoT graph that was heard."""

    def take(self, part: Any) -> str:
        namespace, mode, event = part
        if mode == "values" and not namespace:
            self._message.take_state(event)
        if mode == "messages" and not (namespace or self._seen) and event[1].get("langgraph_node") in self._last_nodes:
            return self._message.take_chunk(*event)
        if mode != "custom" or not is_sot_event(event):
            return ""
        namespace = tuple(namespace)
        nodes = [step.split(":", 1)[0] for step in namespace if not step.isdigit()]
        path = "/".join(nodes)
        self._seen.add(path)
        if self._node is not None and self._node not in (path, *nodes):
            return ""
        place = len(self._namespace)
        is_below = namespace != self._namespace and namespace[:place] == self._namespace
        # A function's second call of a graph is no part of the first: it has a number behind the same namespace.
        if self._is_open and is_below and not namespace[place].isdigit():
            return ""  # a part of the answer that is read, such as a point that has a graph of its own
        # Another answer may follow one that has failed, which no event tells. Then the failed one says no more.
        if self._reader.has_begun_before(event):
            names = sorted({path, self._path})
            message = f"Two SoT nodes answer at once: {names}. Say which one is to be read: node={names[0]!r}."
            if path == self._path:
                message = (
                    f"The node {path!r} answers several times at once (a Send of the parent, or two calls of "
                    "a tool in one turn): stream_answer reads one answer. Stream the parent with stream_mode='custom', "
                    "subgraphs=True instead, and give each namespace an AnswerReader of its own."
                )
            raise SotConfigError(message)
        self._namespace, self._path = namespace, path
        return self._reader.feed(event)

    @property
    def _is_open(self) -> bool:
        """Whether an answer has begun, and isn't whole."""
        return self._reader.has_begun and not self._reader.finished

    @property
    def cut(self) -> str:
        """What was read of an answer that isn't whole."""
        if not self._reader.has_begun:
            return self._message.shown
        return self._reader.text if self._is_open else ""

    def cut_answer(self, given: Any, state: StateSnapshot, saved: StateSnapshot) -> dict[str, Any]:
        """For `update_state`: what was read of an answer, marked as cut.

        Args:
            given: The run's input.
            state: Of its thread, where that has the messages of the input, too.
            saved: Of its last checkpoint. What nodes have written since is in `state`, and lost by the update.
        """
        before = convert_to_messages(state.values.get("messages") or [])
        node, question = self._message.node, None
        if self._reader.has_begun:
            # A graph that stands in a model's place, as the middleware's does, is heard as the node that asks it.
            own_node = state.next[0] if self.others_may_answer and state.next else _LAST_SOT_NODE
            node = self._path.partition("/")[0] or own_node
            facts = state.values.get("run_facts", {})  # of a run that is resumed; else perhaps of the thread's last one
            # Without a `question_id` the question stands in the history.
            of_resumed = facts.get("question_text") if facts.get("question_id") else None
            question = given.get("question") if isinstance(given, Mapping) else of_resumed
        text = self.cut.rstrip() + BREAKS_OFF
        # With the run's own id a retry, or a run that goes on, replaces it.
        answer = AIMessage(text, id=self._reader.answer_id or None, response_metadata={"finish_reason": "cancelled"})
        key = self._reader.answer_id.partition(ANSWER_ID_PREFIX)[2]
        question_id = f"{QUESTION_ID_PREFIX}{key}" if key else None  # as the run itself would have written it
        asked = [HumanMessage(question, id=question_id)] if question and not _is_asked(question, before) else []
        values: dict[str, Any] = {"messages": [*_results_of_calls(before), *asked, answer]}
        if self._is_parents and state.values.get("sot"):
            values["sot"] = {}  # it is another answer's
        kept = saved.values.get("run_facts")
        if kept and self._reader.has_begun and kept["answer_id"] != self._reader.answer_id:
            # The graph's own thread, which has kept nothing of this run yet: what is there is an earlier question's.
            values |= {"skeleton": [], "answer": "", "sources": [], "finish_reason": None}
            values |= {"expansions": Overwrite([]), "frame": Overwrite({})}
        return {"values": values, "as_node": node}

    def finish(self) -> str:
        """The run has ended: what hasn't been given out of the answer, where no SoT graph gave one.

        Raises:
            SotConfigError: The node that was asked for never answered, while others did.
        """
        if self._node is not None and self._seen and not self._reader.has_begun:
            message = f"No SoT node {self._node!r} answered; those that did: {sorted(self._seen)}."
            raise SotConfigError(message)
        text = "" if self._reader.finished or not self.others_may_answer else self._message.rest()
        self._message.was_shown |= bool(text)
        return BETWEEN_ANSWERS + text if text and self._reader.has_given else text

    @property
    def heard_nothing(self) -> bool:
        """After `finish`, which may show one: whether no SoT graph was heard, and no other node's answer was shown."""
        return not (self._seen or (self._message.was_shown and not self._message.is_ours))


def _last_nodes(builder: Any) -> set[str]:
    """The nodes after which a graph ends: what a model says in one of them is the answer.

    None in a graph where nodes run side by side, be it by one edge: it can't be told whose words are the answer.
    """
    starts = [start for start, _ in builder.edges]
    if len(starts) > len(set(starts)) or set(starts) & set(builder.branches):
        return set()
    goes_on = {start for start, end in builder.edges if end != END} | set(builder.branches)
    goes_on.update(start for starts, _ in builder.waiting_edges for start in starts)
    goes_on.update(name for name, node in builder.nodes.items() if node.ends and END not in node.ends)  # by a `Command`
    return set(builder.nodes) - goes_on


class _ParentsMessage:
    """The answer of a parent where another node answers: the last message of its state."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None
        self._after: list[Any] = []
        self._given: dict[str | None, str] = {}
        """The texts that models have streamed, by their messages' ids."""
        self.node = ""
        """Where the latest of them was written."""
        self.was_shown = False

    @property
    def is_ours(self) -> bool:
        """Whether a graph of ours wrote it."""
        return bool(self._after) and str(self._after[-1].id).startswith(ANSWER_ID_PREFIX)

    @property
    def shown(self) -> str:
        """What was given out of the latest message that a model has streamed."""
        return next(reversed(self._given.values()), "")

    def take_state(self, state: Any) -> None:
        """Take the root's state, after a step or before the first one."""
        messages = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
        self._after = list(messages or ())
        self._before = self._after if self._before is None else self._before

    def take_chunk(self, message: Any, metadata: Mapping[str, Any]) -> str:
        """Take a piece of a message; give back its text."""
        text = str(message.text) if isinstance(message, AIMessageChunk) else ""
        if not text:
            return ""
        between = BETWEEN_ANSWERS if self._given and message.id not in self._given else ""
        self._given[message.id] = self._given.get(message.id, "") + text
        self.node, self.was_shown = metadata["langgraph_node"], True
        return between + text

    def rest(self) -> str:
        """What hasn't been given out of the state's last message, if that is a model's and this run's."""
        last = self._after[-1] if self._after else None
        if not isinstance(last, AIMessage) or last.tool_calls or last in (self._before or ()):
            return ""
        text, is_given = str(last.text), last.id in self._given
        # A node may put what its model has said into a message of its own, without the spaces around it.
        given = self._given[last.id] if is_given else self.shown
        for beginning in filter(None, (given, given.strip())):
            if text.startswith(beginning):
                return text.removeprefix(beginning)
        return "" if is_given else (BETWEEN_ANSWERS if self.was_shown else "") + text


def _is_asked(question: str, messages: list[BaseMessage]) -> bool:
    """Whether a question stands in a conversation that waits for an answer. The graph adds it to others."""
    place = max((place for place, each in enumerate(messages) if isinstance(each, HumanMessage)), default=0)
    is_answered = any(isinstance(each, AIMessage) and not each.tool_calls for each in messages[place:])
    asked = [str(each.text).strip() for each in messages if isinstance(each, HumanMessage)]
    return question.strip() in asked and not is_answered


def _results_of_calls(messages: list[BaseMessage]) -> list[ToolMessage]:
    """A result for each call of a tool at a conversation's end: providers refuse one that goes on without."""
    last = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
    results = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    ids = [] if last is None else [str(call["id"]) for call in last.tool_calls]
    # Those that are there are given again: of a step that is cut, LangGraph would drop them.
    return [results.get(each) or ToolMessage("It was cut off.", tool_call_id=each) for each in ids]


class AnswerTransformer(StreamTransformer):
    """Adds `answer` to a run stream: the answer's text in reading order.

    `create_sot_graph` attaches it. LangGraph ignores the transformers of an embedded graph, so a parent names it:
    `parent.compile(transformers=[AnswerTransformer])`, or `astream_events(..., transformers=[AnswerTransformer])`.
    With several SoT subgraphs it follows the first that begins; use `astream_answer(..., node=...)` to choose.

    Examples:
        >>> async def show(graph: Any) -> None:
        ...     async with await graph.astream_events({"question": "Why?"}, version="v3") as run:
        ...         async for text in run.answer:
        ...             print(text, end="", flush=True)
    """

    _native = True
    """Has LangGraph offer `run.answer` beside `run.extensions["answer"]`."""
    required_stream_modes: ClassVar[tuple[str, ...]] = ("custom",)

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self._channel: StreamChannel[str] = StreamChannel()
        self._reader = AnswerReader()
        self._source: tuple[str, ...] | None = None

    def init(self) -> dict[str, Any]:
        """The projection."""
        return {"answer": self._channel}

    def process(self, event: Any) -> bool:
        """Take an event of the run; it goes on to everybody else in any case."""
        params = event["params"]
        if event["method"] == "custom" and is_sot_event(params["data"]):
            namespace = tuple(params["namespace"])
            if self._source is None and namespace[: len(self.scope)] == self.scope:
                self._source = namespace
            if namespace == self._source and (text := self._reader.feed(params["data"])):
                self._channel.push(text)
        return True
