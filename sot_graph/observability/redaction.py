"""What must not be told: keys, anywhere; and where a trace hides content, the words of errors.

A provider's error goes into traces, logs and checkpoints as it is, and some quote the key or the prompt that they got.
So it is redacted where it comes in, before anybody sees it. Of an error whose words are hidden, its class and its HTTP
status are left.
"""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from langchain_core.runnables import Runnable
from langchain_core.tracers import LangChainTracer
from pydantic import BaseModel, SecretStr

from sot_graph.errors import ERROR_CODES, PHRASES, SotError, error_status, message_of, note_phrases

if TYPE_CHECKING:
    from langchain_core.outputs import LLMResult

GIVEN_UP = "given up: its time was over, or its reply was no longer wanted"
"""What a cancelled call says of itself."""
_DISCREET = "sot_graph_discreet"
"""Marks the tracers that `discreet` has made."""

_MASK = "***"
_SHORTEST_SECRET = 8
"""Shorter ones are placeholders, such as `none`, and words of ordinary messages."""
_LONGEST_TEXT = 8_192
"""Characters of an error's text that are searched. The rest is dropped: nobody reads it, and it may hold a key."""
_CUT = " … (cut off)"
_LONGEST_FORM = 12
"""How many times as long as itself a key is in its longest form: that of JSON's escapes."""
# `sk-` counts where a word begins, also behind `_`: in `task-force` it doesn't.
_KEY = re.compile(r"(?<![^\W_])sk-\S+|(?<=://)[^/@\s]+(?=@)|(?<=key=)[^&\s]+|(?<=token=)[^&\s]+")
_AFTER_BEARER = re.compile(r"(?<=Bearer )\S+")
_HOLDERS = ("args", "message", "strerror", "filename", "filename2")
"""Where errors keep what they say, beside the attributes of each object's own."""
_MOST_VALUES = 1_000
"""Values in an error's data that are searched. The rest is dropped: a body may be a megabyte of commas."""
_DEEPEST = 20
_READ_LATER = frozenset(word for words in ERROR_CODES.values() for word in words)
"""Words that say whether to try again. They are kept where all others are hidden."""
_OF_THE_BYTES = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""Headers that describe the body as it was sent. They aren't true of a redacted one."""
_WRAPPED = ("bound", "runnable", "fallbacks", "default", "alternatives", "steps", "steps__")
"""Where LangChain's runnables hold those that they wrap."""
_KEY_HEADERS = re.compile(r"authorization|cookie|key|token", re.IGNORECASE)


def without_keys(text: str, secrets: Sequence[str] = ()) -> str:
    """A text without these keys, and what stands where keys stand, or begins as OpenAI's do.

    Of a very long text, its beginning.
    """
    forms, cut = _forms(tuple(secrets)), ""
    if len(text) > _LONGEST_TEXT:
        # Half of a key would not be known as one. So the text ends at a space, for most keys have none, or at the
        # beginning of a key that has this space in it: it is looked for in as many more characters as it may have.
        end = max(text.rfind(" ", 0, _LONGEST_TEXT), 0)
        head = text[: end + _LONGEST_FORM * max(map(len, secrets), default=0)]
        end = next((key.start() for key in forms.finditer(head) if key.start() < end < key.end()), end)
        text, cut = text[:end], _CUT
    text = forms.sub(_MASK, text)
    # A word with three asterisks in it is a key that its server has shown half of.
    words = re.sub(r"\S+", lambda word: _MASK if _MASK in word[0] else _KEY.sub(_MASK, word[0]), text)
    return _AFTER_BEARER.sub(_MASK, words) + cut


@lru_cache(maxsize=64)
def _forms(secrets: tuple[str, ...]) -> re.Pattern[str]:
    """Finds keys as they are, in another case, and as a server may write them: in JSON, an address, hex or base64."""
    forms: set[str] = set()
    for secret in secrets:
        data = secret.encode("utf-8", "surrogatepass")
        forms |= {secret, json.dumps(secret)[1:-1], quote(data, safe=""), data.hex()}
        # Base64 writes 6 bits a character, so what stands before a key shifts it by 0, 1 or 2 bytes. The characters at
        # both ends hold bits of its neighbours, too: they are left out of the form.
        for before in range(3):
            first_own = (before * 8 + 5) // 6
            for encode in (b64encode, urlsafe_b64encode):
                text = encode(bytes(before) + data).decode().rstrip("=")
                forms.add(text[first_own:-1])
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)", re.IGNORECASE)


def secrets_of(model: Runnable[Any, Any]) -> tuple[str, ...]:
    """A model's keys: what its class declares as a secret, and its headers that hold one.

    Those of what it wraps are among them: by `bind`, `with_retry`, `with_fallbacks`, `configurable_alternatives`, `|`.
    """
    found: list[Any] = []
    done: list[object] = []
    todo = [model]
    while todo:
        part = todo.pop()
        if any(part is known for known in done):
            continue
        done.append(part)
        for name in type(part).model_fields if isinstance(part, BaseModel) else ():
            value = getattr(part, name, None)
            if isinstance(value, SecretStr):
                found.append(value.get_secret_value())
            elif isinstance(value, Mapping):
                found += [inner for key, inner in value.items() if _KEY_HEADERS.search(str(key))]
        for name in _WRAPPED:
            inner = getattr(part, name, None)
            if isinstance(inner, Mapping):
                inner = list(inner.values())
            wrapped = inner if isinstance(inner, list | tuple) else [inner]
            todo += [each for each in wrapped if isinstance(each, Runnable)]
    return tuple(dict.fromkeys(text for text in found if isinstance(text, str) and len(text) >= _SHORTEST_SECRET))


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes out of what comes back from a failed call what must not be told.

    Args:
        secrets: The model's keys.
        hides_content: Whether a trace hides content: then nothing that the error says is left.
    """

    secrets: Sequence[str] = field(default=(), repr=False)
    hides_content: bool = False

    def text(self, text: str) -> str:
        """A text with `***` for every key; where content is hidden, `***` alone."""
        if self.hides_content:
            return _MASK
        return without_keys(text, self.secrets)

    def redact_error(self, error: BaseException) -> None:
        """Redact an error and what caused it, in place: the same object is what every log and trace renders."""
        for link in _all_in(error):
            if isinstance(link, SotError) or _is_given_up(link):
                continue  # what the library says itself is made of what is redacted already
            if self.hides_content:
                note_phrases(link)
            for name in {*_HOLDERS, *getattr(link, "__dict__", ())} - {"response", "request"}:
                with suppress(Exception):  # an error of whoever's class: it may let nobody read or change it
                    value = getattr(link, name, None)
                    clean = self._clean_words(link, value) if name in {"args", "message"} else self._clean_data(value)
                    if clean != value:
                        setattr(link, name, clean)
            with suppress(Exception):
                self._clean_response(link)

    def redact_failure(self, error: BaseException, response: LLMResult | None = None) -> None:
        """Redact a call's error, and what had come of its reply, in place."""
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)) and not error.args:
            error.args = (GIVEN_UP,)
        self.redact_error(error)
        self.redact_reply(response)

    def redact_reply(self, response: LLMResult | None) -> None:
        """Redact what LangChain keeps of a response's body and headers, in place."""
        for message in messages_of(response):
            message.response_metadata = self._clean_data(message.response_metadata)

    def _clean_data(self, value: Any) -> Any:
        """JSON-like data, with every text of it redacted; of very much, its beginning."""
        left = _MOST_VALUES

        def clean(value: Any, depth: int = 0) -> Any:
            nonlocal left
            left -= 1
            if isinstance(value, str):
                return value if value.casefold() in _READ_LATER else self.text(value)
            if not isinstance(value, (Mapping, list, tuple)):
                return value
            if depth > _DEEPEST or left <= 0:
                return _CUT
            if isinstance(value, Mapping):
                data = dict(clean_entry(name, inner, depth) for name, inner in islice(value.items(), max(left, 0)))
                return value if data == dict(value) else data  # its own class may find names in any case
            items = [clean(inner, depth + 1) for inner in islice(value, max(left, 0))]
            make = getattr(value, "_make", type(value))  # of a named tuple, such as what aiohttp tells of a request
            return make(items) if isinstance(value, tuple) else items

        def clean_entry(name: Any, inner: Any, depth: int) -> tuple[Any, Any]:
            # Where content is hidden, names stay but for keys: they say what was hidden.
            shown = without_keys(name, self.secrets) if isinstance(name, str) else name
            return shown, _MASK if "cookie" in str(name).lower() else clean(inner, depth + 1)

        return clean(value)

    def _clean_words(self, link: BaseException, value: Any) -> Any:
        """What an error says. Where that is hidden, its HTTP status takes its place."""
        if isinstance(value, tuple):
            return tuple(self._clean_words(link, each) for each in value)
        if not self.hides_content:
            return self._clean_data(value)
        return value if value is None or isinstance(value, (int, float)) else _hidden_words(link)

    def _clean_response(self, error: Any) -> None:
        """The HTTP response that an error holds: LangChain copies it into the run around the call, too."""
        response = error.response
        body, headers = response.text, dict(response.headers)
        clean_body = self.text(body)
        if self.hides_content:  # how long to wait before the next try is all that is read later
            clean_headers = {name: value for name, value in headers.items() if name.startswith("retry-after")}
        else:
            clean_headers = self._clean_data(headers)
        if (clean_body, clean_headers) == (body, headers):
            return
        told = {name: value for name, value in clean_headers.items() if name not in _OF_THE_BYTES}
        error.response = type(response)(
            response.status_code, headers=told, content=clean_body.encode(), request=response.request
        )


def _all_in(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, what was being handled then, and the members of groups."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        todo += [link.__context__, link.__cause__]
        if isinstance(link, BaseExceptionGroup):
            todo += link.exceptions


def messages_of(response: LLMResult | None) -> list[Any]:
    """The messages in what has come of a call."""
    alternatives = response.generations if response is not None else []
    return [each.message for generations in alternatives for each in generations if hasattr(each, "message")]


def is_hidden(text: str) -> bool:
    """Whether these are the words of an error whose words are hidden."""
    return text == _MASK or text.startswith(f"{_MASK} (HTTP ")


def _hidden_words(error: BaseException) -> str:
    # They quote nothing, and without them `explain` would not know an empty reply from a failure.
    if (said := PHRASES["empty reply"].search(message_of(error))) is not None:
        return said[0].lower()
    code = error_status(error)
    return _MASK if code is None else f"{_MASK} (HTTP {code})"


def _is_given_up(error: BaseException) -> bool:
    """Whether its words, if any, are ours."""
    return isinstance(error, (asyncio.CancelledError, GeneratorExit)) and error.args in {(), (GIVEN_UP,)}


def discreet(tracer: Any) -> Any:
    """A tracer of the same runs, which tells of an error its class and its HTTP status, and nothing that it quotes.

    LangChain writes an error's text and its whole traceback into a run, past the client's own hiding. Not every error
    can be redacted in place: Pydantic's, for one, quote their input for ever.
    """
    if not isinstance(tracer, LangChainTracer) or hasattr(tracer, _DISCREET):
        return tracer
    quiet = tracer.copy_with_metadata_defaults()
    for event in ("on_llm_error", "on_chain_error", "on_tool_error", "on_retriever_error"):
        setattr(quiet, event, partial(_with_reduced_error, getattr(quiet, event)))

    def copy_with_metadata_defaults(**defaults: Any) -> Any:
        return discreet(type(quiet).copy_with_metadata_defaults(quiet, **defaults))

    # LangChain copies tracers by this method, and a copy has to be discreet, too.
    quiet.copy_with_metadata_defaults = copy_with_metadata_defaults  # type: ignore[method-assign]
    setattr(quiet, _DISCREET, True)
    return quiet


def _with_reduced_error(tell: Callable[..., Any], error: BaseException, **kwargs: Any) -> Any:
    """Tell a tracer of an error that has nothing of this one but its class and its status."""
    # The body of the provider's reply may quote the prompt.
    Redactor(hides_content=True).redact_reply(kwargs.get("response"))
    if not _is_given_up(error):
        kind: type[Exception] = type(type(error).__name__, (Exception,), {"__module__": "builtins"})
        error = kind(_hidden_words(error))
    return tell(error, **kwargs)
