"""`--report`: the picture of a run, and whether it can be written before the run is paid for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sot_graph.errors import SotConfigError

__all__ = ["check_report", "write_report"]


def check_report(path: Path) -> None:
    """Find out whether a report can be written there; leaves no file behind.

    Raises:
        SotConfigError: It can't.
    """
    try:
        if path.is_dir():
            message = f"--report {path}: that is a folder. Name a file, such as {path / 'run.html'}."
            raise SotConfigError(message)
        if not path.absolute().parent.is_dir():
            message = f"--report {path}: there is no folder {path.parent}."
            raise SotConfigError(message)
        if path.is_file() or not path.exists():  # a pipe or a device would take the trial for the report
            _try(os.path.realpath(path))
    except OSError as error:
        message = f"--report {path}: can't be written: {error.strerror}."
        raise SotConfigError(message) from error


def _try(path: str) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        os.close(os.open(path, os.O_WRONLY))
    else:
        os.close(file)
        os.unlink(path)


def write_report(path: Path, result: Mapping[str, Any], *, local: bool) -> None:
    """Write the picture of a run.

    Args:
        path: The file.
        result: What the graph returned.
        local: Whether the model ran on this machine.

    Raises:
        OSError: With the file's name.
    """
    from sot_graph.report import result_timeline

    try:
        path.write_text(result_timeline(result, local=local), encoding="utf-8")
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
