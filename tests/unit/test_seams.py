"""What is left of each feature where the private thing that it stands on is gone: slower or plainer, never wrong."""

import asyncio
import gc
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command
from langsmith import Client
from typing_extensions import TypedDict

from sot_graph import SotConfigError, SotOptions, _seams, create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

ASK = {"question": "How do plants grow?"}
TITLES = ["Seed", "Soil", "Sun"]


def graph_of(**kwargs: Any) -> Any:
    model = ScriptedChatModel(answer_skeleton_of_thought(TITLES, "All about {title}."))
    return create_sot_graph(model, **kwargs)


# --- somebody_listens ---


def do_nothing(_: Any) -> None:
    pass


class Writer:
    """A writer of which can't be told what it does."""

    def __call__(self, _: Any) -> None:
        pass


def test_a_writer_that_does_nothing_is_known_and_any_other_counts_as_listened_to():
    assert not _seams.somebody_listens(Runtime(stream_writer=do_nothing))
    assert _seams.somebody_listens(Runtime(stream_writer=Writer()))
    assert _seams.somebody_listens(Runtime(stream_writer=[].append))


async def test_where_streaming_handlers_are_not_known_langchain_streams_to_them_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(_seams, "_STREAMS", "of_another_name")
    pieces = [chunk async for chunk, _ in graph_of().astream(ASK, stream_mode="messages")]
    assert sum(isinstance(piece, AIMessageChunk) for piece in pieces) > len(TITLES)


# --- has_checkpointer, without_checkpointer ---


@pytest.fixture
def no_checkpointer_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_seams, "_CHECKPOINTER", "of_another_name")


def test_a_checkpointer_is_known():
    graph = graph_of(options=SotOptions(review_skeleton=True), checkpointer=InMemorySaver())
    assert "__interrupt__" in graph.invoke(ASK, {"configurable": {"thread_id": "1"}})
    with pytest.raises(SotConfigError, match="checkpointer"):
        graph_of(options=SotOptions(review_skeleton=True)).invoke(ASK, {"configurable": {"thread_id": "1"}})


async def test_where_it_is_not_known_its_thread_is_and_a_review_goes_on(no_checkpointer_key: None, run: Any):
    graph = graph_of(options=SotOptions(review_skeleton=True), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    assert "__interrupt__" in await run(graph, ASK, config)
    result = await run(graph, Command(resume=True), config)
    assert [point["status"] for point in result["expansions"]] == ["ok"] * 3
    with pytest.raises(SotConfigError, match="checkpointer"):
        await run(graph_of(options=SotOptions(review_skeleton=True)), ASK)


@pytest.mark.parametrize("key", ["_RESUMING", "_SCRATCHPAD"])
async def test_where_a_resumed_run_can_not_be_told_a_node_with_its_own_thread_ends_as_langgraph_has_it(
    monkeypatch: pytest.MonkeyPatch, run: Any, key: str
):
    monkeypatch.setattr(_seams, key, "of_another_name")
    builder = StateGraph(MessagesState)
    builder.add_node("answer", graph_of(checkpointer=True))
    builder.add_edge(START, "answer")
    parent = builder.compile(checkpointer=InMemorySaver(), interrupt_before=["answer"])
    config = {"configurable": {"thread_id": "1"}}
    for question in ("Why?", "And then?"):
        await run(parent, {"messages": [("user", question)]}, config)
        result = await run(parent, None, config)
    assert [message.type for message in result["messages"]] == ["human", "ai", "human"]


class Given(TypedDict):
    point: dict[str, Any]
    text: str


async def test_where_it_can_not_be_taken_away_an_agent_in_a_point_works_all_the_same(no_checkpointer_key: None):
    async def write(given: Given) -> dict[str, str]:
        return {"text": f"By an agent: {given['point']['title']}."}

    builder = StateGraph(Given)
    builder.add_node("write", write)
    builder.add_edge(START, "write")
    graph = graph_of(expander=builder.compile(), checkpointer=InMemorySaver())
    result = await graph.ainvoke(ASK, {"configurable": {"thread_id": "1"}})
    assert [point["text"] for point in result["expansions"]] == [f"By an agent: {title}." for title in TITLES]


# --- client_hides_content ---


def test_a_client_that_says_nothing_of_hiding_counts_as_one_that_hides():
    client = Client(api_key="any", api_url="http://127.0.0.1:9", auto_batch_tracing=False)
    assert not _seams.client_hides_content(client)
    assert _seams.client_hides_content(SimpleNamespace())
    for name in ("_hide_inputs", "_hide_outputs", "_anonymizer"):
        said = {"_hide_inputs": False, "_hide_outputs": False, "_anonymizer": None}
        assert not _seams.client_hides_content(SimpleNamespace(**said))
        del said[name]
        assert _seams.client_hides_content(SimpleNamespace(**said))


# --- in_class ---


class OfAnotherLayout(dict[str, Any]):
    """A class that Python gives to no other object."""


async def test_where_its_class_can_not_be_set_a_graph_works_as_it_was_compiled(
    monkeypatch: pytest.MonkeyPatch, run: Any
):
    assert type(graph_of()) is not CompiledStateGraph
    monkeypatch.setattr("sot_graph.graph._SotGraph", OfAnotherLayout)
    graph = graph_of()
    assert type(graph) is CompiledStateGraph
    result = await run(graph, ASK)
    assert [point["status"] for point in result["expansions"]] == ["ok"] * 3
    assert any(graph.stream(ASK, stream_mode="custom"))


# --- abandon_tasks ---


def without_the_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(asyncio, "_unregister_task")


def without_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info >= (3, 12):
        pytest.skip("a task's context is public")
    monkeypatch.setattr(gc, "get_referents", lambda *_: [])


@pytest.mark.parametrize("take_away", [without_the_register, without_contexts])
async def test_where_tasks_can_not_be_abandoned_only_the_loops_end_waits_for_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, take_away: Any
):
    take_away(monkeypatch)
    released = asyncio.Event()

    async def write(given: Any) -> str:
        while given["point"]["index"] == 2 and not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
            raise ValueError("nobody listens")
        return "Text."

    graph = graph_of(expander=write, options=SotOptions(point_timeout=0.3))
    try:
        result = await graph.ainvoke(ASK)
        assert [point["status"] for point in result["expansions"]] == ["ok", "timed_out", "ok"]
        assert len([record for record in caplog.records if "goes on" in record.message]) == 1
        waited_for = asyncio.all_tasks() - {asyncio.current_task()}
        assert waited_for
    finally:
        released.set()
    await asyncio.wait(waited_for)
    waited_for.clear()
    gc.collect()
    assert "never retrieved" not in caplog.text
