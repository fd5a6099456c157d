"""Inside a parent graph."""

import asyncio
import operator
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.config import ensure_config
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import InvalidUpdateError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, RetryPolicy, interrupt
from typing_extensions import TypedDict

from sot_graph import ExpansionError, SkeletonError, SotOptions, build_sot_graph, create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought


def sot(points=3, **kwargs):
    return create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought(points=points)), **kwargs)


def parent_of(state_schema, **compile_settings):
    builder = StateGraph(state_schema)
    builder.add_node("answer", sot())
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(**compile_settings)


class SameKeys(TypedDict, total=False):
    """A parent with keys of the same names as the graph's, and one that asks for its result."""

    question: str
    messages: Annotated[list[AnyMessage], add_messages]
    sources: list[str]
    route: str
    answer: str
    usage: Annotated[int, operator.add]
    sot: dict


async def test_a_chat_graph_gets_one_message_back(run):
    result = await run(parent_of(MessagesState), {"messages": [HumanMessage("Why?")]})
    assert [type(message) for message in result["messages"]] == [HumanMessage, AIMessage]


async def test_a_parents_own_keys_are_left_alone_and_the_result_is_under_one_of_ours(run):
    own = {"sources": ["mine"], "route": "to Rome", "answer": "42", "usage": 7}
    result = await run(parent_of(SameKeys), {"question": "Why?", **own})
    assert {key: result[key] for key in own} == own
    assert [point["index"] for point in result["sot"]["expansions"]] == [1, 2, 3]
    assert len(result["sot"]["skeleton"]) == 3
    assert result["sot"]["usage"]["total"]["calls"] == 4
    assert [message.text for message in result["messages"]] == ["Why?", result["sot"]["answer"]]
    assert "messages" not in result["sot"]


async def test_a_parent_that_asks_for_nothing_gets_messages_alone(run):
    class Own(MessagesState):
        usage: Annotated[int, operator.add]

    graph = parent_of(Own)
    result = await run(graph, {"messages": [HumanMessage("Why?")], "usage": 1})
    assert result.keys() == {"messages", "usage"}
    assert result["usage"] == 1
    # Event streams have LangGraph run nodes in another way.
    events = [event async for event in graph.astream_events({"messages": [HumanMessage("Why?")]}, version="v2")]
    assert events[-1]["data"]["output"].keys() == {"messages", "usage"}


class Kept(TypedDict, total=False):
    question: str
    answer: str


async def test_a_parent_that_has_no_key_for_the_answer_is_told_what_to_do(run, caplog):
    assert await run(parent_of(Kept), {"question": "Why?"}) == {"question": "Why?"}
    (told,) = caplog.messages
    assert "neither `messages` nor `sot`" in told
    assert 'return {"answer": graph.invoke({"question": ...})["answer"]}' in told


@pytest.mark.parametrize("key", ["messages", "sot"])
async def test_a_parent_that_has_one_is_told_nothing(run, caplog, key):
    state = TypedDict("state", {"question": str, key: Any})
    await run(parent_of(state), {"question": "Why?"})
    assert caplog.messages == []


async def test_two_graphs_in_parallel_do_not_write_into_the_same_keys(run):
    builder = StateGraph(SameKeys)
    for name in ("left", "right"):
        builder.add_node(name, sot(name=name))
        builder.add_edge(START, name)
    builder_without = StateGraph(MessagesState)
    for name in ("left", "right"):
        builder_without.add_node(name, sot(name=name))
        builder_without.add_edge(START, name)
    result = await run(builder_without.compile(), {"messages": [HumanMessage("Why?")]})
    assert [message.name for message in result["messages"]] == [None, "left", "right"]
    with pytest.raises(InvalidUpdateError, match="At key 'sot'"):  # who wants both gives the key a reducer
        await run(builder.compile(), {"messages": [HumanMessage("Why?")]})


async def test_a_function_that_calls_the_graph_reads_its_result_as_at_the_root(run):
    graph = sot()
    read = {}

    async def write(state):
        result = await graph.ainvoke({"question": "Why?"}, context={"max_points": 3, "tenant": "acme"})
        read.update(text=result["answer"], calls=result.get("usage")["total"]["calls"], has="sources" in result)
        read.update(nothing=result.get("nothing"), points=len(result["skeleton"]))
        return {"messages": result["messages"]}

    builder = StateGraph(MessagesState)
    builder.add_node("write", write)
    builder.add_edge(START, "write")
    result = await builder.compile().ainvoke({"messages": []})
    assert read == {"text": result["messages"][-1].text, "calls": 4, "has": True, "nothing": None, "points": 3}


async def test_a_tasks_result_is_the_same_after_it_was_kept():
    graph, calls = sot(), []

    @task
    async def write(question):
        calls.append(question)
        return await graph.ainvoke({"question": question})

    async def report(state):
        result = await write("Why?")
        interrupt("Is it good?")
        return {"messages": [AIMessage(result["answer"], id=result["messages"][-1].id)]}

    @entrypoint(checkpointer=InMemorySaver())
    async def flow(question):
        result = await write(question)
        interrupt("Is it good?")
        return result["answer"]

    config = {"configurable": {"thread_id": "1"}}
    await flow.ainvoke("Why?", config)
    assert (await flow.ainvoke(Command(resume=True), config)).startswith("**1. ")
    builder = StateGraph(SameKeys)
    builder.add_node("report", report)
    builder.add_edge(START, "report")
    parent = builder.compile(checkpointer=InMemorySaver())
    await parent.ainvoke({"question": "Why?"}, config)
    kept = await parent.ainvoke(Command(resume=True), config)
    assert kept["messages"][-1].text.startswith("**1. ")
    assert len(calls) == 2


@dataclass
class EmptyDefaults:
    """As dataclasses and Pydantic's models have them."""

    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)
    question: str = ""
    documents: list[Any] = field(default_factory=list)
    given_skeleton: list[Any] = field(default_factory=list)
    given_expansions: list[Any] = field(default_factory=list)
    given_frame: dict[str, Any] = field(default_factory=dict)


async def test_a_parents_empty_defaults_are_nothing_given(run):
    result = await run(parent_of(EmptyDefaults), {"messages": [HumanMessage("Why?")]})
    assert result["messages"][-1].text.startswith("**1. ")


async def test_two_turns_on_one_thread_of_the_parent_are_two_answers(run):
    graph = parent_of(SameKeys, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    await run(graph, {"question": "First?"}, config)
    second = await run(graph, {"question": "Second?"}, config)
    assert len(second["sot"]["expansions"]) == 3
    assert second["sot"]["usage"]["total"]["calls"] == 4
    assert [message.text for message in second["messages"]][::2] == ["First?", "Second?"]
    assert second["messages"][-1].text == second["sot"]["answer"]


async def test_a_child_with_a_memory_of_its_own_keeps_nothing_of_an_earlier_question(run):
    builder = StateGraph(SameKeys)
    builder.add_node("answer", sot(checkpointer=True))
    builder.add_edge(START, "answer")
    graph = builder.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    await run(graph, {"question": "First?"}, config)
    second = await run(graph, {"question": "Second?"}, config)
    assert [point["index"] for point in second["sot"]["expansions"]] == [1, 2, 3]
    assert second["sot"]["usage"]["total"]["calls"] == 4


class Report(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    topic: str
    report: str


def report_parent(node, **settings):
    """A parent of one node, with threads that are kept."""
    builder = StateGraph(Report)
    builder.add_node("write", node)
    builder.add_edge(START, "write")
    return builder.compile(checkpointer=InMemorySaver(), **settings)


async def reports_of(run, parent, inputs, resume):
    """What each turn of a thread gives, which stops once and is resumed."""
    thread, reports = {"configurable": {"thread_id": "1"}}, []
    for given in inputs:
        await run(parent, given, thread)
        reports.append(await run(parent, resume, thread))
    return reports


@pytest.fixture
def topic_of():
    """The texts say which question they are of: the last message of a prompt holds its point alone."""
    calls = []
    model = ScriptedChatModel(graph_responder(calls))
    return create_sot_graph(model, checkpointer=True, options=SotOptions(min_points=2)), calls


def graph_responder(calls):
    def respond(messages):
        calls.append(messages)
        asked = "".join(message.text for message in messages if message.type == "human").rpartition("about ")[2]
        if asked.startswith("a failure"):
            return ConnectionError("the line went dead")
        return answer_skeleton_of_thought(["Seed", "Soil"], f"All about {asked[:4]}.")(messages)

    return respond


async def test_a_child_with_a_memory_of_its_own_answers_what_a_resumed_parent_asks_anew(run, topic_of):
    graph, calls = topic_of

    def write(state):
        if not interrupt("Write it?"):
            return {}
        return {"report": graph.invoke({"question": state["topic"]})["answer"]}

    parent = report_parent(write)
    inputs = [{"topic": "about cats"}, {"topic": "about dogs"}]
    first, second = await reports_of(run, parent, inputs, Command(resume=True))
    assert "All about cats." in first["report"]
    assert "All about dogs." in second["report"]
    assert len(calls) == 6


async def test_it_does_so_also_where_the_last_question_failed_and_where_it_was_asked_before(run, topic_of):
    graph, _ = topic_of

    def write(state):
        return {"report": graph.invoke({"question": state["topic"]})["answer"]} if interrupt("Write it?") else {}

    parent, thread = report_parent(write), {"configurable": {"thread_id": "1"}}
    for topic in ("about cats", "about a failure", "about cats", "about dogs"):
        await run(parent, {"topic": topic}, thread)
        if "failure" in topic:
            with pytest.raises(SkeletonError):
                await run(parent, Command(resume=True), thread)
        else:
            assert f"All {topic}." in (await run(parent, Command(resume=True), thread))["report"]


def test_each_task_of_an_entrypoint_is_answered_though_all_are_of_one_step(topic_of):
    graph, calls = topic_of

    @task
    def write(topic):
        interrupt(topic)
        return graph.invoke({"question": topic})["answer"]

    @entrypoint(checkpointer=InMemorySaver())
    def flow(topics):
        return [write(topic).result() for topic in topics]

    thread, topics = {"configurable": {"thread_id": "1"}}, ["about cats", "about dogs", "about bees"]
    result = flow.invoke(topics, thread)
    while "__interrupt__" in result:
        result = flow.invoke(Command(resume=True), thread)
    assert [topic in report for topic, report in zip(topics, result, strict=True)] == [True] * 3
    assert len(calls) == 9


async def test_a_node_that_is_tried_again_in_a_parent_without_a_checkpointer_answers(run, topic_of):
    graph, _ = topic_of
    tries = []

    def write(state):
        tries.append(1)
        report = graph.invoke({"question": state["topic"]})["answer"]
        if len(tries) == 1:
            raise ConnectionError("once")
        return {"report": report}

    builder = StateGraph(Report)
    builder.add_node("write", write, retry_policy=RetryPolicy(initial_interval=0.001))
    builder.add_edge(START, "write")
    assert "All about cats." in (await run(builder.compile(), {"topic": "about cats"}))["report"]


async def test_an_older_question_that_a_parent_keeps_beside_a_newer_message_is_not_asked(run):
    calls = []
    options = SotOptions(min_points=2, review_skeleton=True)
    graph = create_sot_graph(ScriptedChatModel(graph_responder(calls)), checkpointer=True, options=options)
    builder = StateGraph(SameKeys)
    builder.add_node("answer", graph)
    builder.add_edge(START, "answer")
    parent = builder.compile(checkpointer=InMemorySaver(), interrupt_before=["answer"])
    thread = {"configurable": {"thread_id": "1"}}
    await run(parent, {"question": "about cats", "messages": [HumanMessage("about cats")]}, thread)
    assert (await run(parent, None, thread))["__interrupt__"]  # nobody answers its review
    await run(parent, {"messages": [HumanMessage("about dogs")]}, thread)
    await run(parent, None, thread)
    assert "All about dogs." in (await run(parent, Command(resume=True), thread))["messages"][-1].text


@pytest.mark.parametrize("reviews", [False, True])
async def test_two_calls_at_once_of_such_a_child_keep_what_each_has_written(topic_of, reviews):
    graph, calls = topic_of
    if reviews:
        options = SotOptions(min_points=2, review_skeleton=True)
        graph = create_sot_graph(ScriptedChatModel(graph_responder(calls)), checkpointer=True, options=options)

    async def write(state):
        asked = [{"question": f"about {each}"} for each in state["topic"].split()]
        reports = await asyncio.gather(*map(graph.ainvoke, asked))
        interrupt("Keep them?")
        return {"report": "".join(report["answer"] for report in reports)}

    parent, thread = report_parent(write), {"configurable": {"thread_id": "1"}}
    for turn, (first, second) in enumerate([("cats", "dogs"), ("owls", "bees")], start=1):
        result = await parent.ainvoke({"topic": f"{first} {second}"}, thread)
        while result.get("__interrupt__"):
            resume = {each.id: True for each in result["__interrupt__"]}
            result = await parent.ainvoke(Command(resume=resume), thread)
        assert result["report"].index(f"All about {first}.") < result["report"].index(f"All about {second}.")
        assert len(calls) == 6 * turn


@pytest.mark.parametrize("again", [False, True], ids=["another question", "the same words again"])
async def test_so_does_one_that_is_a_node_behind_a_breakpoint(run, topic_of, again):
    graph, calls = topic_of
    parent = report_parent(graph, interrupt_before=["write"])
    questions = ["about cats", "about cats" if again else "about dogs"]
    inputs = [{"messages": [HumanMessage(question)]} for question in questions]
    _, second = await reports_of(run, parent, inputs, None)
    assert [message.type for message in second["messages"]] == ["human", "ai"] * 2
    assert f"All {questions[1]}." in second["messages"][-1].text
    assert len(calls) == 6


async def test_what_such_a_child_has_written_before_the_parent_stopped_is_not_paid_for_twice(run, topic_of):
    graph, calls = topic_of

    def write(state):
        report = graph.invoke({"question": state["topic"]})["answer"]
        return {"report": report if interrupt("Keep it?") else ""}

    parent = report_parent(write)
    inputs = [{"topic": "about cats"}, {"topic": "about dogs"}]
    _, second = await reports_of(run, parent, inputs, Command(resume=True))
    assert "All about dogs." in second["report"]
    assert len(calls) == 6


async def test_a_parents_context_comes_through_and_what_is_not_ours_is_ignored(run):
    class Context(TypedDict, total=False):
        tenant: str
        max_points: str
        sot: dict

    builder = StateGraph(SameKeys, context_schema=Context)
    builder.add_node("answer", sot(points=8))
    builder.add_edge(START, "answer")
    context = {"tenant": "acme", "max_points": "any", "sot": {"max_points": 4}}
    result = await run(builder.compile(), {"question": "Why?"}, context=context)
    assert len(result["sot"]["skeleton"]) == 4


async def test_ten_points_of_a_subgraph_are_written_together(run, endpoint):
    from sot_graph.testing import SkeletonResponder

    endpoint.responder = SkeletonResponder(points=10)
    builder = StateGraph(SameKeys)
    builder.add_node("answer", create_sot_graph(endpoint.chat_model()))
    builder.add_edge(START, "answer")
    with endpoint.hold(10, lambda request: "one point" in request.last_user) as held:
        await run(builder.compile(), {"question": "Why?"})
        assert held.complete


async def test_two_subgraphs_side_by_side_do_not_mix(run):
    class Two(TypedDict, total=False):
        question: str
        left: str
        right: str

    def asking(key):
        graph = sot()

        async def ask(state):
            return {key: (await graph.ainvoke({"question": f"{key} {state['question']}"}))["messages"][0].text}

        return ask

    builder = StateGraph(Two)
    for key in ("left", "right"):
        builder.add_node(f"ask_{key}", asking(key))
        builder.add_edge(START, f"ask_{key}")
    result = await builder.compile().ainvoke({"question": "Why?"})
    assert (result["left"], result["right"]) == ("left Why?", "right Why?")


async def test_a_parents_recursion_limit_ends_no_run_that_is_paid_for(run, endpoint):
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(frame="intro+conclusion"))
    builder = StateGraph(MessagesState)
    builder.add_node("answer", graph)
    builder.add_edge(START, "answer")
    asked = {"messages": [("user", "How do plants grow?")]}
    for runnable in (builder.compile(), graph, graph.with_config(recursion_limit=3)):
        assert (await run(runnable, asked, {"recursion_limit": 3}))["messages"][-1].text


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
@pytest.mark.parametrize("limit", [None, 12, 12_000], ids=str)
async def test_what_a_caller_hands_in_keeps_the_limit(run, endpoint, limit, dispatch):
    limits = {}

    def retriever(query):
        limits["retriever"] = ensure_config()["recursion_limit"]
        return []

    def expander(given, config):
        limits["expander"] = config["recursion_limit"]
        limits["below it"] = ensure_config()["recursion_limit"]
        return "Text."

    options = SotOptions(dispatch=dispatch, frame="opening")
    graph = create_sot_graph(endpoint.chat_model(), expander=expander, retriever=retriever, options=options)
    await run(graph, {"question": "How do plants grow?"}, {} if limit is None else {"recursion_limit": limit})
    if limit is None:  # then nobody is held to LangChain's 25
        assert min(limits.values()) > 1000
    else:
        assert limits == dict.fromkeys(("retriever", "expander", "below it"), limit)


@pytest.mark.parametrize("make", [create_sot_graph, lambda *args, **kwargs: build_sot_graph(*args, **kwargs).compile()])
@pytest.mark.parametrize("limit", [None, 30], ids=str)
async def test_a_graph_below_may_loop_as_long_as_it_might_alone(run, endpoint, make, limit):
    class Loop(MessagesState):
        turns: Annotated[int, operator.add]

    builder = StateGraph(Loop)
    builder.add_node("turn", lambda _: {"turns": 1})
    builder.add_node("end", lambda _: {"messages": [AIMessage("Done.")]})
    builder.add_edge(START, "turn")
    builder.add_conditional_edges("turn", lambda state: "turn" if state["turns"] < 40 else "end", ["turn", "end"])
    graph = make(endpoint.chat_model(), expander=builder.compile())
    if make is create_sot_graph:  # in a chain, whose config has LangChain's default
        graph = RunnableLambda(lambda given: given) | graph
    asked = run(graph, {"question": "How do plants grow?"}, {} if limit is None else {"recursion_limit": limit})
    if limit is None:
        assert (await asked)["answer"].count("Done.") >= 3
    else:
        with pytest.raises(ExpansionError, match="Recursion limit of 30 reached"):
            await asked


async def test_nor_where_a_function_hands_on_no_config(run, endpoint):
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(frame="intro+conclusion"))

    def without_config(state):
        return graph.invoke(state)

    async def awithout_config(state):
        return await graph.ainvoke(state)

    builder = StateGraph(MessagesState)
    builder.add_node("answer", RunnableLambda(without_config, afunc=awithout_config))
    builder.add_edge(START, "answer")
    result = await run(builder.compile(), {"messages": [("user", "How do plants grow?")]}, {"recursion_limit": 3})
    assert result["messages"][-1].text
