"""How much of a reply is read: bounds for the body of a response, before it is unpacked into memory.

`SotOptions.max_reply_chars` bounds a reply's text, wherever it comes from. What stands here bounds what arrives: half a
megabyte of gzip may hold gigabytes, and a body may never end. It works in the clients that `LoopModel` makes.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import openai
from pydantic_core import from_json

openai_httpx: Any = sys.modules[openai.DefaultAsyncHttpxClient.__mro__[1].__module__]
"""A workaround: the module that the installed OpenAI client is built on, found as the module of its base class.

It is httpx with version 2 of the client, httpx2 with version 3. What is used of it here is alike in both."""

most_chars: ContextVar[int | None] = ContextVar("most_chars", default=None)
"""The longest text that the running call may get; `None`: no bound."""
ENCODING = "gzip"
"""The only one that is asked for: it is unpacked here, piece by piece."""
_BYTES_A_CHAR = 12
"""A character outside the basic plane, as JSON may write it."""
_AROUND_THE_TEXT = 1 << 18
"""Bytes of a reply beside its text, and of an error."""
_PIECE = 1 << 16
_GZIP = zlib.MAX_WBITS | 16
_LONGEST_ESCAPE = 12
_IS_CUT = "sot_graph_is_cut"
_MOST_ARGUMENTS = 20_000
"""Characters of a streamed call's arguments: three hundred titles."""
_SLICE = 200


async def bound_body(response: Any) -> None:
    """An event hook of httpx: the response's body is read up to its bound, and unpacked in small pieces."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    most = most_chars.get()
    if most is None:
        return
    if encoding not in {"identity", "gzip", "x-gzip"}:
        message = f"the reply came as {encoding[:20]!r}, which was not asked for"
        raise openai_httpx.DecodingError(message, request=response.request)
    if "content-encoding" in response.headers:
        del response.headers["content-encoding"]
    unpacker = None if encoding == "identity" else zlib.decompressobj(_GZIP)
    response.stream = _BoundedBody(response, unpacker, most * _BYTES_A_CHAR + _AROUND_THE_TEXT)


def is_cut(response: Any) -> bool:
    """Whether the body ends at its bound."""
    return bool(response.extensions.get(_IS_CUT))


def beginning_of(body: bytes) -> Any:
    """What there is of a JSON reply that was cut: its text, marked as one that ran into a limit."""
    text, data = body.decode("utf-8", "ignore"), None
    for half in range(_LONGEST_ESCAPE):  # an escape may be cut in two
        with suppress(ValueError):
            data = from_json(text[: len(text) - half], allow_partial="trailing-strings")
            break
    choices = data.get("choices") if isinstance(data, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            choice["finish_reason"] = "length"
    return data


def arguments_of(text: str) -> Any:
    """What there is of a call's arguments, be they cut off or not; `None`: they are no JSON."""
    with suppress(ValueError, TypeError):  # half a surrogate pair is no text
        return from_json(text, allow_partial="trailing-strings")
    return None


class BoundedCall:
    """Cuts the tool call of a streamed reply into small pieces, and ends it where its arguments are no JSON any more.

    Calls beside the first one are dropped, and so are calls of tools that nobody offered.
    LangChain parses the arguments of each piece, and those of the whole, with more and more cut off at the end until
    something can be read: for 200,000 characters that are no JSON it would take minutes.

    Args:
        is_offered: Whether a tool was.
    """

    def __init__(self, *, is_offered: bool) -> None:
        self._is_open = is_offered
        self._is_bound = most_chars.get() is not None
        self._arguments = ""

    def pieces(self, piece: Any) -> Iterator[Any]:
        """A piece of the reply, or several in its place."""
        choices = piece.get("choices") if self._is_bound and isinstance(piece, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if isinstance(delta, dict) and delta.keys() & {"tool_calls", "function_call"}:
            delta.pop("function_call", None)
            calls = self._bounded(delta.pop("tool_calls", None))
            for call in calls[:-1]:
                yield {**piece, "usage": None, "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
            if calls:
                delta["tool_calls"] = calls[-1:]
        yield piece

    def _bounded(self, calls: Any) -> list[Any]:
        call = calls[0] if isinstance(calls, list) and calls else None
        function = call.get("function") if isinstance(call, dict) else None
        bounded: list[Any] = []
        if call is None or not isinstance(function, dict) or call.get("index"):
            return bounded
        text = str(function.get("arguments") or "")
        for start in range(0, len(text) or 1, _SLICE):
            part = text[start : start + _SLICE]
            if not (self._is_open and self._takes(part)):
                break
            first = {**call, "function": {**function, "arguments": part}}
            bounded.append({"index": call.get("index"), "function": {"arguments": part}} if start else first)
        return bounded

    def _takes(self, part: str) -> bool:
        self._arguments += part
        known = arguments_of(self._arguments) if self._arguments.strip() else {}
        # Of an unfinished key, nothing can be read: it must not be most of what there is.
        is_read = isinstance(known, Mapping) and 2 * len(json.dumps(known)) + _SLICE >= len(self._arguments)
        self._is_open = is_read and len(self._arguments) <= _MOST_ARGUMENTS
        return self._is_open


class _BoundedBody(openai_httpx.AsyncByteStream):  # type: ignore[misc]
    def __init__(self, response: Any, unpacker: Any, most: int) -> None:
        self._response = response
        self._below = response.stream
        self._unpacker = unpacker
        self._most = most
        # A stream is read line by line: how much waits for the end of its line is what counts.
        self._is_stream = response.headers.get("content-type", "").startswith("text/event-stream")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        waiting = 0
        async for packed in self._below:
            for piece in self._unpacked(packed):
                end = piece.rfind(b"\n") if self._is_stream else -1
                waiting = len(piece) - end - 1 if end >= 0 else waiting + len(piece)
                if waiting > self._most:
                    self._response.extensions[_IS_CUT] = True
                    yield piece[: max(0, len(piece) - (waiting - self._most))]
                    return
                yield piece

    def _unpacked(self, packed: bytes) -> Iterator[bytes]:
        if self._unpacker is None:
            yield packed
            return
        is_more = True
        while is_more:
            try:
                piece = self._unpacker.decompress(packed, _PIECE)
            except zlib.error as error:
                raise openai_httpx.DecodingError(str(error), request=self._response.request) from error
            yield piece
            packed = self._unpacker.unconsumed_tail
            is_more = bool(packed) or len(piece) == _PIECE

    async def aclose(self) -> None:
        await self._below.aclose()
