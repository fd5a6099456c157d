"""What went wrong on the way to a model: whether trying again can help, when, and how to say it in one line."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from sot_graph.errors import SotConfigError, SotError, causes_of, field_of, status_code
from sot_graph.observability.redaction import is_hidden, without_keys
from sot_graph.prompts.messages import clean_text

__all__ = [
    "backoff_seconds",
    "explain",
    "is_callers_to_fix",
    "is_rate_limited",
    "is_retryable",
    "rate_limit_seconds",
    "retry_after_seconds",
]

_RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
"""Beside all from 500 on."""
_CLIENT_ERROR = 400
_SERVER_ERROR = 500
_CALLERS_STATUS = frozenset({401, 403, 404})
_RATE_LIMITED = 429
_FIRST_BUSY_WAIT = 1.0
_LONGEST_BUSY_WAIT = 30.0
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 8.0
_LONGEST_MESSAGE = 300
_LOST_CONNECTIONS = frozenset({"TransportError", "APIConnectionError", "IncompleteRead", "ClientConnectionError"})
_BROKEN_REPLIES = frozenset({"ClientPayloadError"})
_TIMEOUTS = frozenset({"APITimeoutError", "TimeoutException"})

# A long word of letters and digits, as keys of all kinds are; dates and names of models don't look like it.
_LONG_TOKEN = re.compile(r"(?<![\w/.-])(?=[\w.-]*\d)(?=[\w.-]*[A-Za-z])[\w-]{32,}(?![\w/])")


def _said(error: BaseException) -> str:
    """What an error says; nothing, if its class can't, or if that is hidden."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001
        return ""
    return "" if is_hidden(said) else said


def _connection_trouble(error: BaseException) -> Literal["silent", "lost"] | None:
    """Whether the model went silent, or the connection could not be had or broke; `None`: it is something else.

    The innermost cause decides: the OpenAI client's aiohttp adapter calls a refused connection a timeout.
    """
    for link in reversed(list(causes_of(error))):
        if isinstance(link, TimeoutError) or _is_a(link, _TIMEOUTS):
            return "silent"
        if isinstance(link, ConnectionError) or _is_a(link, _LOST_CONNECTIONS):
            return "lost"
    return None


def _is_a(error: BaseException, names: frozenset[str]) -> bool:
    """By name, for errors of clients that need not be installed."""
    return any(base.__name__ in names for base in type(error).__mro__)


def is_retryable(error: BaseException) -> bool:
    """Whether the same call may well succeed a moment later."""
    if isinstance(error, SotError):
        return False
    code = status_code(error)
    if code is not None:
        # OpenAI's "insufficient_quota" is a 429 that no waiting mends.
        is_broke = any(field_of(link, "code") == "insufficient_quota" for link in causes_of(error))
        return (code in _RETRYABLE_STATUS or code >= _SERVER_ERROR) and not is_broke
    return _connection_trouble(error) is not None


def is_callers_to_fix(error: BaseException) -> bool:
    """Whether the provider refused the key, the rights, or the model's name."""
    return isinstance(error, SotConfigError) or status_code(error) in _CALLERS_STATUS


def retry_after_seconds(error: BaseException) -> float | None:
    """The wait that the provider asked for (`retry-after-ms`, `Retry-After`, which may be a date), in seconds."""
    for link in causes_of(error):
        headers = field_of(field_of(link, "response"), "headers")
        if not isinstance(headers, Mapping):
            continue
        for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            wait = _seconds(headers.get(name))
            if wait is not None:
                return wait * scale
    return None


def _seconds(value: object) -> float | None:
    """A header's number, or the seconds until its date; `None` for anything else."""
    if not isinstance(value, str):
        return None
    try:
        number = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            return max(0.0, (date - datetime.now(UTC)).total_seconds())
        except (ValueError, OverflowError):
            return None
    return number if number >= 0 and math.isfinite(number) else None


def is_rate_limited(error: BaseException) -> bool:
    """Whether the provider is busy and says so: asking later is what it wants."""
    return status_code(error) == _RATE_LIMITED and is_retryable(error)


def rate_limit_seconds(error: BaseException, attempt: int) -> float:
    """How long to wait before asking a busy provider again: what it says, else doubling; jittered upwards only."""
    wait = retry_after_seconds(error)
    if wait is None:
        wait = min(_LONGEST_BUSY_WAIT, _FIRST_BUSY_WAIT * 2.0 ** (attempt - 1))
    return wait + min(wait * 0.25, 1.0) * random.random()


def backoff_seconds(attempt: int) -> float:
    """How long to wait before attempt 2, 3, ... where the provider does not say: doubling, jittered."""
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (attempt - 2))
    return longest * random.uniform(0.5, 1.0)


def explain(error: BaseException) -> str:
    """An error in one readable line, without a traceback and without what looks like a key."""
    code = status_code(error)
    trouble = _connection_trouble(error) if code is None else None
    if trouble == "silent":
        return "the model did not answer in time"
    if trouble == "lost":
        links = list(causes_of(error))
        if any(_is_a(link, _BROKEN_REPLIES) for link in links):  # what aiohttp says of them are a parser's own words
            return "the model could not be reached (its reply broke off)"
        return f"the model could not be reached ({_one_line(_said(links[-1]) or type(links[-1]).__name__)})"
    if any(isinstance(link, json.JSONDecodeError) for link in causes_of(error)):
        return "the reply is not JSON, so this may be no OpenAI-compatible endpoint"
    text = _one_line(_provider_message(error) or _said(error)) or type(error).__name__
    return f"{text} (HTTP {code})" if code is not None and code >= _CLIENT_ERROR else text


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
    line = without_keys(" ".join(_LONG_TOKEN.sub("***", word) for word in text.split()))
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"
