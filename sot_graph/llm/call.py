"""One model call as the graph makes it: streamed or not, repeated where that can help, always counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import add_usage
from langchain_core.runnables import RunnableBinding
from langchain_core.runnables.config import merge_configs
from openai import ContentFilterFinishReasonError, LengthFinishReasonError

from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.llm.provider_errors import explain
from sot_graph.llm.retry_policy import RetryPolicy
from sot_graph.observability.redaction import GIVEN_UP, Redactor
from sot_graph.observability.run_trace import CallTrace, usage_of_failure
from sot_graph.prompts.messages import clean_text

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable, RunnableConfig

    from sot_graph.run import RunContext
    from sot_graph.types import Stage

logger = logging.getLogger("sot_graph")

Prompt: TypeAlias = "Sequence[BaseMessage] | Callable[[], Sequence[BaseMessage]]"
"""A prompt, or what makes it."""
Binder: TypeAlias = "Callable[[Runnable[Any, Any]], Runnable[Any, Any]]"


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


def unbound(
    runnable: Runnable[Any, Any], config: RunnableConfig, settings: Mapping[str, Any]
) -> tuple[Runnable[Any, Any], RunnableConfig, Mapping[str, Any]]:
    """Split a bound model into model, config and settings. Calling the binding itself would reorder the callbacks."""
    while isinstance(runnable, RunnableBinding) and type(runnable).ainvoke is RunnableBinding.ainvoke:
        if runnable.config or runnable.config_factories:
            config = merge_configs(runnable.config, config)
            config = merge_configs(config, *(factory(config) for factory in runnable.config_factories))
        settings = {**runnable.kwargs, **settings}
        runnable = runnable.bound
    return runnable, config, settings


@dataclass(frozen=True, slots=True)
class ModelCall:
    """How to call one model for one purpose.

    Args:
        model: The model.
        stage: What for: the usage is counted there.
        run: The node's execution.
        config: The call's LangChain config.
        settings: Keyword arguments of the call, such as `max_tokens`.
    """

    model: LoopModel
    stage: Stage
    run: RunContext
    config: RunnableConfig
    settings: Mapping[str, Any]
    trace: CallTrace = field(default_factory=CallTrace)
    """Numbers the tries of this call in traces, and follows each."""

    async def ask(
        self,
        messages: Prompt,
        *,
        on_text: Callable[[str], None] | None = None,
        prepare: Binder | None = None,
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
        retry_policy = RetryPolicy(self.run.options)
        redactor = self.redactor
        while True:
            if on_attempt is not None:
                on_attempt(attempt)
            try:
                async with self.run.slot(), self.model.gate:
                    asked = self.model.shape(messages() if callable(messages) else messages)
                    runnable = await self.model.here()
                    if prepare is not None:
                        runnable = prepare(runnable)
                    runnable, config, settings = unbound(runnable, self.config, self.settings)
                    config = self.trace.begin(config, redactor)
                    self.run.meter.begin_call(self.stage)
                    if on_text is None:
                        return await self._whole(runnable.ainvoke(asked, config, **settings))
                    chunks: Any = runnable.astream(asked, config, **settings)
                    return await self._streamed(chunks, on_text, with_tools=prepare is not None)
            except BrokenStreamError as error:
                redactor.failure(error.__cause__ or error)
                raise
            except asyncio.CancelledError:
                await self.trace.end(asyncio.CancelledError(GIVEN_UP))
                raise
            except Exception as error:
                redactor.failure(error)
                self.run.meter.add_tokens(self.stage, usage_of_failure(error))
                wait = retry_policy.wait_after(error)
                if wait is None:
                    raise
                logger.info("%s: %s; trying again in %.1f s", self.stage, explain(error), wait)
            await asyncio.sleep(wait)
            attempt += 1

    @property
    def redactor(self) -> Redactor:
        """Takes the model's keys out of what comes back, and all words where a trace hides content."""
        return Redactor(self.model.secrets, hides_content=not self.run.trace.shows_content)

    async def _whole(self, reply: Awaitable[Any]) -> Reply:
        try:
            message = await reply
        except (LengthFinishReasonError, ContentFilterFinishReasonError) as error:
            message = _unfinished(error)
        if not isinstance(message, AIMessage):
            message = AIMessage(content=_text_of(message))
        self.run.meter.add_tokens(self.stage, message.usage_metadata)
        return Reply(clean_text(str(message.text)), message)

    async def _streamed(
        self, chunks: AsyncGenerator[Any], on_text: Callable[[str], None], *, with_tools: bool
    ) -> Reply:
        gathered = _StreamedReply(with_tools=with_tools)
        times_cancelled = asyncio.current_task().cancelling  # type: ignore[union-attr]
        cancelled_before = times_cancelled()
        now, limit = asyncio.get_running_loop().time, self.model.chunk_timeout
        try:
            async with asyncio.timeout(limit) as timer, aclosing(chunks):
                async for chunk in chunks:
                    if limit is not None:
                        timer.reschedule(now() + limit)
                    if times_cancelled() > cancelled_before:
                        # A model's own `wait_for` may forget, in Python 3.11, a cancellation that comes with a piece.
                        raise asyncio.CancelledError
                    if piece := gathered.add(chunk):
                        on_text(piece)
        except (LengthFinishReasonError, ContentFilterFinishReasonError) as error:
            gathered.add_metadata(_unfinished(error))
        except Exception as error:
            if gathered.has_begun:
                raise BrokenStreamError("".join(gathered.pieces)) from error
            raise
        finally:
            self.run.meter.add_tokens(self.stage, gathered.usage)
        message = gathered.message()
        return Reply(str(message.content), message)


def _text_of(chunk: Any) -> str:
    """A streamed piece's text: of a message, or of a chain that ends in plain strings."""
    content = chunk if isinstance(chunk, str) else getattr(chunk, "content", None)
    return content if isinstance(content, str) else str(getattr(chunk, "text", chunk))


def as_chunk(message: AIMessage) -> AIMessageChunk:
    """A streamed message: that of a model which doesn't stream comes whole."""
    if isinstance(message, AIMessageChunk):
        return message
    return AIMessageChunk(**message.model_dump(exclude={"type"}), chunk_position="last")


class _StreamedReply:
    """A streamed reply's chunks, added up. The LangChain way to do that costs more than the rest of the loop."""

    def __init__(self, *, with_tools: bool) -> None:
        self._with_tools = with_tools  # a tool that nobody offered is no part of the reply
        self.pieces: list[str] = []
        self.usage: Any = None
        self._response_metadata: dict[str, Any] = {}
        self._additional_kwargs: dict[str, Any] = {}
        self._tool_calls: AIMessageChunk | None = None
        self._half = ""
        """The first half of a surrogate pair whose other half is still to come."""

    def add(self, chunk: Any) -> str:
        """Take a chunk; give back what it adds to the text, or to a tool call's arguments."""
        text, self._half = self._half + _text_of(chunk), ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        text = clean_text(text)
        if text:
            self.pieces.append(text)
        if not isinstance(chunk, AIMessage):
            return text
        chunk = as_chunk(chunk)
        self.add_metadata(chunk)
        if self._with_tools and chunk.tool_call_chunks and not text:
            self._tool_calls = chunk if self._tool_calls is None else self._tool_calls + chunk
            return "".join(clean_text(call["args"] or "") for call in chunk.tool_call_chunks)
        return text

    def add_metadata(self, message: AIMessage) -> None:
        """Take what stands beside a chunk's text."""
        if message.usage_metadata:  # some providers report the prompt first, the reply last
            self.usage = add_usage(self.usage, message.usage_metadata)
        if message.response_metadata:
            self._response_metadata.update(message.response_metadata)
        if message.additional_kwargs:
            self._additional_kwargs.update(message.additional_kwargs)

    @property
    def has_begun(self) -> bool:
        """Whether anything of the reply was passed on."""
        return bool(self.pieces) or self._tool_calls is not None

    def message(self) -> AIMessage:
        """The whole reply."""
        return AIMessage(
            content="".join(self.pieces),
            tool_calls=[] if self._tool_calls is None else self._tool_calls.tool_calls,
            response_metadata=self._response_metadata,
            additional_kwargs=self._additional_kwargs,
            usage_metadata=self.usage,
        )


def _unfinished(error: Exception) -> AIMessage:
    """A reply to a schema that the OpenAI client raises in place of returning it: it has no whole JSON."""
    if not isinstance(error, LengthFinishReasonError):
        return AIMessage("", response_metadata={"finish_reason": "content_filter"})
    text = error.completion.choices[0].message.content if error.completion.choices else ""
    metadata = {"finish_reason": "length", "model_name": error.completion.model}
    return AIMessage(text or "", response_metadata=metadata, usage_metadata=usage_of_failure(error))
