"""SIGTERM, taken as Ctrl-C is: what was opened is closed, and the terminal is left as it was found."""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["EXIT_INTERRUPTED", "EXIT_TERMINATED", "end_at_sigterm", "interrupted_status"]

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_came: list[int] = []
"""The signals that were taken."""


def end_at_sigterm() -> None:
    """Have SIGTERM do what Ctrl-C does. Once, at the start."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):  # of an event loop, or of what must not be interrupted just then
        handler(signal.SIGINT, frame)
    else:  # a shell's background jobs ignore Ctrl-C, and end at SIGTERM
        raise KeyboardInterrupt


def interrupted_status() -> int:
    """The exit status of an interrupted command: what ended it says which."""
    return EXIT_TERMINATED if _came else EXIT_INTERRUPTED
