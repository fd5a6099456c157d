"""One model call as the graph makes it: streamed or not, repeated where that can help, always counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.runnables.config import merge_configs

from sot_graph.models.cleaning import cleaner_of
from sot_graph.models.failures import explain
from sot_graph.models.gathering import Gathered, text_of
from sot_graph.models.loops import LoopModel
from sot_graph.models.patience import Patience
from sot_graph.observability.redaction import GIVEN_UP, Redactor
from sot_graph.prompts.rendering import clean_text
from sot_graph.tracing import CallTrace

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable, RunnableConfig

    from sot_graph.runs import Task
    from sot_graph.types import Stage

__all__ = ["BrokenStreamError", "ModelCall", "Prepared", "Prompt", "Reply", "made", "unbound"]

logger = logging.getLogger("sot_graph")


Prompt: TypeAlias = "Sequence[BaseMessage] | Callable[[], Sequence[BaseMessage]]"
"""A prompt, or what makes it."""


class BrokenStreamError(Exception):
    """A streamed reply ended too soon, after text of it had been passed on.

    Attributes:
        text: What had come.
    """

    def __init__(self, text: str) -> None:
        super().__init__("the model's reply broke off")
        self.text = text


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered."""

    text: str
    message: AIMessage

    @property
    def finish_reason(self) -> str | None:
        """`"stop"`, `"length"`, ...: as the provider names it."""
        metadata = self.message.response_metadata
        reason = metadata.get("finish_reason") or metadata.get("stop_reason")
        return reason if isinstance(reason, str) else None

    @property
    def was_cut_off(self) -> bool:
        """Whether the reply ran into a token limit."""
        return self.finish_reason in {"length", "max_tokens", "MAX_TOKENS"}

    @property
    def was_refused(self) -> bool:
        """Whether the model declined to answer, as far as the provider tells."""
        return bool(self.message.additional_kwargs.get("refusal")) or self.finish_reason == "content_filter"


def made(prompt: Prompt) -> Sequence[BaseMessage]:
    """The prompt itself."""
    return prompt() if callable(prompt) else prompt


def _times_cancelled() -> int:
    """How many cancellations of the running task are under way, noticed or not."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model, and everything that it is called with."""

    runnable: Runnable[Any, Any]
    config: RunnableConfig
    settings: Mapping[str, Any]


def unbound(runnable: Runnable[Any, Any], config: RunnableConfig, settings: Mapping[str, Any]) -> Prepared:
    """A model beside what was bound to it: a binding's own call would put the callbacks into another order."""
    while isinstance(runnable, RunnableBinding) and type(runnable).ainvoke is RunnableBinding.ainvoke:
        if runnable.config or runnable.config_factories:
            config = merge_configs(runnable.config, config)
            config = merge_configs(config, *(factory(config) for factory in runnable.config_factories))
        settings = {**runnable.kwargs, **settings}
        runnable = runnable.bound
    return Prepared(runnable, config, settings)


@dataclass(frozen=True, slots=True)
class ModelCall:
    """How to call one model for one purpose.

    Args:
        model: The model.
        stage: What for: the usage is counted there.
        task: The node's execution.
        config: The call's LangChain config.
        settings: Keyword arguments of the call, such as `max_tokens`.
    """

    model: LoopModel
    stage: Stage
    task: Task
    config: RunnableConfig
    settings: Mapping[str, Any]
    trace: CallTrace = field(default_factory=CallTrace)
    """Of the tries that were made."""

    async def ask(
        self,
        messages: Prompt,
        *,
        on_text: Callable[[str], None] | None = None,
        prepare: Callable[[Runnable[Any, Any]], Runnable[Any, Any]] | None = None,
        on_attempt: Callable[[int], None] | None = None,
    ) -> Reply:
        """Ask, and ask again where the way to the model failed and that can help.

        Args:
            messages: The prompt, or what makes it when the call's turn has come: thousands may wait for theirs.
            on_text: Streams the reply: called with each piece as it comes, be it text or a tool call's arguments.
            prepare: Binds tools or a response format to the model.
            on_attempt: Called as each attempt begins, with 1, 2, ...

        Raises:
            BrokenStreamError: A streamed reply broke off after text of it had been passed on.
            Exception: The provider's own, when the attempts are used up or can't help.
        """
        attempt = 1
        patience = Patience(self.task.options)
        clean = cleaner_of(lambda: self.redactor)
        while True:
            if on_attempt is not None:
                on_attempt(attempt)
            try:
                async with self.task.slot(), self.model.gate:
                    asked = self.model.shape(made(messages))
                    runnable = await self.model.here()
                    if prepare is not None:
                        runnable = prepare(runnable)
                    call = unbound(runnable, self.config, self.settings)
                    call = replace(call, config=self.trace.begin(call.config, clean))
                    self.task.meter.begin_call(self.stage)
                    if on_text is None:
                        return await self._whole(call, asked)
                    return await self._streamed(call, asked, on_text, with_tools=prepare is not None)
            except BrokenStreamError as error:
                clean(error.__cause__ or error, None)
                raise
            except asyncio.CancelledError:
                await self.trace.end(asyncio.CancelledError(GIVEN_UP))
                raise
            except Exception as error:
                self.task.meter.add_tokens(self.stage, clean(error, None))
                wait = patience.wait_after(error)
                if wait is None:
                    raise
                logger.info("%s: %s; trying again in %.1f s", self.stage, explain(error), wait)
            await asyncio.sleep(wait)
            attempt += 1

    @property
    def redactor(self) -> Redactor:
        """Takes the model's keys out of what comes back, and all words where a trace hides content."""
        return Redactor(self.model.secrets, hides_content=not self.task.trace.shows_content)

    async def _whole(self, call: Prepared, messages: list[BaseMessage]) -> Reply:
        message = await call.runnable.ainvoke(messages, call.config, **call.settings)
        if not isinstance(message, AIMessage):
            message = AIMessage(content=text_of(message))
        self.task.meter.add_message(self.stage, message)
        return Reply(clean_text(str(message.text)), message)

    async def _streamed(
        self, call: Prepared, messages: list[BaseMessage], on_text: Callable[[str], None], *, with_tools: bool
    ) -> Reply:
        gathered = Gathered(with_tools=with_tools)
        cancelled_before = _times_cancelled()
        now, limit = asyncio.get_running_loop().time, self.model.chunk_timeout
        chunks = call.runnable.astream(messages, call.config, **call.settings)
        try:
            async with asyncio.timeout(limit) as timer, aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    if limit is not None:
                        timer.reschedule(now() + limit)
                    if _times_cancelled() > cancelled_before:
                        # A model's own `wait_for` may forget, in Python 3.11, a cancellation that comes with a piece.
                        raise asyncio.CancelledError
                    if piece := gathered.add(chunk):
                        on_text(piece)
        except Exception as error:
            if gathered.has_begun:
                raise BrokenStreamError("".join(gathered.pieces)) from error
            raise
        finally:
            self.task.meter.add_tokens(self.stage, gathered.usage)
        message = gathered.message()
        return Reply(str(message.content), message)
