"""`Expander`: code of the caller's that writes a point; how it is called, and how its output is read.

Its model calls are counted, and its tool calls are told to those who listen.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, nullcontext, suppress
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableGenerator, RunnableSequence
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.types import Command
from typing_extensions import TypedDict

from sot_graph._seams import without_checkpointer
from sot_graph.concurrency.isolation import IsolatedCallError, call_user_code, in_new_thread, run_isolated
from sot_graph.errors import SotConfigError, carried_status, check_call
from sot_graph.llm.provider_errors import explain
from sot_graph.llm.retry_policy import RetryPolicy
from sot_graph.llm.thoughts import ThoughtFilter
from sot_graph.observability.redaction import Redactor
from sot_graph.observability.run_trace import with_first
from sot_graph.prompts.messages import clean_text
from sot_graph.run import LIMITERS_ABOVE, RETRIEVER
from sot_graph.sources import read_sources
from sot_graph.state import fields_of
from sot_graph.types import SkeletonPoint, Source, Usage

if TYPE_CHECKING:
    from uuid import UUID

    from sot_graph.llm.call import ModelCall
    from sot_graph.run import RunContext
    from sot_graph.types import FinishReason
    from sot_graph.writing.writer import GrowingText

T = TypeVar("T")

logger = logging.getLogger("sot_graph")

_LONGEST_INPUT = 2000
"""Characters of a tool's input that are told."""
_LEFT_THE_GRAPH = "the expander returned a Command to another graph, which a point can't follow: it must return a text"


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
    function: Any = expander
    with suppress(TypeError, ValueError):  # no callable, or one that hides its signature
        takes_config = "config" in inspect.signature(function).parameters
        if takes_config and not (inspect.isclass(expander) or _is_generator(expander)):
            function = partial(function, config={})  # LangChain gives it
    hint = " with `question`, `skeleton`, `point` and `messages`, a Runnable, or a graph"
    check_call("expander", function, {"given": {}}, hint=hint)


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

    reading = asyncio.ensure_future(in_new_thread(read))
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
        raise ExpanderError(_LEFT_THE_GRAPH)
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


class ExpanderSource:
    """Has an expander write a text: whole, or as it is written where the expander streams.

    It gets what is `given`, and the messages that the model would get. A prefill at their end is for the model alone.
    """

    who = "the expander"

    def __init__(self, expander: Expander, given: ExpanderInput, messages: list[BaseMessage], call: ModelCall) -> None:
        self._expander = expander
        self._given = given
        self._given["messages"] = messages[:-1] if isinstance(messages[-1], AIMessage) else messages
        self._run = call.run
        self._redactor = call.run.trace.redactor(call.model.secrets)
        # Below the expander errors lose keys alone: the caller's code gets its errors' words. Tracers hide the words
        # themselves.
        self._watcher = _ExpanderWatcher(call.run, given["point"]["index"], Redactor(call.model.secrets).redact_error)
        # A graph in the expander keeps no state of its own, since a point is resumed as a whole. With the parent's
        # checkpointer, an agent in a synchronous run would need an asynchronous checkpointer.
        callbacks = with_first(call.config.get("callbacks"), self._watcher)
        self._config: Any = {**without_checkpointer(call.config), "callbacks": callbacks}
        self._ending: FinishReason = "stop"
        self._is_nested_graph = getattr(expander, "is_nested_graph", False)
        if self._is_nested_graph:
            # The run's retriever has been asked for the point already.
            self._config["configurable"] |= {LIMITERS_ABOVE: call.run.limiters, RETRIEVER: None}

    async def write(self, growing: GrowingText) -> None:
        """Write the text. Before anything of it was sent, the expander is asked again where that can help.

        Raises:
            Exception: It failed, or gave what is no text.
        """
        retries = RetryPolicy(self._run.options)
        while True:
            if growing.on_attempt is not None:
                growing.on_attempt()
            try:
                async with nullcontext() if self._is_nested_graph else self._run.places():
                    return await self._try(growing)
            except GraphBubbleUp as error:
                message = "the expander asked for a person (an interrupt), for whom a point can't wait"
                if not isinstance(error, GraphInterrupt):
                    message = _LEFT_THE_GRAPH
                raise ExpanderError(message) from error
            except IsolatedCallError as error:
                self._redactor.redact_error(error)
                message = f"the expander {self._redactor.text(error.what)}"
                raise ExpanderError(message) from error
            except ExpanderError as error:
                self._redactor.redact_error(error)  # it shows what was returned
                raise
            except Exception as error:
                self._redactor.redact_error(error)
                is_final = bool(growing.cleaner.text) or _is_own_mistake(error)
                wait = None if is_final else retries.wait_after(error)
                if wait is None:
                    if (named := self._named(error)) is error:
                        raise
                    raise named from error
                logger.info("expander: %s; trying again in %.1f s", explain(error), wait)
            await asyncio.sleep(wait)
            growing.restart()

    async def _try(self, growing: GrowingText) -> None:
        # Copies: what an expander does to them is its own affair, and another try gets them as they were.
        skeleton, point = deepcopy((self._given["skeleton"], self._given["point"]))
        messages = [*self._given["messages"]]
        given = ExpanderInput(question=self._given["question"], skeleton=skeleton, point=point, messages=messages)
        if streams_text(self._expander):
            await self._isolated(self._read_stream(given, growing))
        else:
            output = await self._isolated(call_user_code(self._expander, given, self._config))
            _add_output(read_output(output), growing, ThoughtFilter(unopened=True), is_whole=True)
        growing.end(self._ending)

    async def _isolated(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await run_isolated(call, f"Point {self._given['point']['index']}: its expander")
        except asyncio.CancelledError:
            self._watcher.is_left = True
            raise

    async def _read_stream(self, given: ExpanderInput, growing: GrowingText) -> None:
        expander = self._expander
        runnable = expander if isinstance(expander, Runnable) else RunnableGenerator(_as_stream(expander))
        pieces: Any = runnable.astream(given, self._config)
        thoughts = ThoughtFilter(unopened=None)
        async with aclosing(pieces):
            async for piece in pieces:
                if self._watcher.is_left:
                    return
                if isinstance(piece, Mapping) and set(piece) == {"sources"}:
                    _add_output(read_output({"text": "", **piece}), growing, thoughts)
                elif self._is_nested_graph and isinstance(piece, Mapping) and "finish_reason" in piece:
                    self._ending = piece["finish_reason"]
                    self._run.meter.add(cast("Usage", {"cost": piece["cost"]}))
                elif isinstance(piece, (str, BaseMessage)):
                    growing.write(thoughts.feed(clean_text(piece if isinstance(piece, str) else str(piece.text))))
                else:
                    _add_output(read_output(piece), growing, thoughts)
        growing.write(thoughts.finish())

    def _named(self, error: Exception) -> Exception:
        """An expander's exception by its name; what came from a model stays as it is, for `explain` knows it."""
        if carried_status(error) is not None:
            return error
        # Not every class lets its errors be cleaned in place.
        return ExpanderError(f"the expander raised {type(error).__name__}: {self._redactor.text(str(error))}")


def _is_own_mistake(error: Exception) -> bool:
    """Whether an expander's code looked for what isn't there. Raised by LangChain, the error means an empty reply."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return isinstance(error, LookupError) and not frame.f_globals.get("__name__", "").startswith("langchain")


def _add_output(
    expanded: tuple[str, list[Source]], growing: GrowingText, thoughts: ThoughtFilter, *, is_whole: bool = False
) -> None:
    text, sources = expanded
    known = list(growing.sources)
    # Some expanders tell the sources that are new, others all that there are by now.
    growing.sources = sources if sources[: len(known)] == known else known + sources
    growing.write(thoughts.feed(text) + (thoughts.finish() if is_whole else ""))


class _ExpanderWatcher(BaseCallbackHandler):
    """Follows the runs below one point's expander. `clean` cleans an error in place."""

    run_inline = True
    """Have LangChain tell what happens in its order, rather than from several threads."""

    def __init__(self, run: RunContext, index: int, clean: Callable[[BaseException], None]) -> None:
        self._run = run
        self._index = index
        self._clean = clean
        self._tools: dict[UUID, tuple[str, str]] = {}
        self.is_left = False
        """Set when the expander's call is cancelled. What its code still does then, in a thread perhaps, isn't told."""

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Count a call."""
        self._run.meter.begin_call("expansion")

    on_llm_start = on_chat_model_start

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        """Count its tokens."""
        for generations in response.generations:
            for generation in generations[:1]:
                if isinstance(generation, ChatGeneration):
                    self._run.meter.add_tokens("expansion", getattr(generation.message, "usage_metadata", None))

    def on_tool_start(self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell of a tool's call."""
        name = str(kwargs.get("name") or (serialized or {}).get("name") or "tool")
        self._tools[run_id] = (name, input_str[:_LONGEST_INPUT])
        self._tell(run_id, "start")

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell of its end."""
        self._tell(run_id, "error" if getattr(output, "status", None) == "error" else "end")

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell of its failure."""
        self._clean(error)
        self._tell(run_id, "error")

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        """Clean it, before a tracer gets it."""
        self._clean(error)

    on_chain_error = on_llm_error
    on_retriever_error = on_llm_error

    def _tell(self, run_id: UUID, state: Literal["start", "end", "error"]) -> None:
        if self.is_left:
            return
        name, given = self._tools.get(run_id, ("tool", ""))
        self._run.emit(
            {
                "type": "sot.point.tool",
                "index": self._index,
                "call": str(run_id),
                "name": name,
                "input": given,
                "state": state,
            }
        )
