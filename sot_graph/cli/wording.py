"""The library's messages in the words of the command line."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import suppress

__all__ = ["in_flags", "say_warnings"]

_FLAGS = (
    (re.compile(r"\bSotOptions\.max_points="), "--max-points "),
    (re.compile(r"\bSotOptions\.point_length="), "--point-length "),
    (re.compile(r"\(max_points\)"), "(--max-points)"),
    (re.compile(r"\bSotOptions\.point_length\b"), "--point-length"),
)


def in_flags(message: str) -> str:
    """A message with the options of the command in place of the arguments that they stand for."""
    for code, flag in _FLAGS:
        message = code.sub(flag, message)
    return message


class _Warnings(logging.Handler):
    """Writes to where `sys.stderr` goes just then: a board that is being drawn makes room for the line."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError, AttributeError):  # a message that nobody gets is no reason to end
            sys.stderr.write(f"sot-graph: {record.levelname.lower()}: {in_flags(record.getMessage())}\n")


def say_warnings() -> None:
    """Say what the library warns of as the command says everything else. Once, at the start."""
    logging.getLogger("sot_graph").addHandler(_Warnings(logging.WARNING))
