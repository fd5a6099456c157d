"""The learned router's weights: a JSON file of numbers. Reading it can't run anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sot_graph.errors import SotConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

__all__ = ["FORMAT", "MAX_BYTES", "SHIPPED", "Weights", "read_weights", "shipped_weights"]

FORMAT = 2
"""The file's layout. Counted up when a file of before can't be read any more."""
MAX_BYTES = 1_000_000
SHIPPED = Path(__file__).with_name("weights.json")
_LARGEST = 1e6


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear model: what is added up for a question, above 0 for the skeleton."""

    bias: float
    """Added for every question."""
    features: Mapping[str, float]
    """Feature name to what one of it adds."""


def read_weights(path: str | PathLike[str]) -> Weights:
    """Reads and checks a weights file.

    Args:
        path: A file that `python -m training.router.train` wrote.

    Raises:
        SotConfigError: It can't be read, is too large, or isn't such a file.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"The router's weights {file} can't be read: {error.strerror or error}"
        raise SotConfigError(message) from error
    try:
        return _parsed(content)
    except (ValueError, RecursionError) as error:
        message = (
            f"{file} isn't a weights file of the learned router: {error}. Install sot-graph again, or make one with "
            "`python -m training.router.train`."
        )
        raise SotConfigError(message) from error


@cache
def shipped_weights() -> Weights:
    """The weights that come with the package. Read once."""
    return read_weights(SHIPPED)


def _parsed(content: bytes) -> Weights:
    """Weights from a file's content; a `ValueError` says what is wrong with it."""
    if len(content) > MAX_BYTES:
        message = f"it is larger than {MAX_BYTES} bytes"
        raise ValueError(message)
    data = json.loads(content.decode())
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        message = f'it has no "format": {FORMAT}'
        raise ValueError(message)
    table = data.get("features")
    if not isinstance(table, dict) or not table:
        message = 'it has no "features"'
        raise ValueError(message)
    return Weights(_number("bias", data.get("bias")), {name: _number(name, value) for name, value in table.items()})


def _number(name: str, value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # NaN is in no range. Compared before it is converted: an integer of hundreds of digits is no float.
    if not is_number or not -_LARGEST <= value <= _LARGEST:
        message = f"{name[:40]!r} is not a number from {-_LARGEST:.0f} to {_LARGEST:.0f}"
        raise ValueError(message)
    return float(value)
