"""Where a provider's limit on requests binds, and what `CallLimiter` does about it: in virtual time.

uv run python -m benchmarks.scale

Questions come evenly, each of N + 1 calls, by the real graph: no server, and a clock that jumps. The provider takes so
many requests in any minute; to others it says 429, and when to come again.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
from langchain_core.messages import BaseMessage, convert_to_openai_messages

from sot_graph import CallLimiter, SotError, SotOptions, create_sot_graph
from sot_graph.concurrency.call_limiter import Pace
from sot_graph.testing import ChatRequest, SkeletonResponder
from tests.support.virtual_time import PacedModel, run_in_virtual_time

REQUESTS_A_MINUTE = 500
POINTS, TOKENS = 8, 60
MINUTES = 2
RATES = (50, 70)
"""Questions a minute: of 9 calls each, so 450 and 630 calls."""
LIMITERS: dict[str, dict[str, Any]] = {
    "none": {},
    "`CallLimiter(12)`": {"limit": 12},
    "`CallLimiter(calls_per_minute=480)`": {"calls_per_minute": 480},
}

write = SkeletonResponder(points=POINTS, tokens_per_point=TOKENS)


@dataclass
class Provider:
    """Takes so many requests in any minute."""

    taken: deque[float] = field(default_factory=deque)
    refused: int = 0

    def answer(self, messages: list[BaseMessage]) -> str | Exception:
        """A text, or a 429 that says when there is room again."""
        now = asyncio.get_running_loop().time()
        while self.taken and now - self.taken[0] >= 60:
            self.taken.popleft()
        if len(self.taken) >= REQUESTS_A_MINUTE:
            self.refused += 1
            request = httpx2.Request("POST", "http://provider")
            wait = {"retry-after": f"{self.taken[0] + 60 - now:.2f}"}
            response = httpx2.Response(429, headers=wait, request=request)
            return openai.RateLimitError("too many requests", response=response, body=None)
        self.taken.append(now)
        return write(ChatRequest({"messages": convert_to_openai_messages(messages)})).text


class _Limiter(CallLimiter):
    """By the running loop's clock, which jumps."""

    def reset_in_child(self) -> None:
        super().reset_in_child()
        if self.calls_per_minute:
            self._calls = Pace(self.calls_per_minute, asyncio.get_running_loop().time)


async def measure(rate: int, limits: dict[str, Any]) -> tuple[Provider, list[float], int]:
    """The provider, how long each question took, and how many have a point that could not be written."""
    provider = Provider()
    graph = create_sot_graph(
        PacedModel(responder=provider.answer),
        options=SotOptions(stream=False),
        limiter=_Limiter(**limits) if limits else None,
    )
    now = asyncio.get_running_loop().time

    async def ask(number: int) -> tuple[float, bool]:
        await asyncio.sleep(number * 60 / rate)
        begun = now()
        try:
            result: dict[str, Any] = await graph.ainvoke({"question": f"How do plants grow? ({number})"})
        except SotError:
            return now() - begun, False
        return now() - begun, all(point["status"] == "ok" for point in result["expansions"])

    asked = await asyncio.gather(*map(ask, range(rate * MINUTES)))
    return provider, [seconds for seconds, _ in asked], sum(not whole for _, whole in asked)


def main() -> None:
    """Print the table."""
    logging.getLogger("sot_graph").setLevel(logging.ERROR)
    print(
        "| questions a minute | calls a minute | limiter | answered 429 | questions with a missing text | "
        "median answer, s | slowest answer, s |\n|---|---|---|---|---|---|---|"
    )
    for rate in RATES:
        for name, limits in LIMITERS.items():
            provider, seconds, failed = run_in_virtual_time(measure(rate, limits))
            shown = f"{statistics.median(seconds):.1f} | {max(seconds):.1f}"
            print(f"| {rate} | {rate * (POINTS + 1)} | {name} | {provider.refused} | {failed} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
