"""Where coroutines run for synchronous callers, how they end, what bounds them, and what a fork does to all of it."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _ForkAware(Protocol):
    def reset_in_child(self) -> None: ...


_fork_aware: weakref.WeakSet[_ForkAware] = weakref.WeakSet()


def reset_after_fork(thing: _ForkAware) -> None:
    """Have `thing.reset_in_child()` called in every child that is forked while it is alive.

    A child must not take over the locks of threads that it doesn't have, nor the counts of its parent's calls.
    """
    _fork_aware.add(thing)


def _reset_in_child() -> None:
    for thing in list(_fork_aware):
        thing.reset_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which doesn't fork
    os.register_at_fork(after_in_child=_reset_in_child)
