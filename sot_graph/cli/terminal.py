"""Standard input, output and error as a shell may hand them over: a terminal, closed, full, in another encoding."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sot_graph.errors import SotConfigError
from sot_graph.options import SotOptions

__all__ = [
    "check_output",
    "error_console",
    "output_console",
    "prepare_streams",
    "print_json",
    "read_question",
    "waiting",
]

_LONGEST_INPUT = 1_000_000
"""In bytes: more than the graph takes as a question in any script, and an end for input that has none."""
_STANDARD_FILES = 3


def prepare_streams() -> None:
    """Make standard streams that are closed, or can't show every character, harmless. Once, at the start."""
    null = os.open(os.devnull, os.O_RDWR)
    while null < _STANDARD_FILES:  # or the next socket or file would be taken for standard output
        null = os.open(os.devnull, os.O_RDWR)
    os.close(null)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # On a screen columns count; in a file nothing is to be lost.
            stream.reconfigure(errors="replace" if stream.isatty() else "backslashreplace")


def check_output() -> None:
    """Refuse to start a run whose answer nobody could get.

    Raises:
        SotConfigError: Standard output is closed.
    """
    if sys.stdout is None:
        message = "standard output is closed, so there is nowhere to print to. Send it to a file, or to /dev/null."
        raise SotConfigError(message)


def output_console() -> Console:
    """Standard output, for rich."""
    return _Output(highlight=False)


def error_console() -> Console:
    """Standard error, for messages."""
    return _Errors(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def waiting(errors: Console, what: str, *, in_pipe: bool = True) -> Iterator[None]:
    """Show what is waited for: with a running clock on a terminal, in one plain line elsewhere.

    Args:
        errors: Standard error.
        what: What is being done, such as `"Loading the model"`.
        in_pipe: Whether it is worth a line where standard error is no terminal.
    """
    if not errors.is_terminal or os.environ.get("TERM") == "dumb":
        if in_pipe:
            errors.print(f"{what} ...", style="dim")
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # What is printed meanwhile stays where it goes: standard output may be a file.
    with Progress(*columns, console=errors, transient=True, redirect_stdout=False) as progress:
        progress.add_task(what, total=None)
        yield


def print_json(row: Mapping[str, Any]) -> None:
    """One JSON object in one line; in ASCII where standard output is in no Unicode encoding."""
    is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    sys.stdout.write(json.dumps(row, ensure_ascii=not is_unicode) + "\n")


def read_question(given: str, *, reviewed: bool = False) -> str:
    """The question of the command line; for `-`, what standard input holds.

    Args:
        given: The argument.
        reviewed: Whether standard input is needed for more than that.

    Raises:
        SotConfigError: Standard input is closed, can't be read, or is needed twice; the question isn't text, is
            empty, or too long.
    """
    if reviewed and given == "-":
        message = "--review asks on standard input, where - reads the question from: give the question as an argument."
        raise SotConfigError(message)
    if reviewed and sys.stdin is None:
        message = "--review asks on standard input, which is closed."
        raise SotConfigError(message)
    question = _read_input() if given == "-" else _decoded(os.fsencode(given), "the question")
    if not question.strip():
        message = "the question is empty: there is nothing to answer."
        raise SotConfigError(message)
    if len(question) > (most := SotOptions().max_question_chars):
        message = f"the question has {len(question):,} characters; it may have {most:,}."
        raise SotConfigError(message)
    return question


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


def _read_input() -> str:
    if sys.stdin is None:
        message = "standard input is closed: the question - is read from there."
        raise SotConfigError(message)
    try:
        data = sys.stdin.buffer.read(_LONGEST_INPUT + 1)
    except OSError as error:
        message = f"standard input can't be read: {error.strerror}."
        raise SotConfigError(message) from error
    if len(data) > _LONGEST_INPUT:
        message = f"standard input holds more than {_LONGEST_INPUT:,} bytes, too much for a question."
        raise SotConfigError(message)
    return _decoded(data, "standard input")


def _decoded(data: bytes, what: str) -> str:
    """UTF-8, or else what the environment says."""
    for encoding in ("utf-8-sig", getattr(sys.stdin, "encoding", None) or "utf-8"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            problem = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
    message = f"{what} is not UTF-8 ({problem}): convert it, such as by `iconv -f latin1 -t utf-8`."
    raise SotConfigError(message)
