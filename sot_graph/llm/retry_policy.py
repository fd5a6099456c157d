"""`RetryPolicy`: whether, and when, a call that failed is made again."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from sot_graph.errors import causes_of, field_of
from sot_graph.llm.provider_errors import meaning_of

if TYPE_CHECKING:
    from sot_graph.options import SotOptions

_FIRST_BUSY_WAIT = 1.0
_SHORTEST_BUSY_WAIT = 0.1
"""The shortest wait for a busy provider, in seconds, doubled each time: `Retry-After` may be 0, or in the past."""
_LONGEST_BUSY_WAIT = 30.0
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 8.0


@dataclass(slots=True)
class RetryPolicy:
    """How long one call goes on trying. LangGraph has a class of this name, too, for nodes.

    Args:
        options: For the retries, and the patience with a busy provider.
    """

    options: SotOptions
    _failures: int = 0
    _times_busy: int = 0
    _waited: float = 0.0

    def wait_after(self, error: BaseException, *, broke_off: bool = False) -> float | None:
        """Seconds to wait before the next attempt; `None`: give up.

        Whatever ends a reply that `broke_off` halfway may pass. Unless the provider is busy, the first wait is none.
        """
        meaning = meaning_of(error)
        if broke_off and meaning != "busy":
            meaning = "transient"
        if meaning not in {"busy", "transient"}:
            return None
        wait = retry_after_seconds(error)
        if meaning == "busy":
            # The provider asks to be asked later. `max_retries` doesn't count these attempts: the time bounds them.
            self._times_busy += 1
            doubled = 2.0 ** min(self._times_busy - 1, 16)
            is_told = wait is not None
            wait = min(_LONGEST_BUSY_WAIT, _FIRST_BUSY_WAIT * doubled) if wait is None else wait
            wait = max(wait, min(_LONGEST_BUSY_WAIT, _SHORTEST_BUSY_WAIT * doubled))
            wait += min(wait * 0.25, 1.0) * random.random()  # never sooner than it says
            left = self.options.rate_limit_patience - self._waited
            if not is_told and left >= _FIRST_BUSY_WAIT:  # the last attempt is made when the time is over
                wait = min(wait, left)
        else:
            self._failures += 1
            if self._failures > self.options.max_retries:
                return None
            backoff = 0.0 if broke_off and self._failures == 1 else backoff_seconds(self._failures + 1)
            if wait is None:
                return backoff
            wait = max(wait, backoff)
        self._waited += wait
        return wait if self._waited <= self.options.rate_limit_patience else None


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
