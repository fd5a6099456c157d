"""The answer's text in reading order, as it is written: `astream_answer`, `stream_answer`, and a run's `answer`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.constants import END
from langgraph.stream import StreamChannel, StreamTransformer

from sot_graph.concurrency.cancellation import cancelled_once, closing_calls, closing_once, run_to_end
from sot_graph.errors import SotConfigError
from sot_graph.events import BREAKS_OFF
from sot_graph.run import ANSWER_ID_PREFIX
from sot_graph.streaming.answer_reader import AnswerReader, is_sot_event

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel.protocol import PregelProtocol

logger = logging.getLogger("sot_graph")

_BETWEEN_ANSWERS = "\n\n"
_SOT_NODE, _LAST_SOT_NODE = "expand_point", "answer_directly"
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
            `RemoteGraph` of any of these.
        input: As for `graph.astream`.
        config: As for `graph.astream`.
        context: As for `graph.astream`.
        node: In a parent with several SoT subgraphs: the node whose answer is wanted.
        keep_cut: Whether the thread keeps what was read by a reader who leaves, as an answer that is marked as cut.
            Else it holds a question without an answer. Needs a checkpointer.

    Raises:
        SotConfigError: Two SoT subgraphs answer at once and `node` says of neither that it is wanted, or there is no
            node of that name.
        Exception: What the run raises, after the last chunk.

    Examples:
        >>> async def show(graph: Any) -> None:
        ...     async with aclosing(astream_answer(graph, {"question": "How do plants grow?"})) as chunks:
        ...         async for text in chunks:
        ...             print(text, end="", flush=True)
    """
    reading = _Reading(node, graph)
    settings = _settings(graph, config, context, reading)
    parts: AsyncGenerator[Any] = cancelled_once(graph.astream(input, **settings))  # type: ignore[arg-type]
    try:
        async with aclosing(parts):
            async for part in parts:
                if text := reading.take(part):
                    yield text
    except (GeneratorExit, asyncio.CancelledError):
        if keep_cut and (update := reading.cut_answer(input)):
            await run_to_end(graph.aupdate_state(config or {}, **update))
        raise
    if text := reading.last_message():
        yield text
    reading.check_node_answered()
    if not reading.heard_nothing:
        _needs_no_warning.add(graph)
    elif graph not in _needs_no_warning and not (_keeps_threads(graph) and (await graph.aget_state(config or {})).next):
        _warn_of_silence(graph)


def stream_answer(
    graph: PregelProtocol[Any, Any, Any, Any],
    input: Any,
    config: RunnableConfig | None = None,
    context: Any = None,
    *,
    node: str | None = None,
    keep_cut: bool = False,
) -> Iterator[str]:
    """The same as `astream_answer`, synchronously.

    Closing the iterator (`contextlib.closing`), forgetting it, or Ctrl-C cancels the model calls.
    """
    reading = _Reading(node, graph)
    settings = _settings(graph, config, context, reading)
    try:
        with closing_once(closing_calls(graph.stream(input, **settings))) as parts:
            for part in parts:
                if text := reading.take(part):
                    yield text
    except (GeneratorExit, KeyboardInterrupt):
        if keep_cut and (update := reading.cut_answer(input)):
            graph.update_state(config or {}, **update)
        raise
    if text := reading.last_message():
        yield text
    reading.check_node_answered()
    if not reading.heard_nothing:
        _needs_no_warning.add(graph)
    elif graph not in _needs_no_warning and not (_keeps_threads(graph) and graph.get_state(config or {}).next):
        _warn_of_silence(graph)


def _keeps_threads(graph: object) -> bool:
    """Whether the graph can be asked what is left to do: where it waits for somebody, there is no answer yet."""
    return isinstance(getattr(graph, "checkpointer", None), BaseCheckpointSaver)


def _warn_of_silence(graph: object) -> None:
    _needs_no_warning.add(graph)
    logger.warning(
        "Nothing was streamed: no graph of create_sot_graph was heard in this run. Where the run had ended before, "
        "that is as it should be: the answer is in the state. Else a node that runs such a graph in a thread of its "
        "own must hand on its config: graph.invoke(input, config)."
    )


def _settings(graph: object, config: RunnableConfig | None, context: Any, reading: _Reading) -> dict[str, Any]:
    modes = ["custom", "messages", "values"] if reading.others_may_answer else ["custom"]
    settings: dict[str, Any] = {"config": config, "stream_mode": modes, "subgraphs": True}
    if context is not None:
        settings["context"] = context
    module = sys.modules.get("langgraph.pregel.remote")  # where it isn't imported, no graph is a `RemoteGraph`
    if module is not None and isinstance(graph, module.RemoteGraph):
        settings["on_disconnect"] = "cancel"  # else its server goes on, and pays, when the reader has left
    return settings


class _Reading:
    """Picks one SoT graph's events out of a stream, and reads them."""

    def __init__(self, node: str | None, graph: object) -> None:
        self._node = node
        builder: Any = getattr(graph, "builder", None)
        self.others_may_answer = node is None and builder is not None and _SOT_NODE not in builder.nodes
        """Whether the graph is a parent, in which nodes without an SoT graph may answer, too."""
        self._last_nodes = _last_nodes(builder) if self.others_may_answer else set()
        self._message = _ParentsMessage()
        self._answers = _Answers()
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
            return self._message.take_chunk(event[0])
        if mode != "custom" or not is_sot_event(event):
            return ""
        namespace = tuple(namespace)
        nodes = [step.split(":", 1)[0] for step in namespace]
        path = "/".join(nodes)
        self._seen.add(path)
        if self._node is not None and self._node not in (path, *nodes):
            return ""
        if self._answers.is_open and namespace != self._namespace:
            if namespace[: len(self._namespace)] == self._namespace:
                return ""  # a part of the answer that is read, such as a point that has a graph of its own
            names = sorted({path, self._path})
            message = f"Two SoT nodes answer at once: {names}. Say which one is to be read: node={names[0]!r}."
            if path == self._path:
                message = (
                    f"The node {path!r} answers several times at once (a Send of the parent, perhaps): stream_answer "
                    "reads one answer. Stream the parent with stream_mode='custom', subgraphs=True instead, and give "
                    "each namespace an AnswerReader of its own."
                )
            raise SotConfigError(message)
        self._namespace, self._path = namespace, path
        return self._answers.feed(event)

    def cut_answer(self, given: Any) -> dict[str, Any] | None:
        """For `update_state`: what was read of an answer, marked as cut; `None`: nothing was, or all of it."""
        if not (self._answers.is_open and self._answers.shown):
            return None
        question = given.get("question") if isinstance(given, Mapping) else None
        metadata = {"finish_reason": "cancelled"}
        answer = AIMessage("".join(self._answers.shown).rstrip() + BREAKS_OFF, response_metadata=metadata)
        messages = [*([HumanMessage(question)] if question and not given.get("messages") else []), answer]
        return {"values": {"messages": messages}, "as_node": self._path.partition("/")[0] or _LAST_SOT_NODE}

    def last_message(self) -> str:
        """What hasn't been given out of the answer, where no SoT graph gave one."""
        is_answered = self._answers.reader is not None and self._answers.reader.finished
        text = "" if is_answered or not self.others_may_answer else self._message.rest()
        self._message.was_shown |= bool(text)
        return _BETWEEN_ANSWERS + text if text and self._answers.shown else text

    def check_node_answered(self) -> None:
        """Raise `SotConfigError` where the node that was asked for never answered, while others did."""
        if self._node is not None and self._answers.reader is None and self._seen:
            message = f"No SoT node {self._node!r} answered; those that did: {sorted(self._seen)}."
            raise SotConfigError(message)

    @property
    def heard_nothing(self) -> bool:
        """Whether no SoT graph was heard, and no other node's answer was shown."""
        return not (self._seen or (self._message.was_shown and not self._message.is_ours))


class _Answers:
    """The texts of answers that come one after the other, with a blank line between them."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.reader: AnswerReader | None = None
        """Of the latest answer; `None`: none has begun."""
        self._answer_id = ""
        """A node that LangGraph tries again answers anew, by another id."""
        self._separator = ""
        """What goes before the next text, where an answer follows another."""

    @property
    def is_open(self) -> bool:
        """Whether an answer has begun, and isn't whole."""
        return self.reader is not None and not self.reader.finished

    def feed(self, event: Any) -> str:
        """Take the next event; give back the text that can be shown now."""
        answer_id = str(event.get("id", "")).rpartition(":")[0]
        if self.reader is None or self.reader.finished or answer_id != self._answer_id:
            self._separator = _BETWEEN_ANSWERS if self.shown else ""
            self.reader, self._answer_id = AnswerReader(), answer_id
        text = self.reader.feed(event)
        if text:
            text, self._separator = self._separator + text, ""
            self.shown.append(text)
        return text


def _last_nodes(builder: Any) -> set[str]:
    """The nodes after which a graph ends: what a model says in one of them is the answer.

    None in a graph where nodes run side by side, be it by one edge: it can't be told whose words are the answer.
    """
    starts = [start for start, _ in builder.edges]
    if len(starts) > len(set(starts)) or set(starts) & set(builder.branches):
        return set()
    goes_on = {start for start, end in builder.edges if end != END} | set(builder.branches)
    goes_on.update(start for starts, _ in builder.waiting_edges for start in starts)
    return set(builder.nodes) - goes_on


class _ParentsMessage:
    """The answer of a parent where another node answers: the last message of its state."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None
        self._after: list[Any] = []
        self._given: dict[str | None, str] = {}
        self.was_shown = False

    @property
    def is_ours(self) -> bool:
        """Whether a graph of ours wrote it, and nobody heard its events."""
        return bool(self._after) and str(self._after[-1].id).startswith(ANSWER_ID_PREFIX)

    def take_state(self, state: Any) -> None:
        """Take the root's state, after a step or before the first one."""
        messages = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
        self._after = list(messages or ())
        self._before = self._after if self._before is None else self._before

    def take_chunk(self, message: Any) -> str:
        """Take a piece of a message; give back its text."""
        text = str(message.text) if isinstance(message, AIMessageChunk) else ""
        self._given[message.id] = self._given.get(message.id, "") + text
        self.was_shown |= bool(text)
        return text

    def rest(self) -> str:
        """What hasn't been given out of the state's last message, if that is a model's and this run's."""
        last = self._after[-1] if self._after else None
        if not isinstance(last, AIMessage) or last.tool_calls or last in (self._before or ()):
            return ""
        text, given = str(last.text), self._given.get(last.id, "")
        if given:
            return text.removeprefix(given) if text.startswith(given) else ""
        return (_BETWEEN_ANSWERS if self.was_shown else "") + text


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
        self._answers = _Answers()
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
            if namespace == self._source and (text := self._answers.feed(params["data"])):
                self._channel.push(text)
        return True
