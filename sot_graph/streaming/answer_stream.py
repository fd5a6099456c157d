"""`astream_answer` and `stream_answer`: the answer's text in reading order, as it is written."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from langgraph.checkpoint.base import BaseCheckpointSaver

from sot_graph.concurrency.sync_cancellation import closing_calls, closing_once
from sot_graph.errors import SotConfigError
from sot_graph.streaming.answer_reader import AnswerReader, is_sot_event

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel.protocol import PregelProtocol

__all__ = ["astream_answer", "stream_answer"]

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
    async with aclosing(graph.astream(input, **settings)) as parts:  # type: ignore[type-var]
        async for part in parts:
            if text := reading.take(part):
                yield text
    reading.check_node()
    if reading.is_first_silence(graph) and not (_keeps_threads(graph) and (await graph.aget_state(config or {})).next):
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
    reading.check_node()
    if reading.is_first_silence(graph) and not (_keeps_threads(graph) and graph.get_state(config or {}).next):
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
        self._source: tuple[str, ...] | None = None
        self._seen: set[str] = set()
        self._reader = AnswerReader()
        self._is_further = False
        """Whether this answer follows another, and nothing of it has been given out yet."""

    def take(self, part: Any) -> str:
        namespace, _mode, event = part
        if not is_sot_event(event):
            return ""
        namespace = tuple(namespace)
        path = _path_of(namespace)
        name = "/".join(path)
        self._seen.add(name)
        if self._node is not None and self._node not in (name, *path):
            return ""
        if self._source not in (None, namespace) and not self._reader.finished:
            assert self._source is not None
            if namespace[: len(self._source)] == self._source:
                return ""  # a part of the answer that is read, such as a point that has a graph of its own
            raise SotConfigError(self._two_at_once(name))
        self._source = namespace
        if self._reader.finished:
            self._reader = AnswerReader()
            self._is_further = True
        text = self._reader.feed(event)
        if text and self._is_further:
            self._is_further = False
            return _BETWEEN_ANSWERS + text
        return text

    def _two_at_once(self, name: str) -> str:
        known = "/".join(_path_of(self._source or ()))
        if name == known:
            return (
                f"The node {name!r} answers several times at once (a Send of the parent, perhaps): stream_answer "
                "reads one answer. Stream the parent with stream_mode='custom', subgraphs=True instead, and give each "
                "namespace an AnswerReader of its own."
            )
        names = sorted({known, name})
        return f"Two SoT nodes answer at once: {names}. Say which one is to be read: node={names[0]!r}."

    def is_first_silence(self, graph: object) -> bool:
        """Whether no SoT graph said anything in this run, nor in one before, and nobody has been told."""
        if self._seen:
            _known.add(graph)
        return graph not in _known

    def check_node(self) -> None:
        """Raise if the node that was asked for never answered while others did."""
        if self._node is not None and self._source is None and self._seen:
            message = f"No SoT node {self._node!r} answered; those that did: {sorted(self._seen)}."
            raise SotConfigError(message)


def _path_of(namespace: Sequence[str]) -> tuple[str, ...]:
    """The nodes that lead to the graph that speaks."""
    return tuple(step.split(":", 1)[0] for step in namespace)
