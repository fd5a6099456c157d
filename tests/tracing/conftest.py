"""What these tests share: LangSmith's real client, sending to a recorder on this machine."""

import asyncio
from collections.abc import Iterator

import pytest
from langchain_core.tracers import LangChainTracer
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from sot_graph import astream_answer
from sot_graph.observability.langsmith_log_filter import quiet_langsmith
from sot_graph.testing import Physics, SkeletonResponder
from tests.support.trace_recorder import TraceRecorder
from tests.support.watched_endpoint import WatchedEndpoint


@pytest.fixture(autouse=True)
def no_outages_of_before() -> None:
    """A recorder may have the port of one that failed for an earlier test: its outage has been told then."""
    quiet_langsmith().reset_in_child()


@pytest.fixture
def endpoint() -> Iterator[WatchedEndpoint]:
    responder = SkeletonResponder(points=3, words_per_point=8)
    with WatchedEndpoint(responder, physics=Physics.instant()) as running:
        yield running


@pytest.fixture
def recorder() -> Iterator[TraceRecorder]:
    with TraceRecorder() as running:
        yield running


@pytest.fixture
def config(recorder: TraceRecorder) -> dict:
    """Traces to the recorder."""
    return {"callbacks": [LangChainTracer(client=recorder.client())]}


async def _invoke(graph, given, config):
    return await asyncio.to_thread(graph.invoke, given, config)


async def _ainvoke(graph, given, config):
    return await graph.ainvoke(given, config)


async def _stream(graph, given, config):
    def last():
        return [
            data for mode, data in graph.stream(given, config, stream_mode=["custom", "values"]) if mode == "values"
        ]

    return (await asyncio.to_thread(last))[-1]


async def _astream(graph, given, config):
    parts = graph.astream(given, config, stream_mode=["custom", "values"])
    return [data async for mode, data in parts if mode == "values"][-1]


async def _astream_answer(graph, given, config):
    answer = "".join([text async for text in astream_answer(graph, given, config)])
    return {"answer": answer}


MODES = {
    "invoke": _invoke,
    "ainvoke": _ainvoke,
    "stream": _stream,
    "astream": _astream,
    "astream_answer": _astream_answer,
}


@pytest.fixture
def ways_to_run():
    """Every way: `await way(graph, given, config)` gives at least the answer."""
    return list(MODES.values())


@pytest.fixture(params=[name for name in MODES if name != "astream_answer"])
def run(request):
    """A run of a graph to its result: `await run(graph, given, config)`."""
    return MODES[request.param]


@pytest.fixture(params=["invoke", "ainvoke"])
def run_whole(request):
    """The same, never streamed."""
    return MODES[request.param]


class _TextFile(SingleFileSnapshotExtension):
    file_extension = "txt"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def text_snapshot(snapshot):
    """A snapshot in a text file of its own, to be read."""
    return snapshot.use_extension(_TextFile)
