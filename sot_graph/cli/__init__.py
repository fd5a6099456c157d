"""The command `sot-graph`. Importing this package imports nothing else of it: the command begins in `main`."""

import signal
import sys
from types import FrameType

__all__ = ["interruption", "main"]

_terminations: list[int] = []
"""The SIGTERMs that have come so far."""


def main() -> None:
    """The entry point of the command."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        from sot_graph.cli.app import app
        from sot_graph.cli.process import exit_status, take_over_process

        take_over_process()
        status = exit_status(app)
    except KeyboardInterrupt:
        status, _ = interruption()
    sys.exit(status)


def interruption() -> tuple[int, str]:
    """The exit status and the last message of a command that SIGTERM or Ctrl-C has ended."""
    return (143, "Terminated.") if _terminations else (130, "Interrupted.")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let SIGTERM do what Ctrl-C does: what was opened is closed, and the terminal is left as it was found."""
    _terminations.append(number)
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):  # of an event loop, or of what must not be interrupted just then
        handler(signal.SIGINT, frame)
    else:  # a shell's background jobs ignore Ctrl-C, and end at SIGTERM
        raise KeyboardInterrupt
