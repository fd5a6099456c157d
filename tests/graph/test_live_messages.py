"""What those hear who listen to messages: one message, in reading order, wherever the graph stands."""

import asyncio
import gc
import operator
from collections import Counter
from typing import Annotated

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.constants import TAG_NOSTREAM
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send
from typing_extensions import TypedDict

from sot_graph import ExpansionError, SotOptions, create_sot_graph
from sot_graph.agents.tool import create_sot_tool
from sot_graph.testing import Fault, ScriptedChatModel, SkeletonResponder, Status, answer_skeleton_of_thought
from tests.support.chat_requests import point_number

QUESTION = "How do plants grow?"
ASK = {"question": QUESTION}
CHAT = {"messages": [HumanMessage(QUESTION)]}
THREAD = {"configurable": {"thread_id": "1"}}
FAILS = Fault(Status(400), point_number(2))


@pytest.fixture(params=["stream", "astream"])
def heard(request):
    """All that a stream of messages says: `(namespace, message, metadata)`, sync or async."""

    async def listen(graph, given=ASK, config=None, *, subgraphs=False, **kwargs):
        settings = {"stream_mode": "messages", "subgraphs": subgraphs, **kwargs}
        if request.param == "stream":
            parts = await asyncio.to_thread(lambda: list(graph.stream(given, config, **settings)))
        else:
            parts = [part async for part in graph.astream(given, config, **settings)]
        return [(part[0], *part[1]) if subgraphs else ((), *part) for part in parts]

    return listen


def one_message(heard):
    """The text of what was heard, which has to be one streamed message; its end has the usage."""
    messages = [message for _, message, _ in heard]
    assert {type(message) for message in messages} == {AIMessageChunk}
    assert len({message.id for message in messages}) == 1
    assert len({(namespace, metadata["langgraph_node"]) for namespace, _, metadata in heard}) == 1
    assert messages[-1].chunk_position == "last"
    assert messages[-1].usage_metadata["output_tokens"] > 0
    assert all(message.usage_metadata is None for message in messages[:-1])
    assert len([message for message in messages if message.content]) > 3
    return "".join(message.content for message in messages)


def parent_of(graph, **settings):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", graph)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(**settings)


def sot(endpoint, *, points=4, options=None, **kwargs):
    endpoint.responder = endpoint.responder if kwargs.pop("as_it_is", False) else SkeletonResponder(points=points)
    # Without a delay each piece is said by itself, however slow the machine is.
    settings = SotOptions(**{"stream_max_delay": 0.0, "max_retries": 0, **(options or {})})
    return create_sot_graph(endpoint.chat_model(), options=settings, **kwargs)


async def final_text(graph, config=THREAD):
    return (await graph.aget_state(config)).values["messages"][-1].text


OPTIONS = {
    "plain": {},
    "pipelined": {"dispatch": "pipelined"},
    "list": {"skeleton_format": "list"},
    "with a frame": {"frame": "intro+conclusion"},
    "pipelined with a frame": {"dispatch": "pipelined", "frame": "intro+conclusion"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("where", ["at the root", "as a node"])
async def test_one_message_in_reading_order(heard, endpoint, options, where):
    graph = sot(endpoint, options=options, checkpointer=InMemorySaver() if where == "at the root" else None)
    graph = graph if where == "at the root" else parent_of(graph, checkpointer=InMemorySaver())
    said = await heard(graph, CHAT, THREAD)
    assert one_message(said) == await final_text(graph)
    final = (await graph.aget_state(THREAD)).values["messages"][-1]
    assert said[0][1].id == final.id
    assert said[-1][1].usage_metadata == final.usage_metadata
    assert final.name == "sot_graph"


async def test_no_state_comes_amid_the_text_for_pages_show_it_in_its_place(endpoint, dispatch):
    graph = sot(endpoint, options={"dispatch": dispatch})
    modes = []
    async for mode, part in graph.astream(CHAT, stream_mode=["values", "messages"]):
        if mode == "values" or part[0].content:
            modes.append(mode)
    assert modes.count("messages") > 3
    amid = modes[modes.index("messages") : len(modes) - modes[::-1].index("messages")]
    assert set(amid) == {"messages"}


@pytest.mark.parametrize("how", ["mark", "skip"])
@pytest.mark.parametrize("fault", ["a failing point", "none"])
async def test_a_failing_point_is_marked_or_left_out(heard, endpoint, dispatch, how, fault):
    graph = sot(endpoint, options={"on_point_failure": how, "dispatch": dispatch}, checkpointer=InMemorySaver())
    if fault != "none":
        endpoint.faults = [FAILS]
    assert one_message(await heard(graph, ASK, THREAD)) == await final_text(graph)


async def test_where_a_failing_point_raises_what_was_said_stays(endpoint):
    graph = sot(endpoint, options={"on_point_failure": "raise"})
    endpoint.faults = [FAILS]
    texts = []

    async def listen():
        async for message, _ in graph.astream(ASK, stream_mode="messages"):
            texts.append(message.content)

    with pytest.raises(ExpansionError):
        await listen()
    assert "".join(texts).startswith("**1. ")


async def test_dependent_points(heard, endpoint, dispatch):
    endpoint.responder = SkeletonResponder(titles=["Ground", "Walls (needs 1)", "Roof (needs 1)"])
    options = {"dispatch": dispatch, "dependent": "graph"}
    graph = sot(endpoint, options=options, as_it_is=True, checkpointer=InMemorySaver())
    assert one_message(await heard(graph, ASK, THREAD)) == await final_text(graph)


async def test_a_direct_answer(heard, endpoint):
    graph = sot(endpoint, router=lambda *_: "direct", checkpointer=InMemorySaver())
    assert one_message(await heard(graph, ASK, THREAD)) == await final_text(graph)


@pytest.mark.parametrize("speculative", [True, "both"])
@pytest.mark.parametrize("route", ["direct", "skeleton"])
async def test_with_speculation(heard, endpoint, speculative, route):
    options = {"speculative": speculative}
    graph = sot(endpoint, router=lambda *_: route, options=options, checkpointer=InMemorySaver())
    assert one_message(await heard(graph, ASK, THREAD)) == await final_text(graph)


async def test_from_the_cache(heard, endpoint):
    graph = sot(endpoint, cache=InMemoryCache(), checkpointer=InMemorySaver())
    first = one_message(await heard(graph, ASK, THREAD))
    calls = len(endpoint.requests)
    other = {"configurable": {"thread_id": "2"}}
    again = await heard(graph, ASK, other)
    assert len(endpoint.requests) == calls
    assert "".join(message.content for _, message, _ in again) == first == await final_text(graph, other)


async def test_a_join_that_needs_all_points_is_said_at_the_end(heard, endpoint):
    graph = sot(endpoint, join=lambda question, skeleton, expansions: "All of it.")
    said = await heard(graph)
    assert [message.content for _, message, _ in said] == ["All of it.", ""]


async def test_two_levels_deep_with_subgraphs(heard, endpoint):
    middle = parent_of(sot(endpoint))
    outer = parent_of(middle, checkpointer=InMemorySaver())
    said = await heard(outer, CHAT, THREAD, subgraphs=True)
    streamed = [each for each in said if isinstance(each[1], AIMessageChunk)]
    assert one_message(streamed) == await final_text(outer)
    assert {len(namespace) for namespace, _, _ in streamed} == {1}
    # One level above, LangGraph shows a message again only if it hasn't been shown.
    assert said == streamed


async def test_parallel_branches_are_a_message_each(heard, endpoint):
    builder = StateGraph(MessagesState)
    for name in ("one", "two"):
        builder.add_node(name, sot(endpoint, name=name))
        builder.add_edge(START, name)
    said = await heard(builder.compile(), CHAT)
    assert Counter(metadata["langgraph_node"] for _, _, metadata in said).keys() == {"one", "two"}
    for name in ("one", "two"):
        assert one_message([each for each in said if each[2]["langgraph_node"] == name])


async def test_in_a_loop_each_round_is_a_message_of_its_own(heard, endpoint):
    class State(MessagesState):
        rounds: Annotated[int, operator.add]

    builder = StateGraph(State)
    builder.add_node("answer", sot(endpoint))
    builder.add_node("judge", lambda state: {"rounds": 1, "messages": [HumanMessage("Say it better.")]})
    builder.add_edge(START, "answer")
    builder.add_edge("answer", "judge")
    builder.add_conditional_edges("judge", lambda state: END if state["rounds"] == 2 else "answer")
    graph = builder.compile()
    said = [each for each in await heard(graph, CHAT) if each[2]["langgraph_node"] == "answer"]
    ids = list(dict.fromkeys(message.id for _, message, _ in said))
    assert len(ids) == 2
    for each in ids:
        assert one_message([one for one in said if one[1].id == each])


async def test_by_send(heard, endpoint):
    class State(TypedDict):
        messages: Annotated[list, operator.add]

    builder = StateGraph(State)
    builder.add_node("answer", sot(endpoint))
    sends = [Send("answer", {"messages": [HumanMessage(each)]}) for each in ("Why?", "How?")]
    builder.add_conditional_edges(START, lambda state: sends, ["answer"])
    said = await heard(builder.compile(), {"messages": []})
    ids = {message.id for _, message, _ in said}
    assert len(ids) == 2
    for each in ids:
        assert one_message([one for one in said if one[1].id == each])


@pytest.mark.parametrize("within", ["entrypoint", "task"])
async def test_in_the_functional_api(endpoint, within):
    graph = sot(endpoint)

    @task
    async def write(question: str) -> str:
        return (await graph.ainvoke({"question": question}))["answer"]

    @entrypoint()
    async def flow(question: str) -> str:
        if within == "task":
            return await write(question)
        return (await graph.ainvoke({"question": question}))["answer"]

    said = [((), *part) async for part in flow.astream(QUESTION, stream_mode="messages")]
    assert one_message(said).startswith("**1. ")
    assert said[0][2]["langgraph_node"] == ("write" if within == "task" else "flow")


async def test_in_a_function_that_calls_the_graph_twice(endpoint):
    graph = sot(endpoint)

    async def write(state):
        answers = [(await graph.ainvoke({"question": each}))["answer"] for each in ("Why?", "How?")]
        return {"messages": [AIMessage("\n".join(answers), id="both")]}

    said = [((), *part) async for part in parent_of(write).astream(CHAT, stream_mode="messages")]
    ids = list(dict.fromkeys(message.id for _, message, _ in said))
    assert len(ids) == 3
    for each in ids[:2]:
        assert one_message([one for one in said if one[1].id == each])
    assert ids[2] == "both"


async def test_reviewed(heard, endpoint):
    options = {"review_skeleton": True}
    graph = parent_of(sot(endpoint, options=options), checkpointer=InMemorySaver())
    assert await heard(graph, CHAT, THREAD) == []
    said = await heard(graph, Command(resume=True), THREAD)
    assert one_message(said) == await final_text(graph)


class WithTools(ScriptedChatModel):
    def bind_tools(self, tools, **kwargs):
        return self


class Crash(BaseException):
    """Ends a run as a killed process would."""


@pytest.mark.parametrize("listener", ["messages", "event streams"])
async def test_a_run_that_died_and_is_resumed_says_its_answer_once_and_whole(endpoint, dispatch, caplog, listener):
    """A page may still show what an earlier process said under this id, so nothing is added to it."""
    dies = [True]

    def join(question, skeleton, expansions):
        if dies:
            dies.clear()
            raise Crash
        return "\n".join(each["text"] for each in expansions)

    graph = sot(endpoint, join=join, options={"dispatch": dispatch}, checkpointer=InMemorySaver())
    with pytest.raises(Crash):
        await graph.ainvoke(ASK, THREAD)
    gc.collect()
    assert not [
        each for each in caplog.records if "never retrieved" in each.getMessage() and "Crash" in each.getMessage()
    ]
    if listener == "messages":
        said = [message async for message, _ in graph.astream(None, THREAD, stream_mode="messages")]
        assert [type(message) for message in said] == [AIMessage]
        assert said[0].text == await final_text(graph)
    else:
        events = [event async for event in graph.astream_events(None, THREAD, version="v2")]
        models = [event for event in events if "chat_model" in event["event"]]
        assert [event["event"].removeprefix("on_chat_model_") for event in models] == [
            "start",
            "stream",
            "stream",
            "end",
        ]
        text = "".join(event["data"]["chunk"].content for event in models[1:-1])
        assert text == models[-1]["data"]["output"].text == await final_text(graph)


async def test_a_callers_nostream_is_kept(heard, endpoint):
    graph = sot(endpoint)
    said = await heard(graph, CHAT, {"tags": [TAG_NOSTREAM]})
    assert [type(message) for _, message, _ in said] == [AIMessage]  # what a node returns, as of any graph


async def test_by_an_option_each_call_is_heard_by_itself(heard, endpoint):
    graph = sot(endpoint, options={"messages": "calls"})
    said = await heard(graph)
    points = {metadata.get("sot_point_index") for _, _, metadata in said}
    assert points >= {1, 2, 3, 4}
    assert len({message.id for _, message, _ in said}) >= 6
    quiet = await heard(graph, context={"messages": "answer"})
    assert one_message(quiet)


async def test_a_new_run_has_a_new_id_and_the_same_question_again_is_a_new_message(run, endpoint):
    graph = sot(endpoint, checkpointer=InMemorySaver())
    await run(graph, ASK, THREAD)
    result = await run(graph, ASK, THREAD)
    assert [message.type for message in result["messages"]] == ["human", "ai", "human", "ai"]
    assert len({message.id for message in result["messages"]}) == 4


async def test_usage_and_traces_know_the_real_calls_only(endpoint):
    graph, counter = sot(endpoint), UsageMetadataCallbackHandler()
    last = None
    async for message, _ in parent_of(graph).astream(CHAT, {"callbacks": [counter]}, stream_mode="messages"):
        last = message
    (counted,) = counter.usage_metadata.values()
    for key in ("input_tokens", "output_tokens"):
        assert counted[key] == last.usage_metadata[key]


async def test_event_streams_say_the_same(endpoint, dispatch):
    graph = parent_of(sot(endpoint, options={"dispatch": dispatch}))
    events = [event async for event in graph.astream_events(CHAT, version="v2")]
    models = [event for event in events if "chat_model" in event["event"]]
    assert [event["event"] for event in (models[0], models[-1])] == ["on_chat_model_start", "on_chat_model_end"]
    assert len({event["run_id"] for event in models}) == 1
    text = "".join(event["data"]["chunk"].content for event in models[1:-1])
    assert models[-1]["data"]["output"].text == text
    assert text.startswith("**1. ")
    assert {event["metadata"]["langgraph_node"] for event in models} == {"answer"}
    assert models[-1]["data"]["output"].usage_metadata["output_tokens"] > 0
    # A model's run stands below a run that has begun and hasn't ended.
    started = {event["run_id"] for event in events[: events.index(models[0])]}
    assert set(models[0]["parent_ids"]) <= started


@pytest.mark.parametrize("where", ["at the root", "as a node"])
@pytest.mark.parametrize("route", ["skeleton", "direct"])
@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
async def test_version_3_of_event_streams_says_the_same(endpoint, where, route):
    graph = sot(endpoint, router=lambda *_: route)
    graph = graph if where == "at the root" else parent_of(graph)
    async with await graph.astream_events(CHAT, version="v3") as events:
        messages = [message async for message in events.messages]
        (message,) = messages
        pieces = [piece async for piece in message.text]
        output = await message.output
    assert len(pieces) > 3
    assert "".join(pieces) == output.text
    assert output.usage_metadata["output_tokens"] > 0


async def test_a_tool_of_an_agent_says_its_answer_once(endpoint):
    """No human message of the tool's question, and no copy of the answer beside the tool's own message."""
    agents = pytest.importorskip("langchain.agents")
    tool = create_sot_tool(sot(endpoint), return_direct=True)
    call = {"name": tool.name, "args": {"question": QUESTION}, "id": "call-1", "type": "tool_call"}
    caller = WithTools(lambda messages: AIMessage("", tool_calls=[call]))
    agent = agents.create_agent(caller, [tool])
    for subgraphs in (False, True):
        parts = agent.astream(CHAT, stream_mode="messages", subgraphs=subgraphs)
        said = [part[1] if subgraphs else part async for part in parts]
        answer = [message for message, metadata in said if metadata["langgraph_node"] == "tools"]
        assert [message.type for message, _ in said if message.type == "human"] == []
        assert {type(message).__name__ for message in answer} == {"AIMessageChunk", "ToolMessage"}
        text = "".join(message.content for message in answer if isinstance(message, AIMessageChunk))
        assert [message.content for message in answer if message.type == "tool"] == [text]


async def test_an_expander_and_a_router_that_call_models_are_not_heard(heard, endpoint):
    model = ScriptedChatModel(answer_skeleton_of_thought(points=3))

    async def expand(given):
        return (await model.ainvoke(given["messages"])).text

    async def choose(question, history):
        await model.ainvoke(question)
        return "skeleton"

    said = await heard(sot(endpoint, expander=expand, router=choose))
    assert len({message.id for _, message, _ in said}) == 1


class Whole(BaseChatModel):
    """A model that can't stream."""

    @property
    def _llm_type(self):
        return "whole"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = answer_skeleton_of_thought(points=3)(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(str(text)))])


async def test_of_a_model_that_cannot_stream_each_point_is_said_when_it_is_there(heard):
    said = await heard(create_sot_graph(Whole()))
    assert len({message.id for _, message, _ in said}) == 1
    assert next(message.content for _, message, _ in said).startswith("**1. ")


async def test_where_nobody_listens_nothing_is_made(endpoint, monkeypatch):
    made = []
    monkeypatch.setattr(ChatGenerationChunk, "__init__", lambda self, **_: made.append(self))
    await sot(endpoint).ainvoke(ASK)
    assert made == []
