"""The library's messages in the words of the command line."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import suppress

__all__ = ["in_flags", "say_warnings"]

_OPTIONS = "max_points|point_length|frame|dependent|dispatch|skeleton_format|deadline|point_timeout|max_concurrency"
_VALUE = re.compile(rf"\bSotOptions\.({_OPTIONS})=")
_NAME = re.compile(rf"\bSotOptions\.({_OPTIONS})\b|(?<=\()({_OPTIONS})(?=\))")


def in_flags(message: str) -> str:
    """A message with the options of the command in place of the arguments that they stand for."""
    message = message.replace("a faster skeleton_model", "a faster model")  # the command has one
    message = _VALUE.sub(lambda found: f"{_flag(found)} ", message)
    return _NAME.sub(_flag, message)


def _flag(found: re.Match[str]) -> str:
    return f"--{found[found.lastindex or 0].replace('_', '-')}"


class _Warnings(logging.Handler):
    """Writes to where `sys.stderr` goes just then: a board that is being drawn makes room for the line."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError, AttributeError):  # a message that nobody gets is no reason to end
            sys.stderr.write(f"sot-graph: {record.levelname.lower()}: {in_flags(record.getMessage())}\n")


def say_warnings() -> None:
    """Say what the library warns of as the command says everything else. Once, at the start."""
    logging.getLogger("sot_graph").addHandler(_Warnings(logging.WARNING))
