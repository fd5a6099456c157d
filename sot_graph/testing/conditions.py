"""How calls are answered: how fast (`Physics`), with which faults (`Fault`), and only all together (`Rendezvous`)."""

from __future__ import annotations

import asyncio
import math
import random
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

from sot_graph.errors import SotConfigError, check_call
from sot_graph.testing.openai_wire import ChatRequest, Reply


@dataclass(frozen=True)
class Physics:
    """How fast a simulated model writes: each stream alike, whatever the concurrency, as a hosted model does.

    Every time is computed from the request's arrival, so that delays never add up.

    Args:
        time_to_first_token: Seconds.
        tokens_per_second: Of each stream.

    Raises:
        SotConfigError: A negative time, or a speed that is not above zero.

    Examples:
        >>> Physics(time_to_first_token=0.4, tokens_per_second=60.0).due(60)
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
        """When a token (from 0) is sent, in seconds from the request's arrival.

        A reply of n tokens ends at `due(n)`: a stream says then that it is over, any other reply is sent then.
        """
        return self.time_to_first_token + token / self.tokens_per_second


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

    def __post_init__(self) -> None:
        if self.code not in range(200, 600):
            message = f"Status.code is an HTTP status such as 429, not {self.code!r}."
            raise SotConfigError(message)


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


@dataclass
class Fault:
    """What goes wrong, and for which requests. The first fault that takes a request is its only one.

    Args:
        kind: What goes wrong. A `Reply` is given in place of the responder's.
        match: Which requests it may hit; `None`: all.
        times: How many it hits; `None`: no limit.
        until: Seconds from the endpoint's start (or its last `reset()`) in which it hits: an outage; `None`:
            no end.
        probability: With which a matching request is hit, from 0 to 1.
        seed: Of the random numbers behind `probability`, so that a run can be repeated.
        name: How the log calls it; empty: the kind in snake case, such as `"hang_up"`.

    Raises:
        SotConfigError: What is no kind of fault, a probability that isn't one, or a negative number of times.

    Examples:
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
        if not isinstance(self.kind, FaultKind):
            kinds = ", ".join(kind.__name__ for kind in get_args(FaultKind))
            message = (
                f"Fault.kind is what goes wrong, such as Status(429) or HangUp(), not {self.kind!r}. Kinds: {kinds}."
            )
            raise SotConfigError(message)
        if self.match is not None:
            check_call("Fault.match", self.match, {"request": None}, hint=", or None for all requests")
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
        takes = (
            (self.times is None or self.hits < self.times)
            and (self.until is None or elapsed < self.until)
            and (self.match is None or self.match(request))
            and (self.probability == 1 or self._random.random() < self.probability)
        )
        if takes:
            self.hits += 1
        return takes

    def reset(self) -> None:
        """Begin anew: no hits, and the random numbers from the start."""
        self.hits = 0
        self._random = random.Random(self.seed)


class RendezvousError(TimeoutError):
    """Not enough came in time: they were not in flight together.

    Attributes:
        expected: How many had to come.
        arrived: How many were there at most.
    """

    def __init__(self, expected: int, arrived: int, timeout: float) -> None:
        super().__init__(
            f"{arrived} of {expected} were in flight together within {timeout:g} s: the others never came, "
            "or wait for those that are here."
        )
        self.expected = expected
        self.arrived = arrived


class Rendezvous:
    """A barrier for coroutines of any event loops and threads: all must be in flight together, or it raises.

    It is used once: when all have come, they and whoever comes later pass. When one has waited for too long, it
    breaks: everybody who waits, or comes later, gets the error at once.

    Args:
        n: How many have to be there together.
        timeout: Seconds that one waits for the others.

    Attributes:
        waiting: How many wait now.
        complete: Whether all were in flight together.

    Raises:
        SotConfigError: `n` is below 1.

    Examples:
        >>> meeting = Rendezvous(2, timeout=5)
        >>> async def main() -> None:
        ...     await asyncio.gather(meeting.arrive(), meeting.arrive())
        >>> asyncio.run(main())
        >>> meeting.complete
        True
    """

    def __init__(self, n: int, timeout: float = 10.0) -> None:
        if n < 1:
            message = f"Rendezvous needs at least 1 to come, not {n!r}."
            raise SotConfigError(message)
        self.n = n
        self.timeout = timeout
        self.waiting = 0
        self.complete = False
        self._most = 0
        self._lock = threading.RLock()
        # Its result: whether those who arrive pass. It runs already, so that a waiter who is cancelled can't cancel it.
        self._gate: Future[bool] = Future()
        self._gate.set_running_or_notify_cancel()

    async def arrive(self) -> None:
        """Wait for the others.

        Raises:
            RendezvousError: They did not come within `timeout` seconds.
        """
        with self._lock:
            self.waiting += 1
            if not self._gate.done():
                self._most = max(self._most, self.waiting)
                if self.waiting == self.n:
                    self.complete = True
                    self._settle(opens=True)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(self._gate), self.timeout)
        finally:
            with self._lock:
                self.waiting -= 1
        self._settle(opens=False)  # nothing, where it is open; else this one has waited too long
        if not self._gate.result():
            raise RendezvousError(self.n, self._most, self.timeout)

    def release(self) -> None:
        """Let everybody pass, those who wait and those who come, though not all have come."""
        self._settle(opens=True)

    def _settle(self, *, opens: bool) -> None:
        with self._lock:
            if not self._gate.done():
                self._gate.set_result(opens)
