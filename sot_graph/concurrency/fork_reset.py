"""What a forked child must not take over: locks of threads that it doesn't have, and counts of its parent's calls."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Has something of one process."""

    def reset_in_child(self) -> None:
        """Begin anew, in a child that has just been forked and has one thread."""


_known: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def reset_after_fork(thing: ForkAware) -> None:
    """Have `thing.reset_in_child()` called in every child that is forked while it is alive."""
    _known.add(thing)


def _reset_all() -> None:
    for thing in list(_known):
        thing.reset_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which doesn't fork
    os.register_at_fork(after_in_child=_reset_all)
