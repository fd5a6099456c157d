"""`Expander`: code of the caller's that writes a point; how it is called, and how its output is read."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, TypeAlias

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import (
    Runnable,
    RunnableBinding,
    RunnableConfig,
    RunnableGenerator,
    RunnableSequence,
)
from langgraph.types import Command
from typing_extensions import TypedDict

from sot_graph.citations import fields_of, read_sources
from sot_graph.concurrency.isolation import IsolatedCallError, in_own_thread
from sot_graph.errors import SotConfigError
from sot_graph.prompts.messages import clean_text
from sot_graph.types import SkeletonPoint, Source

logger = logging.getLogger("sot_graph")

LEFT_THE_GRAPH = "the expander returned a Command to another graph, which a point can't follow: it must return a text"


class ExpanderInput(TypedDict):
    """What an expander gets."""

    question: str
    skeleton: list[SkeletonPoint]
    point: SkeletonPoint
    """The one to write."""
    messages: list[BaseMessage]
    """The prompt that the graph's own model would get: what an agent takes as it is."""


Expander: TypeAlias = Runnable[Any, Any] | Callable[[Any], Any]
"""Writes one point: a Runnable, a graph, or a callable of an `ExpanderInput`, synchronous or not, or a generator of
text. It returns a text, an `AIMessage`, `{"text": ..., "sources": [...]}`, or an agent's state."""


def check_expander(expander: object) -> None:
    """Check an expander when the graph is made, rather than at every point.

    Raises:
        SotConfigError: It can't be called with one argument, or is a chat model.
    """
    if isinstance(expander, BaseChatModel):
        message = (
            "expander is a chat model, which doesn't take a point. For another model pass model=..., or an expander "
            'such as `(lambda given: given["messages"]) | chat_model`.'
        )
        raise SotConfigError(message)
    if isinstance(expander, Runnable):
        return
    if not callable(expander):
        message = (
            f"expander is {type(expander).__name__}; it must be a Runnable, a graph, or a callable of one dict with "
            "`question`, `skeleton`, `point` and `messages`."
        )
        raise SotConfigError(message)
    try:
        signature = inspect.signature(expander)
        gets_config = "config" in signature.parameters and not _is_generator(expander)  # LangChain gives it
        signature.bind({}, **({"config": {}} if gets_config else {}))
    except TypeError as error:
        message = f"expander can't be called as expander({{'question': ..., 'point': ..., ...}}): {error}."
        raise SotConfigError(message) from error
    except ValueError:  # a callable that hides its signature
        return


def streams_text(expander: Expander) -> bool:
    """Whether it gives its text piece by piece: a generator, or a chain that ends in a model."""
    if not isinstance(expander, Runnable):
        return _is_generator(expander)
    while isinstance(expander, RunnableBinding):
        expander = expander.bound
    if isinstance(expander, RunnableSequence):
        last: Any = expander.last
        while isinstance(last, RunnableBinding):
            last = last.bound
        return isinstance(last, (BaseChatModel, StrOutputParser))
    return isinstance(expander, RunnableGenerator)


def _is_generator(function: Any) -> bool:
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    return any(
        kind(candidate)
        for kind in (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        for candidate in (function, called)
    )


def stream_expander(expander: Expander, given: ExpanderInput, config: RunnableConfig) -> AsyncIterator[Any]:
    """The pieces of an expander that `streams_text`."""
    if isinstance(expander, Runnable):
        return expander.astream(given, config)
    return RunnableGenerator(_as_stream(expander)).astream(given, config)


def _as_stream(generator: Callable[[Any], Any]) -> Callable[[AsyncIterator[Any]], AsyncIterator[Any]]:
    """A generator function as LangChain takes and traces it: of a stream of inputs in place of one input."""

    async def pieces(inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for given in inputs:
            made = generator(given)
            if hasattr(made, "__aiter__"):
                async with aclosing(made):
                    try:
                        async for piece in made:
                            yield piece
                    except SystemExit as error:
                        raise IsolatedCallError(error) from error
            else:
                async with aclosing(_from_thread(made)) as others:
                    async for piece in others:
                        yield piece

    return pieces


async def _from_thread(pieces: Iterator[Any]) -> AsyncGenerator[Any, None]:
    """A synchronous generator's pieces, read in one thread and context: it may block."""
    loop, end = asyncio.get_running_loop(), object()
    given: asyncio.Queue[Any] = asyncio.Queue()
    is_left = threading.Event()

    def read() -> None:
        with closing(pieces):  # type: ignore[type-var]
            for piece in pieces:
                if is_left.is_set():
                    return
                loop.call_soon_threadsafe(given.put_nowait, piece)

    reading = asyncio.ensure_future(in_own_thread(read))
    reading.add_done_callback(lambda _: given.put_nowait(end))
    try:
        while (piece := await given.get()) is not end:
            yield piece
        await reading
    finally:
        is_left.set()


class ExpanderError(Exception):
    """An expander failed, or gave what is no text: the point's error says which."""


def read_output(output: Any) -> tuple[str, list[Source]]:
    """The text and the sources in what an expander returned, in any of its forms.

    Raises:
        ExpanderError: It is none of them.
    """
    if isinstance(output, str):
        return clean_text(output), []
    if isinstance(output, AIMessage):
        return clean_text(str(output.text)), []
    if isinstance(output, Command):
        raise ExpanderError(LEFT_THE_GRAPH)
    known = fields_of(output)
    for fields in (known, fields_of(known.get("structured_response"))):
        if isinstance(fields.get("text"), str):
            return clean_text(fields["text"]), _sources(fields.get("sources") or [])
    if isinstance(output, Mapping):
        messages = output.get("messages")
        if isinstance(messages, Sequence) and messages and isinstance(messages[-1], (AIMessage, ToolMessage)):
            return _read_agent_state(messages)
    message = (
        f"the expander returned {type(output).__name__} ({output!r:.60}); it must return a text, an AIMessage, "
        '{"text": ..., "sources": [...]}, or an agent\'s state with messages'
    )
    raise ExpanderError(message)


def _sources(given: Any) -> list[Source]:
    try:
        return read_sources(given)
    except ValueError as error:
        message = f"the expander's output is wrong: {error}"
        raise ExpanderError(message) from error


def _read_agent_state(messages: Sequence[BaseMessage]) -> tuple[str, list[Source]]:
    """An agent's last word, and what its tools found: the artifacts of their messages, where these are sources."""
    found: list[Source] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            found += [source for source in _artifact_sources(message.artifact) if source not in found]
    return clean_text(str(messages[-1].text)), found


def _artifact_sources(artifact: Any) -> list[Source]:
    """The sources among what a tool keeps for its own purposes, such as rows or pictures."""
    if isinstance(artifact, Mapping):
        named = artifact.get("sources")
        return _sources(named) if isinstance(named, list) else []
    try:
        return read_sources(artifact) if isinstance(artifact, list) else []
    except ValueError as error:
        logger.debug("A tool's artifact is no list of sources: %s", error)
        return []
