"""Events, and the answer in reading order, from real graphs."""

import asyncio
import json
import warnings
from contextlib import aclosing, closing

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

from sot_graph import (
    ExpansionError,
    SotConfigError,
    SotOptions,
    astream_answer,
    create_sot_graph,
    join_plain,
    stream_answer,
)
from sot_graph.testing import (
    Fault,
    HangUp,
    Reply,
    ScriptedChatModel,
    SkeletonResponder,
    Stall,
    Status,
    ToolCall,
    answer_skeleton_of_thought,
)
from tests.support.chat_requests import one_point, point_number

ASK = {"question": "How do plants grow?"}


async def events_of(graph, given=ASK, config=None):
    return [event async for event in graph.astream(given, config, stream_mode="custom")]


async def test_a_run_tells_its_events_in_order(endpoint):
    endpoint.responder = SkeletonResponder(points=3)
    events = await events_of(create_sot_graph(endpoint.chat_model()))
    json.dumps(events)
    kinds = [event["type"] for event in events]
    assert kinds[0] == "sot.skeleton"
    assert kinds[-1] == "sot.answer"
    for index in (1, 2, 3):
        own = [event["type"] for event in events if event.get("index") == index]
        assert own[0] == "sot.point.start"
        assert set(own[1:-1]) == {"sot.point.delta"}
        assert own[-1] == "sot.point.end"


async def test_the_deltas_of_a_point_joined_are_its_text(endpoint):
    graph = create_sot_graph(endpoint.chat_model())
    events = await events_of(graph)
    result = await graph.ainvoke(ASK)
    for expansion in result["expansions"]:
        deltas = [
            event["text"]
            for event in events
            if event["type"] == "sot.point.delta" and event["index"] == expansion["index"]
        ]
        assert "".join(deltas) == expansion["text"]


async def test_a_model_that_cannot_stream_sends_one_delta_a_point():
    class Whole(ScriptedChatModel):
        def __init__(self):
            super().__init__(answer_skeleton_of_thought(points=3), disable_streaming=True)

    events = await events_of(create_sot_graph(Whole()))
    assert [event["index"] for event in events if event["type"] == "sot.point.delta"].count(1) == 1


async def test_messages_mode_tells_stage_and_point_of_every_chunk(endpoint):
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(messages="calls"))
    points = set()
    async for chunk, metadata in graph.astream(ASK, stream_mode="messages"):
        if isinstance(chunk, AIMessageChunk) and metadata["langgraph_node"] == "expand_point":
            assert metadata["sot_stage"] == "expansion"
            points.add(metadata["sot_point_index"])
    assert points == set(range(1, 9))


async def test_the_chunks_joined_are_the_answer(chunks_of, endpoint):
    # Without a delay each piece is sent by itself, however slow the machine is.
    graph = create_sot_graph(endpoint.chat_model(), join=join_plain, options=SotOptions(stream_max_delay=0.0))
    chunks = await chunks_of(graph)
    assert "".join(chunks) == (await graph.ainvoke(ASK))["answer"]
    assert len(chunks) > 8


async def test_a_model_with_tools_of_the_callers_streams_its_text_and_no_calls_arguments(endpoint):
    def respond(request):
        calls = [ToolCall("look_up", {"what": "sky"})] if point_number(2)(request) else []
        return Reply("" if calls else "word " * 60, tool_calls=calls)

    endpoint.responder = respond
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    graph = create_sot_graph(endpoint.chat_model().bind(tools=[tool]), options=SotOptions(stream_max_delay=0.0))
    events = await events_of(graph, {**ASK, "given_skeleton": ["Sun", "Soil"]})
    deltas = [event["index"] for event in events if event["type"] == "sot.point.delta"]
    assert deltas.count(1) > 1
    assert deltas.count(2) == 0


async def test_the_first_title_is_out_before_any_point_is_written(endpoint):
    """Every expansion is held at the endpoint, and the first chunk is there all the same."""
    graph = create_sot_graph(endpoint.chat_model())
    with endpoint.hold(9, one_point) as held:
        async with aclosing(astream_answer(graph, ASK)) as chunks:
            first = await anext(chunks)
            held.release()
    assert first.startswith("**1. ")


async def test_the_first_points_text_flows_while_the_others_are_still_held(endpoint):
    graph = create_sot_graph(endpoint.chat_model())
    others = lambda request: one_point(request) and not point_number(1)(request)  # noqa: E731
    with endpoint.hold(8, others) as held:
        text = ""
        async with aclosing(astream_answer(graph, ASK)) as chunks:
            async for chunk in chunks:
                text += chunk
                if "**2. " in text:
                    break
            assert not held.complete
    assert text.startswith("**1. ")


@pytest.mark.parametrize("on_point_failure", ["mark", "skip"])
async def test_failed_points_do_not_break_the_stream(chunks_of, endpoint, on_point_failure):
    endpoint.faults = [Fault(Status(400), point_number(1)), Fault(Status(400), point_number(3))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(on_point_failure=on_point_failure))
    result = await graph.ainvoke(ASK)
    assert [expansion["status"] for expansion in result["expansions"]].count("failed") == 2
    assert "".join(await chunks_of(graph)) == result["answer"]


async def test_a_reply_that_breaks_off_is_gone_on_with_and_nothing_is_taken_back(chunks_of, endpoint):
    endpoint.faults = [
        Fault(HangUp(after_tokens=20), lambda request: point_number(2)(request) and request.stream, times=1)
    ]
    graph = create_sot_graph(endpoint.chat_model(), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    chunks = await chunks_of(graph, ASK, config)
    values = (await graph.aget_state(config)).values
    assert "".join(chunks) == values["answer"]
    assert [expansion["status"] for expansion in values["expansions"]] == ["ok"] * 8
    going_on = [logged for logged in endpoint.requests if "broke off" in logged.request.last_user]
    assert len(going_on) == 1


async def test_a_point_that_stalls_keeps_its_text_and_is_marked_where_it_breaks_off(chunks_of, endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=10), point_number(2))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(point_timeout=2.0), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    chunks = await chunks_of(graph, ASK, config)
    values = (await graph.aget_state(config)).values
    second = values["expansions"][1]
    assert second["status"] == "timed_out"
    assert second["text"]
    assert second["text"] + " … *(This point breaks off here.)*" in values["answer"]
    assert "".join(chunks) == values["answer"]


async def test_with_raise_the_iterator_raises_after_its_last_chunk(chunks_of, endpoint):
    endpoint.faults = [Fault(Status(400), point_number(2))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(on_point_failure="raise"))
    with pytest.raises(ExpansionError, match="2"):
        await chunks_of(graph)
    assert len([logged for logged in endpoint.requests if one_point(logged.request)]) == 8


async def test_a_join_of_ones_own_comes_as_one_chunk_at_the_end(chunks_of, endpoint):
    graph = create_sot_graph(endpoint.chat_model(), join=lambda question, skeleton, expansions: f"{len(expansions)}!")
    assert await chunks_of(graph) == ["8!"]


async def test_a_direct_answer_streams_too(chunks_of):
    graph = create_sot_graph(ScriptedChatModel(lambda messages: "I just talk, and talk on, and on."))
    chunks = await chunks_of(graph)
    assert "".join(chunks) == "I just talk, and talk on, and on."


async def test_a_given_skeleton_with_finished_expansions_streams_the_whole_answer(chunks_of, endpoint):
    graph = create_sot_graph(endpoint.chat_model())
    result = await graph.ainvoke(ASK)
    given = {**ASK, "given_expansions": result["expansions"]}
    assert "".join(await chunks_of(graph, given)) == result["answer"]


async def test_a_resumed_run_yields_the_whole_answer(chunks_of, endpoint):
    endpoint.faults = [Fault(Status(400), point_number(5), times=1)]
    options = SotOptions(on_point_failure="raise")
    graph = create_sot_graph(endpoint.chat_model(), options=options, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    with pytest.raises(ExpansionError):
        await graph.ainvoke(ASK, config)
    snapshot = await graph.aget_state(config)
    healed = await graph.aupdate_state(snapshot.config, {}, as_node="draft_skeleton")
    chunks = await chunks_of(graph, None, healed)
    assert "".join(chunks) == (await graph.aget_state(config)).values["answer"]
    assert "".join(chunks).count("**") == 16


async def test_leaving_the_iterator_early_cancels_the_model_calls(endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=3), one_point)]
    graph = create_sot_graph(endpoint.chat_model())
    async with aclosing(astream_answer(graph, ASK)) as chunks:
        await anext(chunks)
        await anext(chunks)
        await endpoint.wait_for_async(lambda log: len(log) == 9)
    await endpoint.wait_for_async(lambda log: all(logged.outcome for logged in log))
    assert [logged.outcome for logged in endpoint.requests] == ["ok"] + ["client_closed"] * 8


def test_leaving_the_synchronous_iterator_early_cancels_the_model_calls(endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=3), one_point)]
    graph = create_sot_graph(endpoint.chat_model())
    with closing(stream_answer(graph, ASK)) as chunks:
        next(chunks)
        next(chunks)
        endpoint.wait_for(lambda log: len(log) == 9)
    endpoint.wait_for(lambda log: all(logged.outcome for logged in log))
    assert [logged.outcome for logged in endpoint.requests] == ["ok"] + ["client_closed"] * 8


def test_the_synchronous_iterator_works_with_a_synchronous_checkpointer(endpoint, tmp_path):
    with SqliteSaver.from_conn_string(str(tmp_path / "threads.sqlite")) as saver:
        graph = create_sot_graph(endpoint.chat_model(), checkpointer=saver)
        config = {"configurable": {"thread_id": "1"}}
        assert "".join(stream_answer(graph, ASK, config)) == graph.get_state(config).values["answer"]


@pytest.mark.parametrize(("durability", "checkpoints"), [(None, 5), ("exit", 1)])
async def test_a_runs_durability_is_the_callers(chunks_of, endpoint, durability, checkpoints):
    saver = InMemorySaver()
    graph = create_sot_graph(endpoint.chat_model(), checkpointer=saver)
    config = {"configurable": {"thread_id": "1"}}
    chunks = await chunks_of(graph, ASK, config, durability=durability)
    assert "".join(chunks) == graph.get_state(config).values["answer"]
    assert len(list(saver.list(config))) == checkpoints


def parent_of(graph, *names):
    class State(MessagesState, total=False):
        question: str

    builder = StateGraph(State)
    for name in names:
        builder.add_node(name, graph)
        builder.add_edge(START, name)
    return builder.compile()


async def test_a_parents_answer_is_read_through_it(chunks_of, endpoint):
    parent = parent_of(create_sot_graph(endpoint.chat_model()), "answer")
    given = {"messages": [HumanMessage("How do plants grow?")]}
    assert "".join(await chunks_of(parent, given)) == (await parent.ainvoke(given))["messages"][-1].text


async def test_two_sot_nodes_need_a_name(chunks_of, endpoint):
    parent = parent_of(create_sot_graph(endpoint.chat_model()), "essay", "summary")
    given = {"messages": [HumanMessage("How do plants grow?")]}
    with pytest.raises(SotConfigError, match=r"essay.*summary"):
        await chunks_of(parent, given)
    assert "".join(await chunks_of(parent, given, node="summary")).startswith("**1. ")
    with pytest.raises(SotConfigError, match="No SoT node 'sumary'"):
        await chunks_of(parent, given, node="sumary")


async def test_a_run_stream_has_the_answer_as_a_projection(endpoint):
    graph = create_sot_graph(endpoint.chat_model())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangGraph calls event streaming beta
        async with await graph.astream_events(ASK, version="v3") as run:
            chunks = [text async for text in run.answer]
    assert "".join(chunks) == (await graph.ainvoke(ASK))["answer"]


async def test_a_parent_can_name_the_projection_for_itself(endpoint):
    from sot_graph import AnswerTransformer

    parent = parent_of(create_sot_graph(endpoint.chat_model()), "answer")
    given = {"messages": [HumanMessage("How do plants grow?")]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        async with await parent.astream_events(given, version="v3", transformers=[AnswerTransformer]) as run:
            chunks = [text async for text in run.answer]
    assert "".join(chunks) == (await parent.ainvoke(given))["messages"][-1].text


def expansions_streamed(endpoint):
    streamed = {logged.request.stream for logged in endpoint.requests if one_point(logged.request)}
    endpoint.reset()
    assert len(streamed) == 1
    return streamed.pop()


async def test_replies_are_streamed_only_when_somebody_listens(endpoint):
    """Holds `somebody_listens` against the installed LangGraph, one way of running after another."""
    graph = create_sot_graph(endpoint.chat_model())
    parent = parent_of(graph, "answer")
    asked = {"messages": [HumanMessage("How do plants grow?")]}

    async def drain(stream):
        async for _ in stream:
            pass

    await graph.ainvoke(ASK)
    assert not expansions_streamed(endpoint)
    await asyncio.to_thread(graph.invoke, ASK)
    assert not expansions_streamed(endpoint)
    for silent in ("values", "updates", ["values", "tasks"]):
        await drain(graph.astream(ASK, stream_mode=silent))
        assert not expansions_streamed(endpoint)
    for listening in ("custom", "messages", ["updates", "custom"]):
        await drain(graph.astream(ASK, stream_mode=listening))
        assert expansions_streamed(endpoint)
    await parent.ainvoke(asked)
    assert not expansions_streamed(endpoint)
    await drain(parent.astream(asked, stream_mode="updates", subgraphs=True))
    assert not expansions_streamed(endpoint)
    await drain(parent.astream(asked, stream_mode="custom", subgraphs=True))
    assert expansions_streamed(endpoint)
    await asyncio.to_thread(lambda: list(graph.stream(ASK, stream_mode="custom")))
    assert expansions_streamed(endpoint)
    await drain(astream_answer(graph, ASK))
    assert expansions_streamed(endpoint)
    await drain(graph.astream_events(ASK, version="v2"))
    assert expansions_streamed(endpoint)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_option_decides_where_it_is_not_auto(endpoint, stream):
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(stream=stream))
    await graph.ainvoke(ASK)
    assert expansions_streamed(endpoint) is stream
    assert "".join([text async for text in astream_answer(graph, ASK)]).startswith("**1. ")


async def test_a_streamed_run_counts_the_same_tokens(endpoint):
    silent = await create_sot_graph(endpoint.chat_model()).ainvoke(ASK)
    streamed = await create_sot_graph(endpoint.chat_model(), options=SotOptions(stream=True)).ainvoke(ASK)
    assert streamed["usage"] == silent["usage"]
    assert all("first_token" in point for point in streamed["timings"]["points"])


class PiecesModel(BaseChatModel):
    """Streams its reply in these pieces."""

    pieces: list[str]

    @property
    def _llm_type(self) -> str:
        return "pieces"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=AIMessage("".join(self.pieces)))])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for piece in self.pieces:
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))


def test_a_character_that_comes_in_two_halves_is_whole():
    graph = create_sot_graph(PiecesModel(pieces=["Well \ud83d", "\ude00 done"]), join=join_plain)
    given = {"question": "How do plants grow?", "given_skeleton": ["Seed"]}
    assert "".join(stream_answer(graph, given)) == "1. Seed: Well 😀 done"


def test_a_chain_that_ends_in_plain_strings_is_a_model_too():
    chain = PiecesModel(pieces=["Some ", "text."]) | StrOutputParser()
    graph = create_sot_graph(chain, join=join_plain)
    given = {"question": "How do plants grow?", "given_skeleton": ["Seed"]}
    assert "".join(stream_answer(graph, given)) == graph.invoke(given)["answer"] == "1. Seed: Some text."


def test_a_tool_call_that_nobody_asked_for_is_no_text():
    def respond(messages):
        return AIMessage("Some text.", tool_calls=[{"name": "search", "args": {"query": "x"}, "id": "1"}])

    graph = create_sot_graph(ScriptedChatModel(respond), join=join_plain)
    given = {"question": "How do plants grow?", "given_skeleton": ["Seed"]}
    assert "".join(stream_answer(graph, given)) == graph.invoke(given)["answer"] == "1. Seed: Some text."
