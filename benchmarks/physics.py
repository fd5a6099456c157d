"""What the simulated endpoint allows: the computed limit.

The token rule, for every contender and every form of reply: four characters are a token
(`sot_graph.testing.count_tokens`). A reply of n tokens takes `time to first token + n / tokens per second`, however
many are written at once (`sot_graph.testing.Physics`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sot_graph.testing import Physics, count_tokens

__all__ = ["FIRST_CHARACTERS", "Limit", "hosted"]

FIRST_CHARACTERS = 40
"""A reader has something to read: the first title and the first words below it."""

hosted = Physics(time_to_first_token=0.4, tokens_per_second=60.0)
"""About what a hosted model does."""


@dataclass(frozen=True)
class Limit:
    """The shortest time in which a skeleton and its points can be had, if nothing but the model took any.

    Args:
        titles: Of the skeleton.
        tokens: Of each point.
        physics: How fast the model writes.
        max_concurrency: Points written at once; `None`: all.
    """

    titles: Sequence[str]
    tokens: Sequence[int]
    physics: Physics = hosted
    max_concurrency: int | None = None

    @property
    def skeleton_tokens(self) -> int:
        """Of the shortest skeleton that validates: the titles, and nothing else, as compact JSON."""
        return count_tokens(json.dumps({"points": list(self.titles)}, separators=(",", ":"), ensure_ascii=False))

    @property
    def whole(self) -> float:
        """Time to the first token, the skeleton, time to the first token, and the longest point; in seconds."""
        return self.physics.due(self.skeleton_tokens) + self._points_seconds()

    @property
    def first_words(self) -> float:
        """Until the first characters can be read where points wait for the whole skeleton; in seconds."""
        return self.physics.due(self.skeleton_tokens) + self._first_of_a_point()

    @property
    def first_words_pipelined(self) -> float:
        """Until the first characters can be read where a point begins as soon as its title is complete; in seconds."""
        opening = count_tokens('{"points":["' + self.titles[0] + '"')
        return self.physics.due(opening) + self._first_of_a_point()

    def _first_of_a_point(self) -> float:
        # A title and the blank line below it can be read at once; what is missing of the first characters is text.
        head = len(f"**1. {self.titles[0]}**\n\n")
        missing = count_tokens(" " * max(0, FIRST_CHARACTERS - head))
        return self.physics.due(max(0, missing - 1))

    def _points_seconds(self) -> float:
        seconds = [self.physics.due(tokens) for tokens in self.tokens]
        if self.max_concurrency is None:
            return max(seconds)
        return _makespan(seconds, self.max_concurrency)


def _makespan(seconds: Iterable[float], width: int) -> float:
    """When the last of several jobs is done, each taking the place that is free first."""
    free = [0.0] * width
    for each in seconds:
        place = free.index(min(free))
        free[place] += each
    return max(free)
