"""Interleaved rounds: every contender once a round, so that what slows the machine down slows all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, TypeVar

__all__ = ["Steps", "cpu_milliseconds", "interleaved", "settle"]

T = TypeVar("T")

Way: TypeAlias = Callable[[], Awaitable[T]]


class Steps:
    """Tells whoever watches how far a scenario is. This one tells nobody."""

    def begin(self, total: int) -> None:
        """So many steps are to come."""

    def step(self, what: str) -> None:
        """The next one begins."""


def settle() -> None:
    """Take what there is so far out of the collector's sight: what it costs to look at that is nobody's time."""
    gc.collect()
    gc.freeze()


async def interleaved(ways: Mapping[str, Way[T]], rounds: int, steps: Steps) -> dict[str, list[T]]:
    """Run each way once a round, in turns that shift from round to round.

    Args:
        ways: What to run, by name.
        rounds: How often.
        steps: Is told of each run.
    """
    settle()
    measured: dict[str, list[T]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            steps.step(f"{name}, round {number + 1}")
            gc.collect()  # nobody pays for what another has left behind
            measured[name].append(await ways[name]())
    return measured


async def cpu_milliseconds(way: Way[object], times: int = 1) -> float:
    """The CPU time of this process, all its threads, for one run, in milliseconds: the mean of so many runs."""
    started = time.process_time()
    for _ in range(times):
        await way()
    return (time.process_time() - started) * 1000 / times
