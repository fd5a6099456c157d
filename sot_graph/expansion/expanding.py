"""One text from an expander, with the face of a `TextWriter`: whoever wrote a point, the same is made of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.messages import BaseMessage
from langgraph.errors import GraphBubbleUp

from sot_graph.causes import status_code
from sot_graph.containing import ContainedError, contained
from sot_graph.expansion.expander import call_expander, stream_expander, streams_text
from sot_graph.expansion.outputs import Expanded, ExpanderError, read_output
from sot_graph.expansion.sending import SendingWriter
from sot_graph.expansion.watching import ExpanderWatcher
from sot_graph.models import Patience, explain
from sot_graph.observability.redaction import Redactor
from sot_graph.prompts.rendering import clean_text
from sot_graph.tracing import with_first

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from sot_graph.expansion.cleaning import TextCleaner
    from sot_graph.expansion.expander import Expander, ExpanderInput
    from sot_graph.models import ModelCall

__all__ = ["ExpanderWriter"]

T = TypeVar("T")

logger = logging.getLogger("sot_graph")


class ExpanderWriter(SendingWriter):
    """Has an expander write a text, cleans it, and sends it: whole, or as it is written where the expander streams.

    Args:
        expander: What writes.
        given: What it gets.
        call: Of the model that would write otherwise: its task and its config.
        make_cleaner: A new cleaner, for each try that begins at the beginning.
        send: Takes the pieces of the cleaned text.
        on_attempt: Called as each try begins.
    """

    who = "the expander"

    def __init__(
        self,
        expander: Expander,
        given: ExpanderInput,
        call: ModelCall,
        *,
        make_cleaner: Callable[[], TextCleaner],
        send: Callable[[str], None],
        on_attempt: Callable[[int], None],
    ) -> None:
        super().__init__(call, make_cleaner=make_cleaner, send=send)
        self._expander = expander
        self._given = given
        self._redactor = call.redactor
        # What goes on below the expander keeps its words: it may depend on them. Its traces are discreet already.
        self._watcher = ExpanderWatcher(call.task, given["point"]["index"], Redactor(call.model.secrets).error)
        self._config = _config(call.config, self._watcher)
        self._on_attempt = on_attempt
        self._is_left = False
        """Whether nothing of its call is wanted any more, be it that it goes on."""

    async def _write(self) -> None:
        patience = Patience(self._task.options)
        attempt = 1
        while True:
            self._cleaner = self._make_cleaner()
            self.sources = []
            self._on_attempt(attempt)
            try:
                async with self._task.slot():
                    return await self._try()
            except GraphBubbleUp as error:
                message = "the expander asked for a person (an interrupt), for whom a point can't wait"
                raise ExpanderError(message) from error
            except ContainedError as error:
                self._redactor.error(error)
                message = f"the expander {self._redactor.text(error.what)}"
                raise ExpanderError(message) from error
            except ExpanderError as error:
                self._redactor.error(error)  # it shows what was returned
                raise
            except Exception as error:
                self._redactor.error(error)
                wait = None if self.text else patience.wait_after(error)
                if wait is None:
                    raise self._told(error) from error
                logger.info("expander: %s; trying again in %.1f s", explain(error), wait)
            await asyncio.sleep(wait)
            attempt += 1

    async def _try(self) -> None:
        if streams_text(self._expander):
            await self._contained(self._read_stream())
        else:
            output = await self._contained(call_expander(self._expander, self._given, self._config))
            self._take(read_output(output))
        self._sender.add(self._cleaner.finish())

    async def _contained(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await contained(call, f"Point {self._given['point']['index']}: its expander")
        except asyncio.CancelledError:
            self._is_left = True
            self._watcher.leave()
            raise

    async def _read_stream(self) -> None:
        pieces: Any = stream_expander(self._expander, self._given, self._config)
        async with aclosing(pieces):
            async for piece in pieces:
                if self._is_left:
                    return
                if isinstance(piece, Mapping) and set(piece) == {"sources"}:
                    self._take(read_output({"text": "", **piece}))
                elif isinstance(piece, (str, BaseMessage)):
                    text = piece if isinstance(piece, str) else str(piece.text)
                    self._sender.add(self._cleaner.feed(clean_text(text)))
                else:
                    self._take(read_output(piece))

    def _take(self, expanded: Expanded) -> None:
        known = list(self.sources)
        # Some tell those that are new, others all that there are by now.
        is_whole = expanded.sources[: len(known)] == known
        self.sources = expanded.sources if is_whole else known + expanded.sources
        self._sender.add(self._cleaner.feed(expanded.text))

    def _told(self, error: Exception) -> Exception:
        """An expander's exception by its name; what came from a model stays as it is, for `explain` knows it."""
        if status_code(error) is not None or isinstance(error, (ConnectionError, TimeoutError)):
            return error
        # Not every class lets its errors be cleaned in place.
        return ExpanderError(f"the expander raised {type(error).__name__}: {self._redactor.text(str(error))}")


def _config(config: RunnableConfig, watcher: ExpanderWatcher) -> RunnableConfig:
    """The point's config, watched. A graph in it keeps no state of its own: a point is resumed as a whole.

    With the parent's checkpointer an agent would need an asynchronous one in a synchronous run, too.
    """
    configurable = {**config.get("configurable", {}), "__pregel_checkpointer": None}
    return {**config, "callbacks": with_first(config.get("callbacks"), watcher), "configurable": configurable}
