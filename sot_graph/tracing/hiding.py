"""Whether a tracer's client hides what goes in or comes out: then no title may stand in a name, nor in metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["hides_content", "replicas_hide_content"]


def hides_content(tracer: Any) -> bool:
    """Whether anything of a run's content is hidden from where this tracer sends it.

    A client that hides a part, by a function or an anonymizer, counts as one that hides all: names don't pass through
    either.
    """
    client = getattr(tracer, "client", None)
    return client is not None and _hides(client)


def replicas_hide_content(runs: Iterable[Any]) -> bool:
    """The same for the further clients that a run is sent to."""
    return any(
        _hides(replica["client"])
        for run in runs
        for replica in getattr(run, "replicas", None) or ()
        if replica.get("client") is not None
    )


def _hides(client: Any) -> bool:
    # The client has no public word for this. Where it can't be told, content counts as hidden.
    hidden = (getattr(client, name, True) for name in ("_hide_inputs", "_hide_outputs"))
    return any(value is not False for value in hidden) or getattr(client, "_anonymizer", True) is not None
