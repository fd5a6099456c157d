"""`ScriptedChatModel`: a chat model without a network, which answers by what it is asked."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeAlias

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

from sot_graph.errors import SotConfigError, kind_of
from sot_graph.testing.openai_wire import ChatRequest, compact_json, count_tokens, cut_at_stop, split_tokens
from sot_graph.testing.skeleton_responder import Ask, SkeletonResponder

Scripted: TypeAlias = str | AIMessage | Exception
ScriptedResponder: TypeAlias = Callable[[list[BaseMessage]], Scripted | Awaitable[Scripted]]


@dataclass(frozen=True)
class ScriptedCall:
    """One call of a scripted model."""

    messages: list[BaseMessage]
    stop: list[str] | None
    kwargs: dict[str, Any]
    """What was bound to the model or given with the call, such as `response_format`."""


class ScriptedChatModel(BaseChatModel):
    """A chat model that answers by what it is asked, never by the order of calls. It supports no tools.

    Tokens and usage follow the rule of `split_tokens`. The calls are in `calls`.

    Args:
        responder: Answers a list of messages with a text, an `AIMessage` or an exception to raise, or with an
            awaitable of one.
        **kwargs: `delay`, `chunk`, and those of `BaseChatModel`.

    Raises:
        SotConfigError: The responder is no function.

    Examples:
        >>> model = ScriptedChatModel(lambda messages: f"You said: {messages[-1].content}")
        >>> model.invoke("Hello").content
        'You said: Hello'
    """

    responder: Any
    delay: float = 0.0
    """Seconds before the answer, or before the first token of a streamed one."""
    chunk: int = 1
    """Tokens in a streamed chunk."""
    _calls: list[ScriptedCall] = PrivateAttr(default_factory=list)

    def __init__(self, responder: ScriptedResponder, **kwargs: Any) -> None:
        if not callable(responder):
            message = f"ScriptedChatModel takes a function of the messages, not {responder!r}: lambda messages: ..."
            raise SotConfigError(message)
        super().__init__(**{"responder": responder, **kwargs})

    @property
    def calls(self) -> list[ScriptedCall]:
        """Every call so far, in order of their beginning."""
        return list(self._calls)  # appending to a list is atomic, and so is copying it

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages, stop, kwargs))])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=await self._aanswer(messages, stop, kwargs))])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for piece in self._chunks_of(self._answer(messages, stop, kwargs)):
            if run_manager is not None:
                run_manager.on_llm_new_token(piece.text, chunk=piece)
            yield piece

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for piece in self._chunks_of(await self._aanswer(messages, stop, kwargs)):
            if run_manager is not None:
                await run_manager.on_llm_new_token(piece.text, chunk=piece)
            yield piece
            # As a network would: other tasks run between two tokens.
            await asyncio.sleep(0)

    def _answer(self, *call: Any) -> AIMessage:
        # In a thread of its own: this one may have a running event loop already.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(copy_context().run, asyncio.run, self._aanswer(*call)).result()

    async def _aanswer(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> AIMessage:
        self._calls.append(ScriptedCall(list(messages), stop, kwargs))
        if self.delay:
            await asyncio.sleep(self.delay)
        answer = self.responder(messages)
        return _as_message(await answer if inspect.isawaitable(answer) else answer, messages, stop)

    def _chunks_of(self, message: AIMessage) -> Iterator[ChatGenerationChunk]:
        tokens = split_tokens(str(message.text))
        for start in range(0, len(tokens), self.chunk):
            piece = AIMessageChunk(content="".join(tokens[start : start + self.chunk]), id=message.id)
            yield ChatGenerationChunk(message=piece)
        # All but the text, which has been said.
        rest = AIMessageChunk(**{**message.model_dump(exclude={"type"}), "content": ""}, chunk_position="last")
        yield ChatGenerationChunk(message=rest)


def _as_message(answer: Scripted, messages: Sequence[BaseMessage], stop: list[str] | None) -> AIMessage:
    """The answer as a message of its own, with usage unless it brings its own."""
    if isinstance(answer, Exception):
        raise answer
    if isinstance(answer, str):
        answer = AIMessage(cut_at_stop(answer, stop), response_metadata={"finish_reason": "stop"})
    if not isinstance(answer, AIMessage):
        message = (
            f"The responder of ScriptedChatModel returned {kind_of(answer)}; it must return a text or an AIMessage."
        )
        raise SotConfigError(message)
    if answer.usage_metadata is not None:
        return answer.model_copy()
    prompt = sum(count_tokens(str(message.text)) for message in messages)
    written = [str(answer.text), *(compact_json(call["args"]) for call in answer.tool_calls)]
    completion = sum(map(count_tokens, written))
    usage = UsageMetadata(input_tokens=prompt, output_tokens=completion, total_tokens=prompt + completion)
    return answer.model_copy(update={"usage_metadata": usage})


def answer_skeleton_of_thought(
    titles: Sequence[str] | None = None,
    text: str | Callable[[Ask], str] | None = None,
    *,
    points: int = 8,
    words_per_point: int | Callable[[int], int] = 60,
) -> Callable[[list[BaseMessage]], str]:
    r"""A responder that answers each prompt of Skeleton-of-Thought: see `SkeletonResponder`.

    Args:
        titles: The skeleton's titles; `None`: made up.
        text: Of a point or an answer: a text in which `{number}` and `{title}` are filled in, or what makes
            it of the `Ask`; `None`: filler text.
        points: How many titles are made up.
        words_per_point: Of the filler text.

    Examples:
        >>> model = ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil"], "About {title}."))
        >>> model.invoke("How do plants grow? Write a numbered list.").content
        '1. Seed\n2. Soil'
        >>> model.invoke("Write this point: 2. Soil").content
        'About Soil.'
    """
    respond = SkeletonResponder(points, words_per_point, titles, text=text)
    return lambda messages: respond(ChatRequest({"messages": convert_to_openai_messages(messages)})).text
