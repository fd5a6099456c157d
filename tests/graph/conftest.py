"""Fixtures for tests of whole graphs."""

import asyncio
from collections.abc import Iterator

import pytest

from sot_graph import astream_answer, stream_answer
from sot_graph.testing import Physics
from tests.support.watched_endpoint import WatchedEndpoint


@pytest.fixture
def endpoint() -> Iterator[WatchedEndpoint]:
    """An endpoint that answers at once."""
    with WatchedEndpoint(physics=Physics.instant()) as running:
        yield running


@pytest.fixture(params=["send", "pipelined"])
def dispatch(request: pytest.FixtureRequest) -> str:
    """Both ways to begin points."""
    return str(request.param)


@pytest.fixture(params=["stream_answer", "astream_answer"])
def chunks_of(request):
    """All chunks of a stream, sync or async; without an input, of the module's `ASK`."""
    asked = getattr(request.module, "ASK", None)

    async def read(graph, given=asked, config=None, context=None, **kwargs):
        if request.param == "stream_answer":
            return await asyncio.to_thread(lambda: list(stream_answer(graph, given, config, context, **kwargs)))
        return [text async for text in astream_answer(graph, given, config, context, **kwargs)]

    return read
