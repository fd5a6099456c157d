"""What went wrong on the way to a model, and how to say it in one line."""

from __future__ import annotations

import json
import re
from typing import Literal

from sot_graph.errors import SotConfigError, causes_of, field_of, status_code
from sot_graph.observability.redaction import is_hidden, without_keys
from sot_graph.prompts.messages import clean_text

_CLIENT_ERROR = 400
_CALLERS_STATUS = frozenset({401, 403, 404})
_LONGEST_MESSAGE = 300
# By name, for errors of clients that need not be installed.
_LOST_CONNECTIONS = frozenset({"TransportError", "APIConnectionError", "IncompleteRead", "ClientConnectionError"})
_TIMEOUTS = frozenset({"APITimeoutError", "TimeoutException"})

# A long word of letters and digits, as keys of all kinds are; dates and names of models don't look like it.
_LONG_TOKEN = re.compile(r"(?<![\w/.-])(?=[\w.-]*\d)(?=[\w.-]*[A-Za-z])[\w-]{32,}(?![\w/])")


def connection_trouble(error: BaseException) -> Literal["silent", "lost"] | None:
    """Whether the model went silent, or the connection could not be had or broke; `None`: it is something else.

    The innermost cause decides: the OpenAI client's aiohttp adapter calls a refused connection a timeout.
    """
    for link in reversed(list(causes_of(error))):
        names = {base.__name__ for base in type(link).__mro__}
        if isinstance(link, TimeoutError) or names & _TIMEOUTS:
            return "silent"
        if isinstance(link, ConnectionError) or names & _LOST_CONNECTIONS:
            return "lost"
    return None


def is_callers_to_fix(error: BaseException) -> bool:
    """Whether the provider refused the key, the rights, or the model's name."""
    return isinstance(error, SotConfigError) or status_code(error) in _CALLERS_STATUS


def explain(error: BaseException) -> str:
    """An error in one readable line, without a traceback and without what looks like a key."""
    code = status_code(error)
    trouble = connection_trouble(error) if code is None else None
    if trouble == "silent":
        return "the model did not answer in time"
    if trouble == "lost":
        links = list(causes_of(error))
        if any(type(link).__name__ == "ClientPayloadError" for link in links):  # aiohttp says it in a parser's words
            return "the model could not be reached (its reply broke off)"
        return f"the model could not be reached ({_one_line(_said(links[-1]) or type(links[-1]).__name__)})"
    if any(isinstance(link, json.JSONDecodeError) for link in causes_of(error)):
        return "the reply is not JSON, so this may be no OpenAI-compatible endpoint"
    text = _one_line(_provider_message(error) or _said(error)) or type(error).__name__
    return f"{text} (HTTP {code})" if code is not None and code >= _CLIENT_ERROR else text


def _said(error: BaseException) -> str:
    """What an error says; nothing, if its class can't, or if that is hidden."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001
        return ""
    return "" if is_hidden(said) else said


def _provider_message(error: BaseException) -> str | None:
    """The `message` of an OpenAI-shaped error body."""
    for link in causes_of(error):
        body = field_of(link, "body")
        if isinstance(body, dict):
            inner = body.get("error", body)
            message = inner.get("message") if isinstance(inner, dict) else inner
            if isinstance(message, str) and not is_hidden(message):
                return message
    return None


def _one_line(text: str) -> str:
    text = clean_text(text[: 4 * _LONGEST_MESSAGE])  # the patterns take quadratic time on a long word
    text = "".join(char if char.isprintable() else " " for char in text)  # nothing turns the line that it is shown in
    line = without_keys(" ".join(_LONG_TOKEN.sub("***", word) for word in text.split()))
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"
