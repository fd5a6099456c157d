"""Where the command's answers and messages go, for rich."""

from __future__ import annotations

from typing import Any

from rich.console import Console

__all__ = ["error_console", "output_console"]


class _Output(Console):
    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - called where the error is handled; the command knows what to do, not rich


class _Errors(Console):
    def print(self, *objects: Any, **how: Any) -> None:
        try:
            super().print(*objects, **how)
        except OSError:  # messages that nobody gets are no reason to end
            self.quiet = True

    def on_broken_pipe(self) -> None:
        self.quiet = True


def output_console() -> Console:
    """Standard output, for rich."""
    return _Output(highlight=False)


def error_console() -> Console:
    """Standard error, for messages."""
    return _Errors(stderr=True, highlight=False, soft_wrap=True)
