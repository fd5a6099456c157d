"""`Scenario`: one thing that is measured."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import Result
from benchmarks.rounds import Steps

__all__ = ["Plan", "Scenario"]


@dataclass(frozen=True)
class Plan:
    """How thoroughly a scenario is to measure.

    Args:
        rounds: Interleaved rounds.
        quick: Whether a minute for everything has to do: smaller sizes where a scenario has any.
        steps: Is told of the progress.
    """

    rounds: int
    quick: bool = False
    steps: Steps = field(default_factory=Steps)


@dataclass(frozen=True)
class Scenario:
    """One thing that is measured.

    Args:
        name: On the command line, and of the file of its results.
        title: In one line.
        run: Measures.
        rounds: Of `make bench`.
        quick_rounds: Of `make bench-quick`; 0: left out there.
    """

    name: str
    title: str
    run: Callable[[Plan], Coroutine[Any, Any, Result]]
    rounds: int
    quick_rounds: int = 0
