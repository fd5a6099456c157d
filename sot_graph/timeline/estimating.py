"""What one run doesn't measure, worked out from what it does: the chain it hangs on, and one sequential answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sot_graph.timeline.reading import Span

__all__ = ["SequentialEstimate", "longest_chain", "sequential_estimate", "share_tokens"]

_Key = TypeVar("_Key")
_ONE_PIECE = 0.02
"""A point that was written in less than this share of its time came in one piece: nothing was streamed."""


@dataclass(frozen=True)
class SequentialEstimate:
    """How long one ordinary answer with the same text would have taken, at the speed that this run was written at."""

    seconds: float
    streamed: bool
    """Whether the speed is that of first to last token. If not, each call's wait is in it: `seconds` is too high."""


def share_tokens(texts: Mapping[int, str], output_tokens: int | None) -> dict[int, int]:
    """Share out tokens by the length of the texts in characters; nothing, if there are none of either."""
    characters = sum(map(len, texts.values()))
    if not characters or not output_tokens:
        return {}
    return {index: round(output_tokens * len(text) / characters) for index, text in texts.items()}


def longest_chain(
    spans: Mapping[int, Span], depends_on: Mapping[int, Sequence[int]], offsets: Mapping[int, float]
) -> tuple[float, tuple[int, ...]]:
    """The points that wait for one another and together end last: the seconds until then, and their indices in order.

    Args:
        spans: When each point was written. Only how long it took counts.
        depends_on: The points that each waits for.
        offsets: Seconds before which each can't begin: until its title is there.
    """
    best: dict[int, tuple[float, tuple[int, ...]]] = {}
    # A point starts after those it waits for have ended: by start, every chain comes in its order, and no cycle can.
    for index, span in sorted(spans.items(), key=lambda item: (item[1].start, item[1].end, item[0])):
        chains = [best[other] for other in depends_on.get(index, ()) if other in best]
        before = max([*chains, (offsets.get(index, 0.0), ())], key=lambda chain: chain[0])
        best[index] = (before[0] + span.seconds, (*before[1], index))
    return max(best.values(), key=lambda chain: chain[0], default=(0.0, ()))


def sequential_estimate(spans: Mapping[_Key, Span], texts: Mapping[_Key, str]) -> SequentialEstimate | None:
    """One wait for a first token, then all the text, one character after the other, at this run's speed.

    Streamed: `shortest wait + characters / speed`, where `speed` is the characters of all streamed points over the
    sum of their writing seconds. If all points were streamed, that is the shortest wait plus the sum of their writing
    seconds. Not streamed: the speed is over the points' whole seconds, and the wait is in it.
    """
    timed = {index: span for index, span in spans.items() if texts.get(index)}
    streamed = {index: span for index, span in timed.items() if _is_streamed(span)}
    chosen = streamed or timed
    written = sum(len(texts[index]) for index in chosen)
    seconds = sum(_writing(span) if streamed else span.seconds for span in chosen.values())
    if not written or not seconds:
        return None
    wait = min((span.waiting or 0.0 for span in streamed.values()), default=0.0)
    characters = sum(map(len, texts.values()))
    return SequentialEstimate(wait + seconds * characters / written, bool(streamed))


def _writing(span: Span) -> float:
    return span.writing or 0.0


def _is_streamed(span: Span) -> bool:
    return _writing(span) > _ONE_PIECE * span.seconds
