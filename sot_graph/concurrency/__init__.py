"""Where coroutines run for synchronous callers, how they end, what bounds them, and what a fork does to all of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import weakref
from contextlib import suppress
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any, Protocol

_LEAD_TOO_FAR = (type, ModuleType, FunctionType, BuiltinFunctionType, FrameType, logging.Logger, str, bytes)
_BELONG_TO_A_LOOP = (asyncio.AbstractEventLoop, asyncio.BaseTransport)
_MOST_HELD = 200_000
"""Objects that are looked at, in some 0.2 s. A client of boto3's holds 56,000."""


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


def cut_inherited_connections(holder: object) -> None:
    """In a forked child: let no connection that the parent opened be used here, of whatever library its client is.

    Two processes that write to one connection read each other's replies. So in this process each such socket gets a
    peer that has left: the client finds its connection closed, and opens another. The parent's stays as it is. Those of
    an event loop are left alone: a child has loops of its own, and clients for them.

    Args:
        holder: What holds a client, or holds something that does.
    """
    seen: dict[int, object] = {}
    waiting: list[Any] = [holder]
    while waiting and len(seen) < _MOST_HELD:
        held = waiting.pop()
        if id(held) in seen or isinstance(held, (*_LEAD_TOO_FAR, *_BELONG_TO_A_LOOP)):
            continue
        seen[id(held)] = held
        if not isinstance(held, socket.socket):
            waiting += gc.get_referents(held)
            continue
        with suppress(OSError):
            if held.type == socket.SOCK_STREAM and held.getpeername() is not None:  # which raises, of one that listens
                ours, theirs = socket.socketpair()
                theirs.close()
                with ours:
                    os.dup2(ours.fileno(), held.fileno(), inheritable=False)
