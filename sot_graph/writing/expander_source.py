"""`ExpanderSource`: an expander writes a text; its model calls are counted, its tool calls told to those who listen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.errors import GraphBubbleUp, GraphInterrupt

from sot_graph._seams import without_checkpointer
from sot_graph.concurrency.isolation import IsolatedCallError, call_own_code, run_isolated
from sot_graph.errors import carried_status
from sot_graph.llm.provider_errors import explain
from sot_graph.llm.retry_policy import RetryPolicy
from sot_graph.llm.thoughts import ThoughtFilter
from sot_graph.observability.redaction import Redactor
from sot_graph.observability.run_trace import with_first
from sot_graph.prompts.messages import clean_text
from sot_graph.run import PLACES, RETRIEVER
from sot_graph.usage import empty_usage
from sot_graph.writing.expander import (
    LEFT_THE_GRAPH,
    Expander,
    ExpanderError,
    ExpanderInput,
    read_output,
    stream_expander,
    streams_text,
)

if TYPE_CHECKING:
    from uuid import UUID

    from sot_graph.llm.call import ModelCall
    from sot_graph.run import RunContext
    from sot_graph.types import Source
    from sot_graph.writing.writer import GrowingText

T = TypeVar("T")

logger = logging.getLogger("sot_graph")

_LONGEST_INPUT = 2000


class ExpanderSource:
    """Has an expander write a text: whole, or as it is written where the expander streams.

    Args:
        expander: What writes.
        given: What it gets, but for the messages.
        messages: The prompt that the model would get. A prefill at its end is for the model alone.
        call: Of the model that would write otherwise: its run and its config.
    """

    who = "the expander"

    def __init__(self, expander: Expander, given: ExpanderInput, messages: list[BaseMessage], call: ModelCall) -> None:
        self._expander = expander
        self._given = given
        self._given["messages"] = messages[:-1] if isinstance(messages[-1], AIMessage) else messages
        self._run = call.run
        self._redactor = call.run.trace.redactor(call.model.secrets)
        # An error below the expander is only rid of keys, since the expander's code may read its words. Tracers hide
        # those by themselves.
        self._watcher = _ExpanderWatcher(call.run, given["point"]["index"], Redactor(call.model.secrets).redact_error)
        # A graph in the expander keeps no state of its own, since a point is resumed as a whole. With the parent's
        # checkpointer, an agent in a synchronous run would need an asynchronous checkpointer.
        callbacks = with_first(call.config.get("callbacks"), self._watcher)
        self._config: Any = {**without_checkpointer(call.config), "callbacks": callbacks}
        self._is_sot_graph = getattr(expander, "is_sot_graph", False)
        if self._is_sot_graph:
            # The run's retriever has been asked for the point already.
            self._config["configurable"] |= {PLACES: call.run.slot, RETRIEVER: None}

    async def write(self, growing: GrowingText) -> None:
        """Write the text. Before anything of it was sent, the expander is asked again where that can help.

        Raises:
            Exception: It failed, or gave what is no text.
        """
        retries = RetryPolicy(self._run.options)
        while True:
            growing.begin_attempt()
            try:
                async with nullcontext() if self._is_sot_graph else self._run.slot():
                    return await self._try(growing)
            except GraphBubbleUp as error:
                message = "the expander asked for a person (an interrupt), for whom a point can't wait"
                if not isinstance(error, GraphInterrupt):
                    message = LEFT_THE_GRAPH
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
                wait = None if growing.cleaner.text else retries.wait_after(error)
                if wait is None:
                    raise self._named(error) from error
                logger.info("expander: %s; trying again in %.1f s", explain(error), wait)
            await asyncio.sleep(wait)
            growing.restart()

    async def _try(self, growing: GrowingText) -> None:
        if streams_text(self._expander):
            await self._isolated(self._read_stream(growing))
        else:
            output = await self._isolated(call_own_code(self._expander, self._given, self._config))
            _add_output(read_output(output), growing, ThoughtFilter(unopened=True), is_whole=True)
        growing.end()

    async def _isolated(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await run_isolated(call, f"Point {self._given['point']['index']}: its expander")
        except asyncio.CancelledError:
            self._watcher.is_left = True
            raise

    async def _read_stream(self, growing: GrowingText) -> None:
        pieces: Any = stream_expander(self._expander, self._given, self._config)
        thoughts = ThoughtFilter(unopened=None)
        async with aclosing(pieces):
            async for piece in pieces:
                if self._watcher.is_left:
                    return
                if isinstance(piece, Mapping) and set(piece) == {"sources"}:
                    _add_output(read_output({"text": "", **piece}), growing, thoughts)
                elif self._is_sot_graph and isinstance(piece, Mapping) and set(piece) == {"cost"}:
                    self._run.meter.add({**empty_usage(), "cost": piece["cost"]})
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


def _add_output(
    expanded: tuple[str, list[Source]], growing: GrowingText, thoughts: ThoughtFilter, *, is_whole: bool = False
) -> None:
    text, sources = expanded
    known = list(growing.sources)
    # Some expanders tell the sources that are new, others all that there are by now.
    growing.sources = sources if sources[: len(known)] == known else known + sources
    growing.write(thoughts.feed(text) + (thoughts.finish() if is_whole else ""))


class _ExpanderWatcher(BaseCallbackHandler):
    """Follows the runs below one point's expander.

    Args:
        run: The point's run.
        index: The point's index.
        clean: Cleans an error in place.
    """

    run_inline = True
    """Have LangChain tell what happens in its order, rather than from several threads."""

    def __init__(self, run: RunContext, index: int, clean: Callable[[BaseException], None]) -> None:
        self._run = run
        self._index = index
        self._clean = clean
        self._tools: dict[UUID, tuple[str, str]] = {}
        self.is_left = False
        """Set when the point is done. What its expander still does then, in a thread or against its cancellation, isn't
        told."""

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[Any]], **kwargs: Any) -> None:
        """Count a call."""
        self._run.meter.begin_call("expansion")

    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], **kwargs: Any) -> None:
        """Count a call."""
        self._run.meter.begin_call("expansion")

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
