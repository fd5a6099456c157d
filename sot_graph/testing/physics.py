"""`Physics`: how fast a simulated model writes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sot_graph.errors import SotConfigError

__all__ = ["Physics"]


@dataclass(frozen=True)
class Physics:
    """How fast a simulated model writes: each stream alike, whatever the concurrency, as a hosted model does.

    The one rule, in seconds from the request's arrival: token k (from 0) is sent at
    `time_to_first_token + k / tokens_per_second`; a reply of n tokens ends at
    `time_to_first_token + n / tokens_per_second`. The end is when a streamed reply says that it is over, and
    when a reply that isn't streamed is sent. Every time is computed from the arrival, so that delays never
    add up.

    Args:
        time_to_first_token: Seconds.
        tokens_per_second: Of each stream.

    Raises:
        SotConfigError: A negative time, or a speed that is not above zero.

    Example:
        >>> Physics(time_to_first_token=0.4, tokens_per_second=60.0).end(60)
        1.4
    """

    time_to_first_token: float = 0.4
    tokens_per_second: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.time_to_first_token < math.inf:
            message = f"Physics.time_to_first_token is in seconds, 0 or more, not {self.time_to_first_token!r}."
            raise SotConfigError(message)
        if not self.tokens_per_second > 0:
            message = f"Physics.tokens_per_second must be above 0, not {self.tokens_per_second!r}."
            raise SotConfigError(message)

    @classmethod
    def instant(cls) -> Physics:
        """No latency at all."""
        return cls(time_to_first_token=0.0, tokens_per_second=math.inf)

    def due(self, token: int) -> float:
        """When a token (from 0) is sent, in seconds from the request's arrival."""
        return self.time_to_first_token + token / self.tokens_per_second

    def end(self, tokens: int) -> float:
        """When a reply of so many tokens ends, in seconds from the request's arrival."""
        return self.due(tokens)
