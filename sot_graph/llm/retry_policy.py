"""`RetryPolicy`: whether, and when, a call that failed is made again."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from sot_graph.errors import SotError, causes_of, field_of, status_code
from sot_graph.llm.provider_errors import connection_trouble

if TYPE_CHECKING:
    from sot_graph.options import SotOptions

_RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
"""And every status from 500 on, such as 503 and 529."""
_SERVER_ERROR = 500
_RATE_LIMITED = 429
_FIRST_BUSY_WAIT = 1.0
_LONGEST_BUSY_WAIT = 30.0
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 8.0


@dataclass(slots=True)
class RetryPolicy:
    """How long one call goes on trying.

    Args:
        options: For the retries, and the patience with a busy provider.
    """

    options: SotOptions
    _failures: int = 0
    _times_busy: int = 0
    _waited: float = 0.0

    def wait_after(self, error: Exception) -> float | None:
        """Seconds to wait before the next attempt; `None`: give up."""
        if not is_retryable(error):
            return None
        wait = retry_after_seconds(error)
        if status_code(error) == _RATE_LIMITED:
            # The provider is busy, and asking later is what it wants. That is no failure of the call.
            self._times_busy += 1
            if wait is None:
                wait = min(_LONGEST_BUSY_WAIT, _FIRST_BUSY_WAIT * 2.0 ** (self._times_busy - 1))
            wait += min(wait * 0.25, 1.0) * random.random()  # never sooner than it says
        else:
            self._failures += 1
            if self._failures > self.options.max_retries:
                return None
            if wait is None:
                return backoff_seconds(self._failures + 1)
        self._waited += wait
        return wait if self._waited <= self.options.rate_limit_patience else None


def is_retryable(error: BaseException) -> bool:
    """Whether the same call may well succeed a moment later."""
    if isinstance(error, SotError):
        return False
    code = status_code(error)
    if code is None:
        return connection_trouble(error) is not None
    # OpenAI's "insufficient_quota" is a 429 that no waiting mends.
    is_broke = any(field_of(link, "code") == "insufficient_quota" for link in causes_of(error))
    return (code in _RETRYABLE_STATUS or code >= _SERVER_ERROR) and not is_broke


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


def backoff_seconds(attempt: int) -> float:
    """How long to wait before attempt 2, 3, ... where the provider does not say: doubling, jittered."""
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (attempt - 2))
    return longest * random.uniform(0.5, 1.0)
