"""The learned router's weights: a JSON file of numbers. Reading it can't run anything."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sot_graph.errors import SotConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

__all__ = ["FORMAT", "MAX_BYTES", "SHIPPED", "Weights", "read_weights", "shipped_weights"]

FORMAT = 1
"""The file's layout. Counted up when a file of before can't be read any more."""
MAX_BYTES = 1_000_000
SHIPPED = Path(__file__).with_name("weights.json")
_LARGEST = 1e6


@dataclass(frozen=True, slots=True)
class Weights:
    """Two linear models over the same features."""

    route_bias: float
    length_bias: float
    length_spread: float
    """Standard deviation of the length model's error, in natural logarithms of tokens."""
    features: Mapping[str, tuple[float, float]]
    """Feature name to its weights for the route and for the length."""


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
        msg = f"The router's weights {file} can't be read: {error.strerror or error}"
        raise SotConfigError(msg) from error
    if len(content) > MAX_BYTES:
        _refuse(file, f"it is larger than {MAX_BYTES} bytes")
    try:
        data = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        _refuse(file, f"it isn't JSON ({error})")
    return _checked(file, data)


@cache
def shipped_weights() -> Weights:
    """The weights that come with the package. Read once."""
    return read_weights(SHIPPED)


def _checked(file: Path, data: Any) -> Weights:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        _refuse(file, f'it has no "format": {FORMAT}')
    table = data.get("features")
    if not isinstance(table, dict) or not table:
        _refuse(file, 'it has no "features"')
    features: dict[str, tuple[float, float]] = {}
    for name, pair in table.items():
        if not isinstance(pair, list) or len(pair) != 2:  # noqa: PLR2004
            _refuse(file, f"feature {name[:40]!r} has not two weights")
        features[name] = (_number(file, name, pair[0]), _number(file, name, pair[1]))
    spread = _number(file, "length_spread", data.get("length_spread"))
    if spread <= 0:
        _refuse(file, '"length_spread" must be above 0')
    return Weights(
        route_bias=_number(file, "route_bias", data.get("route_bias")),
        length_bias=_number(file, "length_bias", data.get("length_bias")),
        length_spread=spread,
        features=features,
    )


def _number(file: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(file, f"{name[:40]!r} is not a number")
    # Compared before it is converted: an integer of hundreds of digits is no float.
    if not -_LARGEST <= value <= _LARGEST or math.isnan(value):
        _refuse(file, f"{name[:40]!r} is out of range")
    return float(value)


def _refuse(file: Path, why: str) -> NoReturn:
    msg = (
        f"{file} isn't a weights file of the learned router: {why}. Install sot-graph again, or make one with "
        "`python -m training.router.train`."
    )
    raise SotConfigError(msg)
