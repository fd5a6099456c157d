"""A generator that is left before its end."""

import asyncio
import threading
from collections.abc import Coroutine

import pytest

from sot_graph.concurrency.cancellation import closing_chain
from sot_graph.concurrency.isolation import call_in_new_thread


class Pieces:
    """A generator that reads from another, as streams of models do, and one that never waits."""

    def __init__(self, waits=True):
        self.waits = waits
        self.ended = []

    async def source(self):
        try:
            for number in range(1_000):
                if number and self.waits:
                    await asyncio.Event().wait()
                yield number
        finally:
            await asyncio.sleep(0)
            self.ended.append("source")

    async def read(self):
        try:
            async for number in self.source():
                yield number
        finally:
            self.ended.append("reader")


async def test_all_below_it_have_ended_and_in_their_order():
    pieces = Pieces()
    stream = pieces.read()
    async with closing_chain(stream):
        assert await anext(stream) == 0
    assert pieces.ended == ["source", "reader"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert asyncio.current_task().cancelling() == 0


async def test_an_error_of_the_blocks_goes_on():
    stream = Pieces().read()
    with pytest.raises(ValueError, match="enough"):
        async with closing_chain(stream):
            raise ValueError("enough")


async def test_one_that_never_waits_ends_too():
    pieces = Pieces(waits=False)
    stream = pieces.read()
    async with closing_chain(stream):
        await anext(stream)
    assert "reader" in pieces.ended


async def test_a_cancellation_in_the_meantime_counts():
    pieces = Pieces()

    async def read():
        stream = pieces.read()
        async with closing_chain(stream):
            await anext(stream)
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.create_task(read()), 5)
    assert pieces.ended == ["source", "reader"]


class Late(Coroutine):
    """A coroutine that tells when it is closed."""

    def __init__(self, closed):
        self.close = closed.set

    def __await__(self):
        raise AssertionError

    send = throw = None


async def test_a_coroutine_that_comes_after_nobody_waits_for_it_is_closed():
    entered, closed, released = asyncio.Event(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def call():
        loop.call_soon_threadsafe(entered.set)
        released.wait(30)
        return Late(closed)

    task = asyncio.create_task(call_in_new_thread(call))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    released.set()
    async with asyncio.timeout(30):
        await closed.wait()
