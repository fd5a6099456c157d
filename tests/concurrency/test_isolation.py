"""A generator that is left before its end."""

import asyncio

import pytest

from sot_graph.concurrency.isolation import closing_chain


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
