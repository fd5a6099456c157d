"""A command's failure, in one readable line."""

from __future__ import annotations

from sot_graph.cli.reviewing import ReviewAbandonedError
from sot_graph.errors import SotError

__all__ = ["RunFailedError", "reason"]


class RunFailedError(Exception):
    """The run failed; the message is one readable line."""


def reason(error: BaseException) -> str:
    """Why a run failed, in one readable line."""
    from sot_graph.models import explain

    if isinstance(error, ReviewAbandonedError):
        return "the skeleton was not approved; nothing was written."
    return str(error) if isinstance(error, SotError) else explain(error)
