"""How the command ends: with one readable line about what went wrong, and with an exit status.

0, 1 (the model or the run failed), 2 (bad usage), 130 (Ctrl-C), 143 (SIGTERM).
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import NoReturn

from sot_graph.errors import SotConfigError, SotError

__all__ = [
    "LIBRARY_OPTIONS",
    "drop_output",
    "exit_status",
    "in_flags",
    "interrupt_at_sigterm",
    "interrupted",
    "interrupted_status",
    "leave",
    "owns_process",
    "print_warnings",
    "running",
]

LIBRARY_OPTIONS = (
    *("max_points", "point_length", "frame", "dependent", "dispatch", "skeleton_format"),
    *("deadline", "point_timeout", "max_concurrency"),
)
"""Options of `sot-graph ask` that are called as in `SotOptions`."""

_FAILED = 1
_USAGE = 2
_INTERRUPTED = 130
_TERMINATED = 143

_OF_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
# "SotOptions.deadline=0", "SotOptions.deadline" and "(deadline)".
_ARGUMENT = re.compile(rf"(?:\bSotOptions\.|(?<=\()(?=\w+\)))({'|'.join(LIBRARY_OPTIONS)})\b(=?)")
_VARIABLE = re.compile(r"\bSOT_GRAPH_(MODEL|BASE_URL)\b")

owns_process: ContextVar[bool] = ContextVar("sot_graph_owns_process", default=False)
"""Whether this process is the command's, to be ended by it. Not where a test calls the command."""

_terminations: list[int] = []
"""The SIGTERMs that came."""


class _RunFailedError(SotError):
    """What a provider refused in a run: no bad usage, which is found before the model is asked."""


def exit_status(run: Callable[[], object]) -> int:
    """Run something, and say on standard error what went wrong, if anything did."""
    try:
        run()
        if sys.stdout is not None:
            sys.stdout.flush()  # or an error of what is still buffered would be found only at exit
    except SotConfigError as error:
        _say(_message(error), "red")
        return _USAGE
    except BrokenPipeError:  # `sot-graph ask ... | head`: the reader has what it wanted
        drop_output()
        return 0
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:  # noqa: BLE001 - the end of the line: every failure gets its sentence and its status
        if isinstance(error, OSError):
            drop_output()
        _say(_message(error), "red")
        return _FAILED
    return 0


@contextmanager
def running() -> Iterator[None]:
    """What the caller could fix is, from here on, a failed run: a wrong key, a model that there is not."""
    try:
        yield
    except SotConfigError as error:
        raise _RunFailedError(str(error)) from error
    except KeyboardInterrupt:
        if owns_process.get():
            # The embedded model stops only when it has computed what it is at, which takes seconds on a busy machine.
            interrupted()
        raise


def interrupt_at_sigterm() -> None:
    """Have SIGTERM do what Ctrl-C does: what was opened is closed, and the terminal is left as it was found."""
    signal.signal(signal.SIGTERM, _interrupt)


def interrupted() -> int:
    """Say what ended the command, and end the process with its status; where it is a test's, give that back."""
    status = interrupted_status()
    _say("Terminated." if status == _TERMINATED else "Interrupted.", "dim")
    if owns_process.get():
        leave(status)
    return status


def interrupted_status() -> int:
    """The exit status of an interrupted command: what ended it says which."""
    return _TERMINATED if _terminations else _INTERRUPTED


def leave(status: int) -> NoReturn:
    """End the process at once: some threads of others' Python would wait for."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, full, or read by nobody
            stream.flush()
    os._exit(status)


def drop_output() -> None:
    """Send what is still buffered nowhere: at exit Python would try to write it, and complain once more."""
    with suppress(OSError, AttributeError):  # closed, or a test's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_warnings() -> None:
    """Say what the library warns of as the command says everything else. Once, at the start."""
    logging.getLogger("sot_graph").addHandler(_WarningLines(logging.WARNING))


def in_flags(message: str) -> str:
    """A message of the library's, with the command's options in place of the arguments and variables behind them."""
    message = _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')}{found[2].replace('=', ' ')}", message)
    return _VARIABLE.sub(lambda found: f"--{found[1].lower().replace('_', '-')} ({found[0]})", message)


class _WarningLines(logging.Handler):
    """Writes to where `sys.stderr` goes just then: a board that is being drawn makes room for the line."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError, AttributeError):  # a message that nobody gets is no reason to end
            sys.stderr.write(f"sot-graph: {record.levelname.lower()}: {in_flags(record.getMessage())}\n")


def _interrupt(number: int, frame: FrameType | None) -> None:
    _terminations.append(number)
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):  # of an event loop, or of what must not be interrupted just then
        handler(signal.SIGINT, frame)
    else:  # a shell's background jobs ignore Ctrl-C, and end at SIGTERM
        raise KeyboardInterrupt


def _say(text: str, style: str) -> None:
    from sot_graph.cli.terminal import error_console

    error_console().print(text, style=style, markup=False)


def _message(error: Exception) -> str:
    """In one line without control characters, whoever wrote it."""
    if isinstance(error, OSError) and error.errno in _OF_WRITING:
        reason = f"{error.filename or 'standard output'} can't be written to: {error.strerror}."
    elif isinstance(error, SotError):
        reason = str(error)
    else:
        from sot_graph.llm.provider_errors import explain

        reason = explain(error)
    text = "".join(char if char.isprintable() else " " for char in in_flags(reason))
    return f"sot-graph: {' '.join(text.split())}"
