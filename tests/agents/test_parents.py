"""Drop-in for every kind of parent: streaming, resume, review and traces hold in each of them."""

import json
import operator
from collections import defaultdict
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send
from langgraph_swarm import SwarmState, create_handoff_tool, create_swarm
from typing_extensions import TypedDict

from sot_graph import AnswerReader, SotConfigError, SotOptions, astream_answer, create_sot_graph, stream_answer
from sot_graph.testing import Reply, ScriptedChatModel, ToolCall, answer_skeleton_of_thought
from tests.support.chat_requests import number_of, one_point

THREAD = {"configurable": {"thread_id": "1"}}
QUESTION = "How do plants grow?"


class Report(TypedDict, total=False):
    """A parent with a state and key names of its own."""

    topic: str
    report: str


class Reports(TypedDict, total=False):
    topics: list[str]
    reports: Annotated[list[str], operator.add]


def chat(sot, saver):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", sot)
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


def own_keys(sot, saver):
    async def write(state: Report) -> Report:
        result = await sot.ainvoke({"question": state["topic"]})
        return {"report": result["answer"]}

    builder = StateGraph(Report)
    builder.add_node("write", write)
    builder.add_edge(START, "write")
    return builder.compile(checkpointer=saver)


def own_keys_in_both_worlds(sot, saver):
    builder = StateGraph(Report)
    builder.add_node(
        "write", (lambda state: {"question": state["topic"]}) | sot | (lambda result: {"report": result["answer"]})
    )
    builder.add_edge(START, "write")
    return builder.compile(checkpointer=saver)


def in_a_send(sot, saver):
    async def write(state: Report) -> Reports:
        result = await sot.ainvoke({"question": state["topic"]})
        return {"reports": [result["answer"]]}

    def each_topic(state: Reports) -> list[Send]:
        return [Send("write", {"topic": topic}) for topic in state["topics"]]

    builder = StateGraph(Reports)
    builder.add_node("write", write)
    builder.add_conditional_edges(START, each_topic, ["write"])
    return builder.compile(checkpointer=saver)


def functional(sot, saver):
    @entrypoint(checkpointer=saver)
    async def workflow(topic: str) -> str:
        result = await sot.ainvoke({"question": topic})
        return result["answer"]

    return workflow


def swarm(sot, saver):
    """An assistant that hands the question over to a writer, who hands the conversation back."""
    writer = StateGraph(SwarmState)
    writer.add_node("write", sot)
    writer.add_node("hand_back", lambda _: {"active_agent": "assistant"})
    writer.add_edge(START, "write")
    writer.add_edge("write", "hand_back")
    writer.add_edge("hand_back", END)

    hand_over = create_handoff_tool(agent_name="writer", description="Hands over to the writer of long answers.")
    assistant = create_agent(sot.assistant_model, [hand_over], name="assistant")
    team = create_swarm([assistant, writer.compile(name="writer")], default_active_agent="assistant")
    return team.compile(checkpointer=saver)


@dataclass(frozen=True)
class Kind:
    build: Callable[..., Any]
    given: Any
    answer_of: Callable[[Any], str]
    above: list[str]
    """What the SoT graph's nodes hang under in a trace."""
    other_requests: int = 0


def last_message(values):
    return values["messages"][-1].text


def report(values):
    return values["report"]


KINDS = {
    "a chat graph": Kind(chat, {"messages": [HumanMessage(QUESTION, id="1")]}, last_message, ["answer"]),
    "own keys": Kind(own_keys, {"topic": QUESTION}, report, ["write", "sot_graph"]),
    "own keys, both worlds": Kind(own_keys_in_both_worlds, {"topic": QUESTION}, report, ["write", "sot_graph"]),
    "a Send": Kind(in_a_send, {"topics": [QUESTION]}, lambda values: values["reports"][0], ["write", "sot_graph"]),
    "the functional API": Kind(functional, QUESTION, lambda values: values, ["workflow", "sot_graph"]),
    "a swarm": Kind(swarm, {"messages": [HumanMessage(QUESTION, id="1")]}, last_message, ["writer", "write"], 1),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def parent_of(endpoint, saver):
    """Builds a kind of parent around a graph; its assistants hand over, and its writers write."""
    write = endpoint.responder

    def respond(request):
        hands_over = any(tool["function"]["name"] == "transfer_to_writer" for tool in request.tools)
        return Reply(tool_calls=[ToolCall("transfer_to_writer")]) if hands_over else write(request)

    endpoint.responder = respond

    def build(kind, **settings):
        sot = create_sot_graph(endpoint.chat_model(), **settings)
        object.__setattr__(sot, "assistant_model", endpoint.chat_model())
        return kind.build(sot, saver)

    return build


def points_asked_for(endpoint):
    return sorted(number_of(logged.request) for logged in endpoint.requests if one_point(logged.request))


async def test_the_answer_is_read_through_the_parent_in_reading_order(kind, parent_of, endpoint):
    parent = parent_of(kind)
    with endpoint.hold(2, lambda request: one_point(request) and number_of(request) > 1) as held:
        text = ""
        async with aclosing(astream_answer(parent, kind.given, THREAD)) as chunks:
            async for chunk in chunks:
                text += chunk
                if "**2. " in text:  # point 1 was read to its end while the others had not begun to answer
                    held.release()
    assert text == kind.answer_of(await answered_by(parent))


async def answered_by(parent):
    return (await parent.aget_state(THREAD)).values


async def test_the_raw_events_come_out_of_the_parent_under_one_namespace(kind, parent_of):
    parent = parent_of(kind)
    reader, text, namespaces = AnswerReader(), "", set()
    async for namespace, event in parent.astream(kind.given, THREAD, stream_mode="custom", subgraphs=True):
        json.dumps(event)
        namespaces.add(namespace)
        text += reader.feed(event)
    assert len(namespaces) == 1
    assert text == kind.answer_of(await answered_by(parent))


async def test_a_run_that_is_cut_off_in_mid_fan_out_goes_on_with_the_missing_points(kind, parent_of, endpoint, cut_off):
    parent = parent_of(kind)
    asked_for = await cut_off(
        parent, kind.given, THREAD, is_held=lambda request: one_point(request) and number_of(request) == 2, kept=2
    )
    assert sorted(number_of(request) for request in asked_for if one_point(request)) == [1, 2, 3]

    result = await parent.ainvoke(None, THREAD)

    assert points_asked_for(endpoint) == [2]
    assert len(endpoint.requests) == 1
    answer = kind.answer_of(result)
    assert [f"**{number}. " in answer for number in (1, 2, 3)] == [True] * 3


async def test_a_review_stops_the_parent_and_its_answer_lets_it_go_on(kind, parent_of, endpoint):
    parent = parent_of(kind, options=SotOptions(review_skeleton=True))
    await parent.ainvoke(kind.given, THREAD)
    (interrupt,) = (await parent.aget_state(THREAD)).interrupts
    assert interrupt.value["type"] == "sot.review"
    assert interrupt.value["question"] == QUESTION
    assert points_asked_for(endpoint) == []

    text = "".join([text async for text in astream_answer(parent, Command(resume=["Seed", "Soil"]), THREAD)])

    assert points_asked_for(endpoint) == [1, 2]
    assert len(endpoint.requests) == 3 + kind.other_requests  # neither the skeleton nor the assistant is asked again
    assert text.startswith("**1. Seed**")
    assert text == kind.answer_of(await answered_by(parent))


async def test_every_model_call_hangs_under_its_node_in_one_trace(kind, parent_of, traced):
    parent = parent_of(kind)
    await parent.ainvoke(kind.given, {**THREAD, "callbacks": [traced]})
    assert sum(run.parent_run_id is None for run in traced.runs.values()) == 1
    calls = traced.paths("llm")
    assert len(calls) == 4 + kind.other_requests
    points = [path for path in calls if path[-2].startswith("expand ")]
    assert len(points) == 3
    for path in points:
        assert path[-1].startswith("write ")
        where = [path.index(name) for name in kind.above]
        assert where == sorted(where)
        assert where[-1] < len(path) - 2


def test_the_pipe_works_synchronously_too(endpoint, saver):
    sot = create_sot_graph(endpoint.chat_model())
    parent = own_keys_in_both_worlds(sot, saver)
    assert "".join(stream_answer(parent, {"topic": QUESTION}, THREAD)) == parent.get_state(THREAD).values["report"]


# --- Several of them in one parent ---


class Essay(MessagesState, total=False):
    question: str


def several(endpoint, edges, saver=None):
    """`essay` and `summary`, two graphs that answer the same question, each in its own way."""
    builder = StateGraph(Essay)
    builder.add_node("essay", create_sot_graph(endpoint.chat_model(), options=SotOptions(point_length="a page")))
    builder.add_node("summary", create_sot_graph(endpoint.chat_model()))
    for begin, end in edges:
        builder.add_edge(begin, end)
    return builder.compile(checkpointer=saver)


IN_PARALLEL = [(START, "essay"), (START, "summary")]
ONE_AFTER_THE_OTHER = [(START, "essay"), ("essay", "summary")]


@pytest.mark.parametrize("edges", [IN_PARALLEL, ONE_AFTER_THE_OTHER], ids=["in parallel", "one after the other"])
async def test_two_answers_to_one_question_are_two_messages(endpoint, edges):
    result = await several(endpoint, edges).ainvoke({"messages": [HumanMessage(QUESTION)]})
    assert [message.type for message in result["messages"]] == ["human", "ai", "ai"]


async def test_two_in_parallel_are_told_apart_by_their_namespaces(endpoint):
    parent = several(endpoint, IN_PARALLEL)
    readers, texts = defaultdict(AnswerReader), defaultdict(str)
    given = {"messages": [HumanMessage(QUESTION)]}
    with endpoint.hold(6, one_point) as together:
        async for namespace, event in parent.astream(given, stream_mode="custom", subgraphs=True):
            node = namespace[0].partition(":")[0]
            texts[node] += readers[namespace].feed(event)
        assert together.complete
    assert set(texts) == {"essay", "summary"}
    result = await parent.ainvoke(given)
    assert sorted(texts.values()) == sorted(message.text for message in result["messages"][1:])


async def test_two_in_parallel_are_read_by_name(endpoint):
    parent = several(endpoint, IN_PARALLEL)
    given = {"messages": [HumanMessage(QUESTION)]}
    with endpoint.hold(6, one_point), pytest.raises(SotConfigError, match=r"at once: \['essay', 'summary'\]"):
        await anext(text async for text in astream_answer(parent, given) if "**2. " in text)
    text = "".join([text async for text in astream_answer(parent, given, node="summary")])
    assert text.count("**1. ") == 1


async def test_two_one_after_the_other_are_read_one_after_the_other(endpoint):
    parent = several(endpoint, ONE_AFTER_THE_OTHER)
    given = {"messages": [HumanMessage(QUESTION)]}
    essay, summary = [message.text for message in (await parent.ainvoke(given))["messages"][1:]]
    assert "".join([text async for text in astream_answer(parent, given)]) == f"{essay}\n\n{summary}"
    assert "".join([text async for text in astream_answer(parent, given, node="summary")]) == summary


async def test_a_loop_whose_node_keeps_one_thread_is_read_by_one_reader(endpoint, saver):
    class Loop(TypedDict, total=False):
        question: str
        answers: Annotated[list[str], operator.add]
        sot: dict[str, Any]

    builder = StateGraph(Loop)
    builder.add_node("write", create_sot_graph(endpoint.chat_model(), checkpointer=True))
    builder.add_node("keep", lambda state: {"answers": [state["sot"]["answer"]]})
    builder.add_edge(START, "write")
    builder.add_edge("write", "keep")
    builder.add_conditional_edges("keep", lambda state: END if len(state["answers"]) == 3 else "write")
    parent = builder.compile(checkpointer=saver)
    readers, texts = defaultdict(AnswerReader), defaultdict(str)
    async for namespace, event in parent.astream({"question": QUESTION}, THREAD, stream_mode="custom", subgraphs=True):
        texts[namespace] += readers[namespace].feed(event)
    assert list(texts.values()) == ["\n\n".join((await answered_by(parent))["answers"])]


async def test_two_in_parallel_that_are_cut_off_go_on_with_what_each_of_them_misses(endpoint, saver, cut_off):
    parent = several(endpoint, IN_PARALLEL, saver)

    def is_held(request):
        return one_point(request) and number_of(request) == (2 if "a page" in request.last_user else 3)

    given = {"messages": [HumanMessage(QUESTION, id="1")]}
    await cut_off(parent, given, THREAD, is_held=is_held, kept=4)
    result = await parent.ainvoke(None, THREAD)
    assert points_asked_for(endpoint) == [2, 3]
    assert len(endpoint.requests) == 2
    assert [message.text.count("**") for message in result["messages"][1:]] == [6, 6]


async def test_two_one_after_the_other_that_are_cut_off_pay_for_nothing_twice(endpoint, saver, cut_off):
    parent = several(endpoint, ONE_AFTER_THE_OTHER, saver)

    def is_held(request):
        return one_point(request) and number_of(request) == 2 and "a page" not in request.last_user

    given = {"messages": [HumanMessage(QUESTION, id="1")]}
    await cut_off(parent, given, THREAD, is_held=is_held, kept=5)
    result = await parent.ainvoke(None, THREAD)
    assert points_asked_for(endpoint) == [2]
    assert len(endpoint.requests) == 1
    assert [message.text.count("**") for message in result["messages"][1:]] == [6, 6]


@pytest.mark.parametrize("edges", [IN_PARALLEL, ONE_AFTER_THE_OTHER], ids=["in parallel", "one after the other"])
async def test_the_calls_of_each_of_two_hang_under_its_own_node(endpoint, edges, traced):
    given = {"messages": [HumanMessage(QUESTION)]}
    await several(endpoint, edges).ainvoke(given, {"callbacks": [traced]})
    assert sum(run.parent_run_id is None for run in traced.runs.values()) == 1
    for node in ("essay", "summary"):
        assert sum(node in path for path in traced.paths("llm")) == 4


async def test_each_of_two_reviews_is_answered_by_its_interrupt(endpoint, saver):
    options = SotOptions(review_skeleton=True)
    builder = StateGraph(MessagesState)
    for name in ("essay", "summary"):
        builder.add_node(name, create_sot_graph(endpoint.chat_model(), options=options))
        builder.add_edge(START, name)
    parent = builder.compile(checkpointer=saver)
    await parent.ainvoke({"messages": [HumanMessage(QUESTION, id="1")]}, THREAD)
    interrupts = (await parent.aget_state(THREAD)).interrupts
    assert len(interrupts) == 2
    answers = {interrupt.id: [f"Title {number}"] for number, interrupt in enumerate(interrupts)}
    result = await parent.ainvoke(Command(resume=answers), THREAD)
    assert sorted(message.text.split("**")[1] for message in result["messages"][1:]) == ["1. Title 0", "1. Title 1"]


async def test_a_send_for_each_topic_writes_all_of_them_together(endpoint, saver):
    parent = in_a_send(create_sot_graph(endpoint.chat_model()), saver)
    readers, texts = defaultdict(AnswerReader), defaultdict(str)
    given = {"topics": ["How do plants grow?", "How do tides work?"]}
    with endpoint.hold(6, one_point) as together:
        async for namespace, event in parent.astream(given, THREAD, stream_mode="custom", subgraphs=True):
            texts[namespace] += readers[namespace].feed(event)
        assert together.complete
    assert sorted(texts.values()) == sorted((await answered_by(parent))["reports"])
    other = {"configurable": {"thread_id": "2"}}
    with endpoint.hold(6, one_point), pytest.raises(SotConfigError, match="several times at once"):
        await anext(text async for text in astream_answer(parent, given, other) if "**2. " in text)


async def test_what_a_parents_tools_have_found_reaches_every_prompt(endpoint):
    """The messages of a chat graph may go on after the question: by calls of tools and their results."""
    graph = create_sot_graph(endpoint.chat_model())
    call = {"name": "search", "args": {}, "id": "1", "type": "tool_call"}
    found = [HumanMessage(QUESTION), AIMessage("", tool_calls=[call]), ToolMessage("Roots first.", tool_call_id="1")]
    await graph.ainvoke({"messages": found})
    assert len(endpoint.requests) == 4
    assert all("Roots first." in logged.request.text for logged in endpoint.requests)


# --- Parents that lack what is needed ---


def test_a_parent_without_the_needed_keys_is_told_which_they_are():
    class Nothing(TypedDict, total=False):
        topic: str

    builder = StateGraph(Nothing)
    builder.add_node("answer", create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought())))
    builder.add_edge(START, "answer")
    with pytest.raises(SotConfigError, match=r'pass \{"question"'):
        builder.compile().invoke({"topic": QUESTION})
