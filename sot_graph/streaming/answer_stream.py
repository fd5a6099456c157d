"""The answer's text in reading order, as it is written: `astream_answer`, `stream_answer`, and a run's `answer`."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.stream import StreamChannel, StreamTransformer

from sot_graph.concurrency.isolation import cancelled_once
from sot_graph.concurrency.sync_cancellation import closing_calls, closing_once
from sot_graph.errors import SotConfigError
from sot_graph.streaming.answer_reader import AnswerReader, is_sot_event

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel.protocol import PregelProtocol

logger = logging.getLogger("sot_graph")

_BETWEEN_ANSWERS = "\n\n"
_known: WeakSet[object] = WeakSet()
"""Graphs that have streamed an answer, and those of which it has been told that they haven't."""


async def astream_answer(
    graph: PregelProtocol[Any, Any, Any, Any],
    input: Any,
    config: RunnableConfig | None = None,
    context: Any = None,
    *,
    node: str | None = None,
) -> AsyncIterator[str]:
    """Run a graph and yield its answer's text in reading order.

    The title of point 1 comes as soon as the skeleton is there; the text of the point being read flows as the model
    writes it; later points, written at the same time, come in one piece when their turn comes. The chunks, joined,
    are exactly the final `answer`, also with failed points, on a resumed run (`input=None`) and with a `join` that
    can't be streamed (then it is one chunk at the end). Where a parent answers several times, one after the other, the
    answers come with a blank line between them. Where it answers by other nodes, nothing comes; of a graph that has
    never streamed an answer, a WARNING says so once. Leaving the iterator early cancels the model calls; close it with
    `contextlib.aclosing`, as every async generator.

    Args:
        graph: A graph of `create_sot_graph`, a parent that has one as a subgraph, in a function or in a tool, or a
            `RemoteGraph` of any of these.
        input: As for `graph.astream`.
        config: As for `graph.astream`.
        context: As for `graph.astream`.
        node: In a parent with several SoT subgraphs: the node whose answer is wanted.

    Raises:
        SotConfigError: Two SoT subgraphs answer at once and `node` says of neither that it is wanted, or there is no
            node of that name.
        Exception: What the run raises, after the last chunk.

    Example:
        >>> async def show(graph: Any) -> None:
        ...     async with aclosing(astream_answer(graph, {"question": "How do plants grow?"})) as chunks:
        ...         async for text in chunks:
        ...             print(text, end="", flush=True)
    """
    reading = _Reading(node)
    settings = _settings(graph, config, context)
    parts: AsyncGenerator[Any] = cancelled_once(graph.astream(input, **settings))  # type: ignore[arg-type]
    async with aclosing(parts):
        async for part in parts:
            if text := reading.take(part):
                yield text
    if reading.end(graph) and not (_keeps_threads(graph) and (await graph.aget_state(config or {})).next):
        _tell_of_silence(graph)


def stream_answer(
    graph: PregelProtocol[Any, Any, Any, Any],
    input: Any,
    config: RunnableConfig | None = None,
    context: Any = None,
    *,
    node: str | None = None,
) -> Iterator[str]:
    """The same as `astream_answer`, synchronously.

    Closing the iterator (`contextlib.closing`), forgetting it, or Ctrl-C cancels the model calls.
    """
    reading = _Reading(node)
    settings = _settings(graph, config, context)
    with closing_once(closing_calls(graph.stream(input, **settings))) as parts:
        for part in parts:
            if text := reading.take(part):
                yield text
    if reading.end(graph) and not (_keeps_threads(graph) and graph.get_state(config or {}).next):
        _tell_of_silence(graph)


def _keeps_threads(graph: object) -> bool:
    """Whether the graph can be asked what is left to do: where it waits for somebody, there is no answer yet."""
    return isinstance(getattr(graph, "checkpointer", None), BaseCheckpointSaver)


def _tell_of_silence(graph: object) -> None:
    _known.add(graph)
    logger.warning(
        "Nothing was streamed: no graph of create_sot_graph has answered in this run. Where other nodes answered, or "
        "the run had ended before, that is as it should be: the answer is in the state. Else a node that runs such a "
        "graph in a thread of its own must hand on its config: graph.invoke(input, config)."
    )


def _settings(graph: object, config: RunnableConfig | None, context: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"config": config, "stream_mode": ["custom"], "subgraphs": True}
    if context is not None:
        settings["context"] = context
    module = sys.modules.get("langgraph.pregel.remote")  # where it isn't imported, no graph is a `RemoteGraph`
    if module is not None and isinstance(graph, module.RemoteGraph):
        settings["on_disconnect"] = "cancel"  # else its server goes on, and pays, when the reader has left
    return settings


class _Reading:
    """Picks one SoT graph's events out of a stream, and reads them."""

    def __init__(self, node: str | None) -> None:
        self._node = node
        self._source: tuple[str, ...] = ()
        """The namespace of the graph that is read."""
        self._path = ""
        """The nodes that lead to it; empty at the root, and as long as none has spoken."""
        self._seen: set[str] = set()
        self._reader: AnswerReader | None = None
        self._before = ""
        """What stands before the next text: of an answer that follows another."""

    def take(self, part: Any) -> str:
        namespace, _mode, event = part
        if not is_sot_event(event):
            return ""
        namespace = tuple(namespace)
        nodes = [step.split(":", 1)[0] for step in namespace]
        path = "/".join(nodes)
        self._seen.add(path)
        if self._node is not None and self._node not in (path, *nodes):
            return ""
        if self._reader is None or self._reader.finished:
            self._before = "" if self._reader is None else _BETWEEN_ANSWERS
            self._reader, self._source, self._path = AnswerReader(), namespace, path
        elif namespace != self._source:
            if namespace[: len(self._source)] == self._source:
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
        text = self._reader.feed(event)
        if text:
            text, self._before = self._before + text, ""
        return text

    def end(self, graph: object) -> bool:
        """Whether no SoT graph said anything in this run, nor in one before, and nobody has been told.

        Raises:
            SotConfigError: The node that was asked for never answered, while others did.
        """
        if self._node is not None and self._reader is None and self._seen:
            message = f"No SoT node {self._node!r} answered; those that did: {sorted(self._seen)}."
            raise SotConfigError(message)
        if self._seen:
            _known.add(graph)
        return graph not in _known


class AnswerTransformer(StreamTransformer):
    """Adds `answer` to a run stream: the answer's text in reading order.

    `create_sot_graph` attaches it. LangGraph ignores the transformers of an embedded graph, so a parent names it:
    `parent.compile(transformers=[AnswerTransformer])`, or `astream_events(..., transformers=[AnswerTransformer])`.
    With several SoT subgraphs it follows the first that begins; use `astream_answer(..., node=...)` to choose.

    Example:
        >>> async def show(graph: Any) -> None:
        ...     async with await graph.astream_events({"question": "Why?"}, version="v3") as run:
        ...         async for text in run.answer:
        ...             print(text, end="", flush=True)
    """

    _native = True
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
