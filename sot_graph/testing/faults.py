"""How fast a simulated endpoint writes (`Physics`), what can go wrong with it, and when (`Fault`)."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sot_graph.errors import SotConfigError
from sot_graph.testing.openai_wire import ChatRequest, Reply

__all__ = [
    "CutOff",
    "Empty",
    "Fault",
    "FaultKind",
    "Garbage",
    "HangUp",
    "Physics",
    "Refusal",
    "Reset",
    "Stall",
    "Status",
]


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


@dataclass(frozen=True)
class Status:
    """An HTTP error, sent at once.

    Args:
        code: Such as 429 or 500.
        retry_after: Seconds, as the `Retry-After` header.
        body: Sent in place of the body that OpenAI would send: a mapping as JSON, a string as it is.
        message: Of the body that OpenAI would send.
    """

    code: int
    retry_after: float | None = None
    body: Mapping[str, Any] | str | None = None
    message: str | None = None


@dataclass(frozen=True)
class HangUp:
    """The connection is closed in mid-answer, after so many tokens of a stream, or half of a body."""

    after_tokens: int = 0


@dataclass(frozen=True)
class Reset:
    """The connection is reset before any byte of an answer."""


@dataclass(frozen=True)
class Garbage:
    """A success that isn't JSON: the whole body, or the first line of a stream."""

    text: str = "<html>502 Bad Gateway</html>"


@dataclass(frozen=True)
class Empty:
    """A success with nothing in it."""


@dataclass(frozen=True)
class Stall:
    """So many tokens of a stream are sent, then nothing more until the client leaves or the endpoint stops.

    An answer that isn't streamed never comes.
    """

    after_tokens: int = 0


@dataclass(frozen=True)
class CutOff:
    """The answer ends after so many tokens, with the finish reason `"length"`."""

    max_tokens: int


@dataclass(frozen=True)
class Refusal:
    """The model refuses, in these words."""

    text: str = "I can't help with that."


FaultKind: TypeAlias = Status | HangUp | Reset | Garbage | Empty | Stall | CutOff | Refusal | Reply
"""A `Reply` is given in place of the responder's."""


@dataclass
class Fault:
    """What goes wrong, and for which requests. The first fault that takes a request is its only one.

    Args:
        kind: What goes wrong.
        match: Which requests it may hit; `None`: all.
        times: How many it hits; `None`: no limit.
        until: Seconds from the endpoint's start (or its last `reset()`) in which it hits: an outage; `None`:
            no end.
        probability: With which a matching request is hit, from 0 to 1.
        seed: Of the random numbers behind `probability`, so that a run can be repeated.
        name: How the log calls it; empty: the kind in snake case, such as `"hang_up"`.

    Raises:
        SotConfigError: A probability that isn't one, or a negative number of times.

    Example:
        >>> fault = Fault(Status(429, retry_after=1.0), match=lambda request: request.stream, times=2)
        >>> fault.name
        'status'
    """

    kind: FaultKind
    match: Callable[[ChatRequest], bool] | None = None
    times: int | None = None
    until: float | None = None
    probability: float = 1.0
    seed: int = 0
    name: str = ""
    hits: int = field(default=0, init=False)
    """How many requests it has hit since the endpoint's start or last `reset()`."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            message = f"Fault.probability is from 0 to 1, not {self.probability!r}."
            raise SotConfigError(message)
        if self.times is not None and self.times < 0:
            message = f"Fault.times is 0 or more, or None for no limit, not {self.times!r}."
            raise SotConfigError(message)
        self.name = self.name or re.sub(r"(?<!^)(?=[A-Z])", "_", type(self.kind).__name__).lower()
        self.reset()

    def takes(self, request: ChatRequest, elapsed: float) -> bool:
        """Whether it hits this request, so many seconds after the endpoint's start; counts it if so."""
        if self.times is not None and self.hits >= self.times:
            return False
        if self.until is not None and elapsed >= self.until:
            return False
        if self.match is not None and not self.match(request):
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def reset(self) -> None:
        """Begin anew: no hits, and the random numbers from the start."""
        self.hits = 0
        self._random = random.Random(self.seed)
