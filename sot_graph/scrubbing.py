"""Errors without keys, and, where a trace hides content, without what they quote of a prompt.

A provider's error goes into traces, logs and checkpoints as it is, and some quote the key or the prompt that they got.
So it is cleaned where it comes in, before anybody sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from pydantic import BaseModel, SecretStr

from sot_graph.errors import causes_of

if TYPE_CHECKING:
    from langchain_core.outputs import LLMResult

__all__ = ["Scrubber", "secrets_of", "without_keys"]

_MASK = "***"
_SHORTEST_SECRET = 8
"""Shorter ones are placeholders, such as `none`, and words of ordinary messages."""
_LONGEST_WORD = 2_000
"""The patterns take quadratic time on a long word."""
_KEY = re.compile(
    r"(?<![^\W_])sk-\S+"
    r"|\S*\*{3}\S*"  # a key that its server has shown half of
    r"|(?<=://)[^/@\s]+(?=@)"
    r"|(?<=key=)[^&\s]+|(?<=token=)[^&\s]+"
)
_AFTER_BEARER = re.compile(r"(?<=Bearer )\S+")
_WORD = re.compile(r"[^\W_]+")
_SHORTEST_CONTENT = 4
"""A word of what was asked, or its beginning, says something from so many letters on."""
_SHORTEST_QUOTE = 6
_SHORTEST_UNSPACED_QUOTE = 4
_CONTENT = frozenset(
    {
        *("question", "asked", "messages", "history", "review_comment", "given_skeleton", "given_expansions"),
        *("skeleton", "point", "needed", "expansions", "title", "text", "content", "answer"),
    }
)
"""Where a node's input holds what was asked and written."""
_HOLDERS = ("args", "message", "body", "__notes__", "filename", "filename2")
"""Where errors, of Python's own, of OpenAI's client and of others, keep what they say."""
_OF_THE_BYTES = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""Headers of a response's body as it was sent."""
_WRAPPED = ("bound", "runnable", "fallbacks", "default", "alternatives", "steps", "steps__")
"""Where LangChain's runnables hold those that they wrap."""
_KEY_HEADERS = re.compile(r"authorization|cookie|key|token", re.IGNORECASE)


def without_keys(text: str) -> str:
    """A text without what stands where keys stand, or begins as OpenAI's do."""
    words = re.sub(rf"\S{{1,{_LONGEST_WORD}}}", lambda word: _KEY.sub(_MASK, word[0]), text)
    return _AFTER_BEARER.sub(_MASK, words)


def secrets_of(model: Runnable[Any, Any]) -> tuple[str, ...]:
    """A model's keys: what its class declares as a secret, and its headers that hold one."""
    found: list[Any] = []
    for part in _parts_of(model):
        for name in type(part).model_fields if isinstance(part, BaseModel) else ():
            value = getattr(part, name, None)
            if isinstance(value, SecretStr):
                found.append(value.get_secret_value())
            elif isinstance(value, Mapping):
                found += [inner for key, inner in value.items() if _KEY_HEADERS.search(str(key))]
    return tuple(dict.fromkeys(text for text in found if isinstance(text, str) and len(text) >= _SHORTEST_SECRET))


def _parts_of(model: object) -> list[object]:
    """A model and what it wraps: by `bind`, `with_retry`, `with_fallbacks`, `configurable_alternatives`, `|`."""
    parts: list[object] = []
    todo = [model]
    while todo:
        part = todo.pop()
        if any(part is known for known in parts):
            continue
        parts.append(part)
        for name in _WRAPPED:
            inner = getattr(part, name, None) if isinstance(part, Runnable) else None
            if isinstance(inner, Runnable):
                todo.append(inner)
            elif isinstance(inner, Mapping):
                todo += [each for each in inner.values() if isinstance(each, Runnable)]
            elif isinstance(inner, Sequence) and not isinstance(inner, str):
                todo += [each for each in inner if isinstance(each, Runnable)]
    return parts


class Scrubber:
    """Cleans what comes back from a failed call.

    Args:
        secrets: The model's keys.
        prompt: What was sent, where nothing may be quoted of it. Two words of it in a row are a quote.
        content: What was asked and written, such as a node's input, where nothing may be quoted of it. One word of it,
            or its beginning, is a quote: it may be the whole of a title.
    """

    def __init__(self, secrets: Iterable[str], prompt: str | None = None, content: Any = None) -> None:
        self._secrets = tuple(secrets)
        self._prompt = _words_of([prompt or ""])
        self._content = _words_of(_texts_of(content))
        self._sent = self._prompt + self._content

    def text(self, text: str) -> str:
        """A text with every key, and every quote, as `***`."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return without_keys(self._without_quotes(text))

    def data(self, value: Any) -> Any:
        """The same for JSON-like data, all through."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: _MASK if _is_cookie(key) else self.data(inner) for key, inner in value.items()}
        return type(value)(map(self.data, value)) if type(value) in {list, tuple} else value

    def error(self, error: BaseException) -> None:
        """Clean an error and what caused it, in place: the same object is what every log and trace renders."""
        for link in causes_of(error):
            for name in _HOLDERS:
                with suppress(Exception):  # an error of whoever's class: it may let nobody read or change it
                    value = getattr(link, name, None)
                    clean = self.data(value)
                    if clean != value:
                        setattr(link, name, clean)
            with suppress(Exception):
                self._response(link)

    def _response(self, error: Any) -> None:
        """Clean the HTTP response that an error holds: LangChain copies it into the run around the call, too."""
        response = error.response
        body, headers = response.text, dict(response.headers)
        clean_body, clean_headers = self.text(body), self.data(headers)
        if (clean_body, clean_headers) == (body, headers):
            return
        told = {name: value for name, value in clean_headers.items() if name not in _OF_THE_BYTES}
        error.response = type(response)(
            response.status_code, headers=told, content=clean_body.encode(), request=response.request
        )

    def failure(self, error: BaseException, response: LLMResult | None) -> None:
        """Clean an error, and the body and headers that LangChain keeps of its response, in place."""
        self.error(error)
        for generations in response.generations if response is not None else ():
            for generation in generations:
                message = getattr(generation, "message", None)
                if message is not None:
                    message.response_metadata = self.data(message.response_metadata)

    def _without_quotes(self, text: str) -> str:
        if not self._sent:
            return text
        words = list(_WORD.finditer(text))
        quoted = [False] * len(words)
        for position, word in enumerate(words):
            here = word[0].casefold()
            if not here.isascii() and len(here) >= _SHORTEST_UNSPACED_QUOTE and here in self._sent:
                quoted[position] = True
            if len(here) >= _SHORTEST_CONTENT and f" {here}" in self._content:
                quoted[position] = True
            pair = f"{words[position - 1][0].casefold()} {here}" if position else ""
            if len(pair) >= _SHORTEST_QUOTE and f" {pair} " in self._prompt:
                quoted[position - 1] = quoted[position] = True
        pieces: list[str] = []
        end = 0
        for position, word in enumerate(words):
            if not quoted[position]:
                continue
            if not (position and quoted[position - 1]):
                pieces += [text[end : word.start()], _MASK]
            end = word.end()
        return "".join([*pieces, text[end:]])


def _words_of(texts: Iterable[str]) -> str:
    """All words, each between spaces; nothing where there are none."""
    words = [word for text in texts for word in _WORD.findall(text.casefold())]
    return f" {' '.join(words)} " if words else ""


def _texts_of(value: Any) -> Iterator[str]:
    """The texts in a node's input."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseMessage):
        yield str(value.text)
    elif isinstance(value, Mapping):
        for key in _CONTENT & value.keys():
            yield from _texts_of(value[key])
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts_of(inner)


def _is_cookie(key: object) -> bool:
    return isinstance(key, str) and "cookie" in key.lower()
