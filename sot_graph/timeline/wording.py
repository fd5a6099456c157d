"""Times, numbers and states in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sot_graph.timeline.records import FrameFigures, PointFigures

__all__ = ["NOT_KNOWN", "count", "counted", "seconds", "state", "times", "waiting"]

NOT_KNOWN = "–"  # noqa: RUF001 - a dash, as tables have it

_STATES = {"ok": "done", "failed": "failed", "timed_out": "cut off by the deadline", "missing": "not written"}
_STEPS = ((0.0005, "<1 ms"), (0.0995, "{ms:.0f} ms"), (9.995, "{s:.2f} s"), (59.95, "{s:.1f} s"))
"""Below the first number of seconds, the second is how they are written."""


def seconds(value: float | None) -> str:
    """A time, to two or three digits: `0 s`, `34 ms`, `1.25 s`, `12.5 s`, `2 min 5 s`."""
    if not value:
        return NOT_KNOWN if value is None else "0 s"
    for limit, form in _STEPS:
        if value < limit:
            return form.format(s=value, ms=1000 * value)
    minutes, rest = divmod(round(value), 60)
    return f"{minutes:,} min {rest} s"


def count(value: int | None) -> str:
    """A number with its thousands apart."""
    return NOT_KNOWN if value is None else f"{value:,}"


def counted(number: int, one: str) -> str:
    """`1 point`, `3 points`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def times(value: float | None) -> str:
    """A ratio, to one digit."""
    return NOT_KNOWN if value is None else f"{value:.1f}×"  # noqa: RUF001 - a multiplication sign


def state(text: PointFigures | FrameFigures) -> str:
    """What became of a point, or of what frames them."""
    if text.status == "ok" and text.span is None:
        return "kept from an earlier run"
    if text.status == "ok" and text.truncated:
        return "done, but cut off at a token limit"
    return _STATES[text.status]


def waiting(point: PointFigures) -> str:
    """What a point waited for, such as `, after 1 and 2`; empty: for no other point."""
    if not point.depends_on:
        return ""
    *others, last = map(str, point.depends_on)
    return f", after {', '.join(others)} and {last}" if others else f", after {last}"
