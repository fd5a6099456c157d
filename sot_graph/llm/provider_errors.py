"""What went wrong on the way to a model: what it means for the call, and how to say it in one line."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from langchain_core.exceptions import (
    ModelAPIError,
    ModelAuthenticationError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
)

from sot_graph.errors import (
    ERROR_CODES,
    STATUS_IN_MESSAGE,
    UNPAID,
    ErrorMeaning,
    SotConfigError,
    SotError,
    causes_of,
    error_bodies,
    error_status,
    field_of,
    mentions,
    message_of,
)
from sot_graph.observability.redaction import is_hidden, without_keys
from sot_graph.prompts.messages import clean_text

_LONGEST_MESSAGE = 300
_STATUSES: Mapping[ErrorMeaning, frozenset[int]] = {
    "busy": frozenset({429, 498, 503, 529}),  # 498: Groq's "flex tier capacity exceeded"
    "callers": frozenset({401, 402, 403, 404}),
    "transient": frozenset({408, 409, 425}),  # and what else there is from 500 on
    "final": frozenset({501, 505}),
}
_CLASSES: Mapping[ErrorMeaning, tuple[type[BaseException], ...]] = {
    "callers": (ModelAuthenticationError, ModelPermissionDeniedError, ModelNotFoundError),
    "busy": (ModelRateLimitError,),
    "transient": (ModelAPIError,),
}
"""LangChain's own, which its packages raise. Lost connections and time limits are known by name."""
RETRYABLE: frozenset[ErrorMeaning] = frozenset({"busy", "transient"})
# By name, for errors of clients that need not be installed.
_LOST_CONNECTIONS = frozenset(
    {
        *("TransportError", "APIConnectionError", "IncompleteRead", "ClientConnectionError", "ModelConnectionError"),
        *("ConnectionError", "HTTPClientError", "ResponseStreamingError", "ServerDisconnectedError"),
    }
)
_TIMEOUTS = frozenset(
    {"APITimeoutError", "TimeoutException", "ModelTimeoutError", "ReadTimeoutError", "ConnectTimeoutError"}
)
_NO_CREDENTIALS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "NoRegionError", "DefaultCredentialsError", "TokenRetrievalError"}
)
_FAILS_ON_FORMS = frozenset({500, 501})
_REFUSES_FORMS = frozenset({400, 403, 404, 405, 415, 422})

# A long word of letters and digits, as keys of all kinds are; dates and names of models don't look like it.
_LONG_TOKEN = re.compile(r"(?<![\w/.-])(?=[\w.-]*\d)(?=[\w.-]*[A-Za-z])[\w-]{32,}(?![\w/])")


def connection_trouble(error: BaseException) -> Literal["silent", "lost"] | None:
    """Whether the model went silent, or the connection could not be had or broke; `None`: it is something else.

    The innermost cause decides: the OpenAI client's aiohttp adapter calls a refused connection a timeout.
    """
    for link in reversed(list(causes_of(error))):
        if isinstance(link, SotError):
            continue
        names = {base.__name__ for base in type(link).__mro__}
        if isinstance(link, TimeoutError) or names & _TIMEOUTS:
            return "silent"
        if isinstance(link, ConnectionError) or names & _LOST_CONNECTIONS:
            return "lost"
    return None


def meaning_of(error: BaseException) -> ErrorMeaning:
    """What an error means for the call, by what it carries, whoever's class it is."""
    if isinstance(error, SotError):
        return "callers" if isinstance(error, SotConfigError) else "final"
    codes = frozenset(_codes_in(error))
    named = next((meaning for meaning, known in ERROR_CODES.items() if codes.intersection(known)), None)
    named = "callers" if _has_bad_header(error) or _is_unpaid(error) else named
    code = error_status(error)
    if named is not None and not (named == "transient" and code in _STATUSES["busy"]):
        return named
    if code is not None:
        fitting = (meaning for meaning, statuses in _STATUSES.items() if code in statuses)
        return next(fitting, "transient" if code >= HTTPStatus.INTERNAL_SERVER_ERROR else "final")
    for meaning, classes in _CLASSES.items():
        if any(isinstance(link, classes) for link in causes_of(error)):
            return meaning
    if any(type(link).__name__ in _NO_CREDENTIALS for link in causes_of(error)) or mentions(error, "no key"):
        return "callers"
    is_empty = isinstance(error, IndexError) or mentions(error, "empty reply")
    # Ollama's client gives a status of -1 where there was none.
    is_unsent = any(field_of(link, "status_code") == -1 for link in causes_of(error))
    return "transient" if connection_trouble(error) is not None or is_empty or is_unsent else "final"


def advice(error: BaseException) -> str:
    """What to look at, as the end of a message; empty where nothing is known to help."""
    meaning = meaning_of(error)
    if meaning == "busy":
        return " It was busy for longer than calls wait: SotOptions(rate_limit_patience=...) has them wait longer."
    if meaning == "callers":
        if _is_unpaid(error):
            return " Check the account's credit and its limits."
        is_unnamed = error_status(error) == HTTPStatus.NOT_FOUND and "model" not in explain(error)
        return f" Check the key, the model's name and the base URL{', which mostly ends in /v1' if is_unnamed else ''}."
    is_lost = meaning in RETRYABLE
    return f" Check that the endpoint is up and that the base URL is right{_tried(error)}" if is_lost else ""


def _tried(error: BaseException) -> str:
    """Where a lost call went, and whose proxy stands in between, as far as the error and the environment tell."""
    if connection_trouble(error) is None:
        return "."
    urls = (field_of(field_of(link, "request"), "url") for link in causes_of(error))
    url = urlsplit(next((str(url) for url in urls if url), ""))
    host = url.netloc.rpartition("@")[2]  # without a name and a password
    said = f": {url.scheme}://{host}{url.path.removesuffix('/chat/completions')}." if host else "."
    wanted = {f"{url.scheme or 'https'}_proxy", "all_proxy", "openai_proxy"}
    proxies = [name for name, value in os.environ.items() if value and name.lower() in wanted]
    if not proxies or (url.hostname and proxy_bypass(url.hostname)):
        return said
    return f"{said} A proxy is set by {' and '.join(proxies)}: it has to be up, too, or NO_PROXY has to name the host."


def _is_unpaid(error: BaseException) -> bool:
    is_named = mentions(error, "unpaid") or not set(UNPAID).isdisjoint(_codes_in(error))
    return is_named or error_status(error) == HTTPStatus.PAYMENT_REQUIRED


def _has_bad_header(error: BaseException) -> bool:
    """Whether a header could not be sent. Of an `expander` a `UnicodeEncodeError` may be about anything else."""
    unsent = [str(link.object) for link in causes_of(error) if isinstance(link, UnicodeEncodeError)]
    is_headers = any(text.startswith("Bearer ") for text in unsent) or connection_trouble(error) == "lost"
    return mentions(error, "bad header") or (is_headers and bool(unsent))


def refuses_form(error: BaseException) -> bool:
    """Whether a provider may have refused a request for its form, a schema or a tool, and not for its key or name.

    Some say so with a 404 ("no endpoints support response_format"), some break: a 500 that stays is worth a request
    of another form.
    """
    code = error_status(error)
    if code in _FAILS_ON_FORMS or (code is None and mentions(error, "malformed call")):
        return True
    return code in _REFUSES_FORMS and mentions(error, "refuses forms")


def refuses_system(error: BaseException) -> bool:
    """Whether a model takes no system messages."""
    return error_status(error) in _REFUSES_FORMS | {500} and mentions(error, "refuses system")


def _codes_in(error: BaseException) -> Iterator[str]:
    """The names that a provider has for an error, in its data."""
    for link in causes_of(error):
        for name in ("code", "status", "type"):
            word = field_of(link, name)
            if isinstance(word, str):
                yield word.casefold()
        for body in error_bodies(link):
            details = body.get("details")
            for part in (body, *(details if isinstance(details, list) else ())):
                for name in ("type", "code", "status", "reason", "Code"):
                    word = part.get(name) if isinstance(part, Mapping) else None
                    if isinstance(word, str):
                        yield word.casefold()


def explain(error: BaseException) -> str:
    """An error in one readable line, without a traceback and without what looks like a key."""
    if not isinstance(error, SotError) and _has_bad_header(error):
        return "the key, or another header, holds a line break or a character that no key has"
    code = error_status(error)
    trouble = connection_trouble(error) if code is None else None
    if trouble == "silent":
        return "the model did not answer in time"
    if trouble == "lost":
        links = list(causes_of(error))
        last = type(links[-1]).__name__
        why = _one_line(_shown_message(links[-1]) or last)
        if any(type(link).__name__ == "ClientPayloadError" for link in links):  # aiohttp says it in a parser's words
            why = "its reply broke off"
        return why if last == "UnfinishedReplyError" else f"the model could not be reached ({why})"
    if any(isinstance(link, json.JSONDecodeError) for link in causes_of(error)):
        return "the reply is not JSON, so this may be no endpoint of this model"
    if isinstance(error, IndexError):
        return "there is nothing in the reply"  # its list of choices is empty
    shown = _shown_message(error)
    bare = re.sub(r"(?<!\.)\.\0\.(?!\.)", ".", STATUS_IN_MESSAGE.sub("\0", shown)).replace("\0", "")
    said = _provider_message(error) or bare
    text = _one_line(said) or type(error).__name__
    return f"{text} (HTTP {code})" if code is not None and code >= HTTPStatus.BAD_REQUEST else text


def _shown_message(error: BaseException) -> str:
    """An error's message, as a reader may see it; nothing, if it is hidden."""
    message = message_of(error)
    return "" if is_hidden(message) else message


def _provider_message(error: BaseException) -> str | None:
    """The message in what a provider says as data, be it an attribute of the error or a part of its text."""
    for link in causes_of(error):
        for data in (*error_bodies(link), _data_in(_shown_message(link)), field_of(link, "body")):
            message = _message_in(data)
            if message is not None and not is_hidden(message):
                return message
    return None


def _message_in(data: Any) -> str | None:
    inner = data.get("error", data.get("Error", data)) if isinstance(data, Mapping) else data
    if isinstance(inner, Mapping):
        named = (inner.get(name) for name in ("message", "Message", "detail", "msg"))
        inner = next((message for message in named if isinstance(message, str)), None)
    return inner if isinstance(inner, str) and inner.strip() else None


def _data_in(text: str) -> Any:
    """The data that a text ends with, as JSON or as Python writes it: clients like to append a response's body."""
    start = text.find("{")
    if start < 0:
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text[start:].strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return None


def _one_line(text: str) -> str:
    text = clean_text(text[: 4 * _LONGEST_MESSAGE])  # the patterns take quadratic time on a long word
    text = "".join(char if char.isprintable() else " " for char in text)  # nothing turns the line that it is shown in
    line = without_keys(" ".join(_LONG_TOKEN.sub("***", word) for word in text.split()))
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"
