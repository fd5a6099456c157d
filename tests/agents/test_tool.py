"""The graph as a tool: of `create_agent`, of LangGraph's own agents, and called by itself."""

import asyncio
import json
from collections import defaultdict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import ToolException
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from sot_graph import (
    AnswerReader,
    SotConfigError,
    SotOptions,
    SotOutput,
    astream_answer,
    create_sot_graph,
    create_sot_tool,
    stream_answer,
)
from sot_graph.testing import Fault, Reply, ScriptedChatModel, Status, ToolCall, answer_skeleton_of_thought
from tests.support.chat_requests import one_point

THREAD = {"configurable": {"thread_id": "1"}}
ASKED = {"messages": [HumanMessage("Write about plants.", id="1")]}
CALL = {"name": "write_long_answer", "args": {"question": "How do plants grow?"}, "id": "c1", "type": "tool_call"}


def has_result(request):
    return any(message.get("role") == "tool" for message in request.messages)


@pytest.fixture
def model(endpoint):
    """Calls the tool once for each question of the user's message, then says that it is done."""
    write = endpoint.responder

    def respond(request):
        if not request.tools:
            return write(request)
        if has_result(request):
            return Reply("There you are.")
        return Reply(
            tool_calls=[
                ToolCall("write_long_answer", {"question": part.strip()}) for part in request.last_user.split(" and ")
            ]
        )

    endpoint.responder = respond
    return endpoint.chat_model()


@pytest.fixture
def sot(model):
    return create_sot_graph(model)


async def test_the_answer_is_the_content_and_the_result_is_the_artifact(run, sot):
    message = await run(create_sot_tool(sot), CALL)
    assert isinstance(message, ToolMessage)
    assert message.status == "success"
    assert message.content == message.artifact["answer"]
    assert [expansion["status"] for expansion in message.artifact["expansions"]] == ["ok"] * 3
    assert message.artifact["usage"]["total"]["calls"] == 4
    assert set(message.artifact) == set(SotOutput.__annotations__) - {"messages"}
    json.dumps(message.artifact)


async def test_an_agent_hands_the_question_over(run, model, sot, endpoint):
    agent = create_agent(model, [create_sot_tool(sot)])
    result = await run(agent, ASKED)
    kinds = [message.type for message in result["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"]
    assert result["messages"][2].content.startswith("**1. ")
    assert result["messages"][2].artifact["route"] == "skeleton"
    assert len(endpoint.requests) == 2 + 4


async def test_returned_directly_the_model_does_not_read_it_again(run, model, sot, endpoint):
    agent = create_agent(model, [create_sot_tool(sot, return_direct=True)])
    result = await run(agent, ASKED)
    assert [message.type for message in result["messages"]] == ["human", "ai", "tool"]
    assert len(endpoint.requests) == 1 + 4


async def test_the_points_are_written_together_in_a_tool_too(run, model, sot, endpoint):
    agent = create_agent(model, [create_sot_tool(sot)])
    with endpoint.hold(3, one_point) as held:
        await run(agent, ASKED)
        assert held.complete


@pytest.mark.parametrize("stream", ["stream_answer", "astream_answer"])
async def test_the_answer_streams_through_the_agent_in_reading_order(model, sot, stream):
    agent = create_agent(model, [create_sot_tool(sot)], checkpointer=InMemorySaver())
    if stream == "stream_answer":
        text = "".join(await asyncio.to_thread(lambda: list(stream_answer(agent, ASKED, THREAD))))
    else:
        text = "".join([text async for text in astream_answer(agent, ASKED, THREAD)])
    assert text == (await agent.aget_state(THREAD)).values["messages"][2].content


async def test_a_page_that_wants_the_tools_result_alone_has_the_graph_keep_silent(model, sot):
    agent = create_agent(model, [create_sot_tool(sot.with_config(tags=["nostream"]))], checkpointer=InMemorySaver())
    shown = [message async for message, _ in agent.astream(ASKED, THREAD, stream_mode="messages")]
    kept = (await agent.aget_state(THREAD)).values["messages"]
    assert {message.id for message in shown if message.text} <= {message.id for message in kept}
    assert "".join(message.text for message in shown).count("**1. ") == 1


@pytest.mark.parametrize("by", ["create_agent", "ToolNode"])
async def test_two_calls_in_one_turn_are_two_answers_told_apart(model, sot, endpoint, by):
    tool = create_sot_tool(sot)
    given = {"messages": [HumanMessage("Write about plants. and Write about tides.")]}
    agent = agent_by(by, model, tool)
    readers, texts = defaultdict(AnswerReader), defaultdict(str)
    with endpoint.hold(6, one_point) as together:
        async for namespace, event in agent.astream(given, stream_mode="custom", subgraphs=True):
            texts[namespace] += readers[namespace].feed(event)
        assert together.complete
    result = await agent.ainvoke(given)
    contents = [message.content for message in result["messages"] if message.type == "tool"]
    assert len(contents) == 2
    assert sorted(texts.values()) == sorted(contents)


def agent_by(kind, model, tool):
    return create_agent(model, [tool]) if kind == "create_agent" else _agent_of_langgraph(model, tool)


def _agent_of_langgraph(model, tool):
    """As LangGraph's own tutorials build one."""

    call_model = (lambda state: state["messages"]) | model.bind_tools([tool]) | (lambda reply: {"messages": [reply]})
    builder = StateGraph(MessagesState)
    builder.add_node("model", call_model)
    builder.add_node("tools", ToolNode([tool]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges(
        "model", lambda state: "tools" if state["messages"][-1].tool_calls else "__end__", ["tools", "__end__"]
    )
    builder.add_edge("tools", "model")
    return builder.compile()


async def test_an_agent_that_is_cut_off_goes_on_with_the_missing_points(model, sot, endpoint, saver, cut_off):
    agent = create_agent(model, [create_sot_tool(sot)], checkpointer=saver)
    await cut_off(agent, ASKED, THREAD, is_held=lambda request: "<point>2. " in request.last_user, kept=2)
    result = await agent.ainvoke(None, THREAD)
    assert [one_point(logged.request) for logged in endpoint.requests] == [True, False]  # the point, the last word
    assert result["messages"][2].artifact["usage"]["total"]["calls"] == 4


async def test_a_review_stops_the_agent_and_its_answer_lets_it_go_on(model, saver, endpoint):
    sot = create_sot_graph(model, options=SotOptions(review_skeleton=True))
    agent = create_agent(model, [create_sot_tool(sot)], checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    assert (await agent.aget_state(THREAD)).interrupts[0].value["type"] == "sot.review"
    result = await agent.ainvoke(Command(resume=["Seed"]), THREAD)
    assert result["messages"][2].content.startswith("**1. Seed**")
    assert len(endpoint.requests) == 2 + 1 + 1


async def test_every_call_hangs_under_the_tool_in_one_trace(model, sot, traced):
    agent = create_agent(model, [create_sot_tool(sot)])
    await agent.ainvoke(ASKED, {"callbacks": [traced]})
    points = [path for path in traced.paths("llm") if path[-2].startswith("expand ")]
    assert len(points) == 3
    assert all(path.index("tools") < path.index("write_long_answer") < len(path) - 2 for path in points)


async def test_what_fails_is_a_message_that_the_model_can_read(run, model, sot, endpoint):
    endpoint.faults = [Fault(Status(400, message="too hot today"), one_point)]
    result = await run(create_agent(model, [create_sot_tool(sot)]), ASKED)
    failed = result["messages"][2]
    assert failed.status == "error"
    assert failed.content.startswith("The answer could not be written: None of the 3 points could be written")
    assert "too hot today" in failed.content
    assert result["messages"][-1].text == "There you are."


def breaks(question, skeleton, expansions):
    raise ValueError("the join has a defect")


@pytest.mark.parametrize("by", ["create_agent", "ToolNode"])
async def test_an_error_that_is_not_ours_is_a_message_too_and_a_traceback_in_the_log(run, model, by, caplog):
    agent = agent_by(by, model, create_sot_tool(create_sot_graph(model, join=breaks)))
    failed, last = (await run(agent, ASKED))["messages"][2:]
    assert failed.status == "error"
    assert failed.content == "The answer could not be written: ValueError: the join has a defect"
    assert last.text == "There you are."
    told = next(record for record in caplog.records if record.message.startswith("The tool write_long_answer failed"))
    assert told.exc_info[1].args == ("the join has a defect",)


async def test_an_error_is_raised_where_the_tool_is_told_to(run, model):
    tool = create_sot_tool(create_sot_graph(model, join=breaks))
    tool.handle_tool_error = False
    with pytest.raises(ToolException, match="the join has a defect") as caught:
        await run(create_agent(model, [tool]), ASKED)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("by", ["create_agent", "ToolNode"])
async def test_a_cancelled_agent_is_cancelled_and_no_tool_fails(model, sot, endpoint, by, caplog):
    agent = agent_by(by, model, create_sot_tool(sot))
    with endpoint.hold(4, one_point):
        running = asyncio.create_task(agent.ainvoke(ASKED))
        await endpoint.wait_for_async(lambda log: sum(one_point(logged.request) for logged in log) == 3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert "failed" not in caplog.text


async def test_a_review_that_nobody_can_answer_is_an_error_and_no_empty_answer(run, model):
    sot = create_sot_graph(model, options=SotOptions(review_skeleton=True), checkpointer=InMemorySaver())
    message = await run(create_sot_tool(sot), CALL, THREAD)
    assert message.status == "error"
    assert "waits for a person" in message.content


async def test_an_empty_answer_is_an_error(run, model):
    message = await run(create_sot_tool(create_sot_graph(model, join=lambda *_: " ")), CALL)
    assert message.status == "error"


async def test_a_call_without_a_question_is_a_message_that_the_model_can_read(run, sot):
    for arguments in ({}, {"question": ""}, {"query": "How?"}):
        message = await run(create_sot_tool(sot), {**CALL, "args": arguments})
        assert message.status == "error"
        assert message.content.startswith("The arguments are wrong: question: ")


def test_name_and_description_are_what_the_model_sees(sot):
    tool = create_sot_tool(sot, name="explain", description="Explains.")
    assert (tool.name, tool.description) == ("explain", "Explains.")
    assert list(tool.tool_call_schema.model_json_schema()["properties"]) == ["question"]


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, None])
def test_a_name_that_no_provider_takes_is_refused(sot, name):
    with pytest.raises(SotConfigError, match="letters, digits"):
        create_sot_tool(sot, name=name)


def test_what_is_no_graph_with_a_question_and_an_answer_is_refused():
    other = StateGraph(MessagesState)
    other.add_node("nothing", lambda _: {})
    other.add_edge(START, "nothing")
    model = ScriptedChatModel(answer_skeleton_of_thought())
    for wrong in (other.compile(), model, None):
        with pytest.raises(SotConfigError, match="takes a compiled graph"):
            create_sot_tool(wrong)
