"""`RetryPolicy`: whether, and when, a call that failed is made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sot_graph.llm.provider_errors import (
    backoff_seconds,
    is_rate_limited,
    is_retryable,
    rate_limit_seconds,
    retry_after_seconds,
)

if TYPE_CHECKING:
    from sot_graph.options import SotOptions

__all__ = ["RetryPolicy"]


class RetryPolicy:
    """How long one call goes on trying.

    Args:
        options: For the retries, and the patience with a busy provider.
    """

    def __init__(self, options: SotOptions) -> None:
        self._options = options
        self._failures = 0
        self._times_busy = 0
        self._waited = 0.0

    def wait_after(self, error: Exception) -> float | None:
        """Seconds to wait before the next attempt; `None`: give up."""
        if is_rate_limited(error):
            self._times_busy += 1
            return self._bounded(rate_limit_seconds(error, self._times_busy))
        self._failures += 1
        if self._failures > self._options.max_retries or not is_retryable(error):
            return None
        asked_for = retry_after_seconds(error)
        return backoff_seconds(self._failures + 1) if asked_for is None else self._bounded(asked_for)

    def _bounded(self, wait: float) -> float | None:
        """A wait that the provider asks for; `None` if there is no patience for it."""
        self._waited += wait
        return wait if self._waited <= self._options.rate_limit_patience else None
