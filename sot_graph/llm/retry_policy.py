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
    """How long one call goes on trying. LangGraph has a class of this name, too, for nodes."""

    options: SotOptions
    """For the retries, and the patience with a busy provider."""
    _failures: int = 0
    _times_busy: int = 0
    _waited: float = 0.0

    def wait_after(self, error: BaseException, *, broke_off: bool = False) -> float | None:
        """Seconds to wait before the next attempt; `None`: give up.

        `broke_off`: a reply broke off halfway. Then any error counts as transient, and the first wait is 0, unless the
        provider is busy.
        """
        meaning, told = meaning_of(error), retry_after_seconds(error)
        if broke_off and meaning != "busy":
            meaning = "transient"
        if meaning == "busy":
            wait = self._busy_wait(told)
        elif meaning == "transient" and self._failures < self.options.max_retries:
            self._failures += 1
            backoff = 0.0 if broke_off and self._failures == 1 else backoff_seconds(self._failures)
            if told is None:  # only waits that a provider asks for count against `rate_limit_patience`
                return backoff
            wait = max(told, backoff)
        else:
            return None
        self._waited += wait
        return wait if self._waited <= self.options.rate_limit_patience else None

    def _busy_wait(self, told: float | None) -> float:
        """How long to leave a busy provider alone, which may have asked for so many seconds.

        `max_retries` doesn't count these attempts: their time is bounded.
        """
        doubled = 2.0 ** min(self._times_busy, 16)
        self._times_busy += 1
        wait = min(_LONGEST_BUSY_WAIT, _FIRST_BUSY_WAIT * doubled) if told is None else told
        wait = max(wait, min(_LONGEST_BUSY_WAIT, _SHORTEST_BUSY_WAIT * doubled))
        wait += min(wait * 0.25, 1.0) * random.random()  # never sooner than it says, and not all calls at once
        left = self.options.rate_limit_patience - self._waited
        # Where it says nothing, the last attempt is made when the patience is over.
        return min(wait, left) if told is None and left >= _FIRST_BUSY_WAIT else wait


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


def backoff_seconds(failures: int) -> float:
    """How long to wait after so many failures where the provider does not say: doubling, jittered."""
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (failures - 1))
    return longest * random.uniform(0.5, 1.0)
