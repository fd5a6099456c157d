"""What needs the extra `testing`: `web` of aiohttp, or an error that says how to install it."""

from __future__ import annotations

from sot_graph.errors import SotConfigError

__all__ = ["MissingTestingExtraError", "web"]


class MissingTestingExtraError(SotConfigError, ImportError):
    """aiohttp is not installed: an `ImportError` that the caller can fix."""

    def __init__(self) -> None:
        super().__init__(
            "The simulated endpoint needs aiohttp, which is not installed: pip install 'sot-graph[testing]'"
        )


try:
    from aiohttp import web
except ModuleNotFoundError as missing:
    raise MissingTestingExtraError from missing
