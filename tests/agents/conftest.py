"""What these tests share: an endpoint, a saver that tells what it keeps, and a tracer in memory."""

import asyncio
from collections.abc import Iterator

import pytest
from langchain_core.tracers.base import BaseTracer
from langchain_openai.chat_models import _client_utils
from langgraph.checkpoint.memory import InMemorySaver

from sot_graph.testing import Physics, SkeletonResponder
from tests.support.watched_endpoint import WatchedEndpoint


@pytest.fixture(autouse=True)
def no_client_of_an_earlier_loop() -> None:
    """A hack: LangChain keeps an HTTP client for each address as long as the process runs.

    An endpoint may get the port of an earlier test's. Then the agent's own call would ride on a connection of that
    test's event loop, which is closed.
    """
    _client_utils._cached_async_httpx_client.cache_clear()


class PassingEndpoint(WatchedEndpoint):
    """Its connections end with their answers: an agent calls a model of LangChain's, which would never close one."""

    def chat_model(self, **kwargs):
        return super().chat_model(**{"default_headers": {"Connection": "close"}, **kwargs})


@pytest.fixture
def endpoint() -> Iterator[WatchedEndpoint]:
    """An endpoint that answers at once, with three points."""
    responder = SkeletonResponder(points=3, words_per_point=12)
    with PassingEndpoint(responder, physics=Physics.instant()) as running:
        yield running


class TellingSaver(InMemorySaver):
    """Tells when so many points have been kept: only then is it sure that they are not paid for twice."""

    def __init__(self):
        super().__init__()
        self.kept = 0
        self._wanted = 0
        self._there = asyncio.Event()

    async def aput_writes(self, config, writes, task_id, task_path=""):
        await super().aput_writes(config, writes, task_id, task_path)
        self.kept += sum(channel == "expansions" and isinstance(value, list) for channel, value in writes)
        if self.kept >= self._wanted:
            self._there.set()

    async def wait_for(self, points):
        self._wanted = points
        if self.kept < points:
            self._there.clear()
        async with asyncio.timeout(20):
            while self.kept < points:
                await self._there.wait()


@pytest.fixture
def saver() -> TellingSaver:
    return TellingSaver()


@pytest.fixture
def cut_off(endpoint, saver):
    """Cancels a run in mid fan-out, with these points held and so many others kept, and clears the log."""

    async def run_until_then(graph, given, config, *, is_held, kept):
        with endpoint.hold(20, is_held):
            running = asyncio.create_task(graph.ainvoke(given, config))
            await saver.wait_for(points=kept)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        await endpoint.wait_for_async(lambda log: all(logged.outcome for logged in log))
        asked_for = [logged.request for logged in endpoint.requests]
        endpoint.reset()
        return asked_for

    return run_until_then


class RunTree(BaseTracer):
    """Every run of a trace, with the names of the runs that it hangs under."""

    def __init__(self):
        super().__init__()
        self.runs = {}

    def _persist_run(self, run):
        pass

    def _start_trace(self, run):
        super()._start_trace(run)
        self.runs[run.id] = run

    def paths(self, run_type):
        """For each run of a kind: the names from the root down to it."""
        return [self._path(run) for run in self.runs.values() if run.run_type == run_type]

    def _path(self, run):
        above = self._path(self.runs[run.parent_run_id]) if run.parent_run_id else []
        return [*above, run.name]


@pytest.fixture
def traced() -> RunTree:
    return RunTree()
