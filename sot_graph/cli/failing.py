"""From what went wrong to one readable line and an exit status."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sot_graph.cli.reviewing import ReviewAbandonedError
from sot_graph.cli.signals import EXIT_TERMINATED, interrupted_status
from sot_graph.cli.streams import drop_output, flush_output, leave
from sot_graph.cli.wording import in_flags
from sot_graph.errors import SotConfigError, SotError

__all__ = ["EXIT_FAILED", "EXIT_USAGE", "RunFailedError", "exit_status", "interrupted", "owns_process", "running"]

EXIT_FAILED = 1
EXIT_USAGE = 2

_OF_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class RunFailedError(SotError):
    """What a provider refused in a run: no bad usage, which is found before the model is asked."""


owns_process: ContextVar[bool] = ContextVar("sot_graph_owns_process", default=False)
"""Whether this process is the command's, to be ended by it. Not where a test calls the command."""


@contextmanager
def running() -> Iterator[None]:
    """What the caller could fix is, from here on, a failed run: a wrong key, a model that there is not."""
    try:
        yield
    except SotConfigError as error:
        raise RunFailedError(str(error)) from error
    except KeyboardInterrupt:
        if owns_process.get():
            # The embedded model stops only when it has computed what it is at, which takes seconds on a busy machine.
            interrupted()
        raise


def exit_status(run: Callable[[], object]) -> int:
    """Run something, and say on standard error what went wrong, if anything did."""
    try:
        run()
        flush_output()
    except SotConfigError as error:
        _say(_message(error), "red")
        return EXIT_USAGE
    except BrokenPipeError:  # `sot-graph ask ... | head`: the reader has what it wanted
        drop_output()
        return 0
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:  # noqa: BLE001 - the end of the line: every failure gets its sentence and its status
        if isinstance(error, OSError):
            drop_output()
        _say(_message(error), "red")
        return EXIT_FAILED
    return 0


def interrupted() -> int:
    """Say what ended the command, and end the process with its status; where it is a test's, give that back."""
    status = interrupted_status()
    _say("Terminated." if status == EXIT_TERMINATED else "Interrupted.", "dim")
    if owns_process.get():
        leave(status)
    return status


def _say(text: str, style: str) -> None:
    from sot_graph.cli.consoles import error_console

    error_console().print(text, style=style, markup=False)


def _message(error: Exception) -> str:
    """In one line without control characters, whoever wrote it."""
    text = "".join(char if char.isprintable() else " " for char in in_flags(_reason(error)))
    return f"sot-graph: {' '.join(text.split())}"


def _reason(error: Exception) -> str:
    if isinstance(error, ReviewAbandonedError):
        return "the skeleton was not approved; nothing was written."
    if isinstance(error, OSError) and error.errno in _OF_WRITING:
        return f"{error.filename or 'standard output'} can't be written to: {error.strerror}."
    if isinstance(error, SotError):
        return str(error)
    from sot_graph.llm.provider_errors import explain

    return explain(error)
