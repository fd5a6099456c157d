"""What comes of a model until the deadline, whether it is waited for in a thread or on an event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Clock", "OutOfTimeError", "ain_time", "in_time"]

T = TypeVar("T")


class OutOfTimeError(Exception):
    """The deadline is over, and the next piece isn't there."""


class Clock:
    """The time of one answer.

    Args:
        seconds: How long it may take from now on; `None`: no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._started = time.monotonic()

    def left(self) -> float | None:
        """The seconds that are left; `None`: no limit."""
        return None if self.seconds is None else max(0.0, self._started + self.seconds - time.monotonic())


@dataclass(frozen=True)
class _Piece(Generic[T]):
    value: T


def in_time(pieces: Iterator[T], clock: Clock) -> Generator[T]:
    """The pieces that come in time.

    Where there is a deadline, they are got in a thread of their own. It can't be ended from outside: one that is late
    is given up, and ends with its next piece.

    Raises:
        OutOfTimeError: The deadline is over.
    """
    if clock.left() is None:
        yield from pieces
        return
    arrived: queue.SimpleQueue[_Piece[T] | BaseException | None] = queue.SimpleQueue()
    is_given_up = threading.Event()

    def get_them() -> None:
        try:
            for piece in pieces:
                if is_given_up.is_set():
                    break
                arrived.put(_Piece(piece))
        except BaseException as error:  # noqa: BLE001  (raised again where it is waited for)
            arrived.put(error)
        else:
            arrived.put(None)

    threading.Thread(target=copy_context().run, args=(get_them,), name="sot_graph-agent", daemon=True).start()
    try:
        while (came := _get(arrived, clock)) is not None:
            yield came.value
    finally:
        is_given_up.set()


def _get(arrived: queue.SimpleQueue[_Piece[T] | BaseException | None], clock: Clock) -> _Piece[T] | None:
    try:
        came = arrived.get(timeout=clock.left())
    except queue.Empty:
        raise OutOfTimeError from None
    if isinstance(came, BaseException):
        raise came
    return came


async def ain_time(pieces: AsyncGenerator[T], clock: Clock) -> AsyncGenerator[T]:
    """The same on an event loop, where a piece that is late is cancelled."""
    async with aclosing(pieces):
        while True:
            # Around each piece, not around all of them: between two of them the reader's own code runs.
            try:
                async with asyncio.timeout(clock.left()) as timer:
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if timer.expired():
                    raise OutOfTimeError from None
                raise
            yield piece
