"""A stream in which nothing came: told where it may be a mistake, and not where somebody is waited for."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import CachePolicy, Command, RetryPolicy, interrupt
from typing_extensions import TypedDict

from sot_graph import AnswerTransformer, ExpansionError, SotConfigError, SotOptions, astream_answer, create_sot_graph
from sot_graph.testing import Fault, ScriptedChatModel, Status, answer_skeleton_of_thought
from tests.support.chat_requests import one_point, point_number

SILENCE = "Nothing was streamed"


def sot(**settings):
    model = ScriptedChatModel(answer_skeleton_of_thought(["Sun", "Soil", "Rain"], "About {title}."))
    return create_sot_graph(model, **settings)


def parent_of(node, **settings):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", node)
    builder.add_edge(START, "answer")
    return builder.compile(**settings)


class Kept(TypedDict, total=False):
    """A parent that has no messages."""

    question: str
    route: str


CHAT = {"messages": [("user", "How do plants grow?")]}
THREAD = {"configurable": {"thread_id": "1"}}


async def test_a_graph_that_is_run_in_a_thread_without_its_config_is_told_of_once(chunks_of, caplog):
    inner = sot()
    with ThreadPoolExecutor(1) as pool:
        parent = parent_of(lambda state: {"messages": pool.submit(inner.invoke, state).result()["messages"][-1:]})
        [text] = await chunks_of(parent, CHAT)
        assert "About Sun." in text
        [record] = caplog.records
        assert (record.name, record.levelname) == ("sot_graph", "WARNING")
        assert record.getMessage().startswith(SILENCE)
        assert "graph.invoke(input, config)" in record.getMessage()
        assert await chunks_of(parent, CHAT) == [text]
        assert len(caplog.records) == 1


async def test_with_its_config_handed_on_such_a_graph_streams(chunks_of, caplog):
    inner = sot()
    with ThreadPoolExecutor(1) as pool:

        def answer(state, config: RunnableConfig):
            return {"messages": pool.submit(inner.invoke, state, config).result()["messages"][-1:]}

        assert "About Sun." in "".join(await chunks_of(parent_of(answer), CHAT))
    assert caplog.records == []


async def test_a_parent_that_has_streamed_before_may_answer_by_other_nodes(chunks_of, caplog):
    builder = StateGraph(MessagesState)
    builder.add_node("long", sot())
    builder.add_node("short", lambda state: {"messages": [AIMessage("Hello!")]})
    builder.add_conditional_edges(START, lambda state: "short" if state["messages"][-1].text == "Hi!" else "long")
    parent = builder.compile()
    assert await chunks_of(parent, CHAT)
    assert await chunks_of(parent, {"messages": [("user", "Hi!")]}) == ["Hello!"]
    assert caplog.records == []


@pytest.mark.parametrize("embedded", [False, True])
async def test_a_run_that_waits_for_somebody_is_no_silence(chunks_of, caplog, embedded):
    reviewed = sot(options=SotOptions(review_skeleton=True), checkpointer=None if embedded else InMemorySaver())
    graph = parent_of(reviewed, checkpointer=InMemorySaver()) if embedded else reviewed
    assert await chunks_of(graph, CHAT, THREAD) == []
    assert "About Sun." in "".join(await chunks_of(graph, Command(resume=True), THREAD))
    assert caplog.records == []


async def test_a_run_that_waits_before_its_graph_is_reached_is_no_silence(chunks_of, caplog):
    def ask(state):
        return {"messages": [("user", interrupt("What is the question?"))]}

    builder = StateGraph(MessagesState)
    builder.add_sequence([("ask", ask), ("answer", sot())])
    builder.add_edge(START, "ask")
    graph = builder.compile(checkpointer=InMemorySaver())
    assert await chunks_of(graph, CHAT, THREAD) == []
    assert await chunks_of(graph, Command(resume="How do plants grow?"), THREAD)
    assert caplog.records == []


def chat_with(endpoint, node, *, route):
    """A chat that answers long questions by the graph and others by a node of its own."""
    builder = StateGraph(MessagesState)
    builder.add_node("long", create_sot_graph(endpoint.chat_model()))
    builder.add_node("short", node)
    builder.add_conditional_edges(START, lambda state: route, ["long", "short"])
    builder.add_edge("long", END)
    builder.add_edge("short", END)
    return builder.compile()


@pytest.mark.parametrize("route", ["long", "short"])
async def test_one_loop_serves_a_branch_that_a_model_of_the_parents_answers(chunks_of, endpoint, caplog, route):
    model = endpoint.chat_model()

    async def answer(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    def answer_in_thread(state):
        return {"messages": [model.invoke(state["messages"])]}

    given = {"messages": [AIMessage("Hello!", id="0"), HumanMessage("Why?", id="1")]}
    graph = chat_with(endpoint, RunnableLambda(answer_in_thread, afunc=answer), route=route)
    chunks = await chunks_of(graph, given)
    assert "".join(chunks) == (await graph.ainvoke(given))["messages"][-1].text
    assert len(chunks) > 3
    assert not caplog.records


@pytest.mark.parametrize(
    ("said", "message"),
    [("Because.", "Because."), (" Because.\n", "Because."), ("Because.", "Because.\n\nAsk me more.")],
)
async def test_what_a_node_puts_into_a_message_of_its_own_comes_once(chunks_of, said, message):
    model = ScriptedChatModel(lambda messages: said)
    chunks = await chunks_of(parent_of(lambda _: {"messages": [AIMessage(message)]} if model.invoke("?") else {}), CHAT)
    assert "".join(chunks).strip() == message
    assert len(chunks) > 1


async def test_two_replies_of_one_node_come_with_a_blank_line_between_them(chunks_of):
    model = ScriptedChatModel(lambda messages: messages[-1].text)

    def answer(state):
        model.invoke("Rewritten")
        return {"messages": [model.invoke("Because.")]}

    assert "".join(await chunks_of(parent_of(answer), CHAT)) == "Rewritten\n\nBecause."


async def test_what_is_said_in_a_node_that_goes_on_by_a_command_is_no_answer(chunks_of):
    model = ScriptedChatModel(lambda messages: messages[-1].text)

    def decide(state) -> Command[Literal["chat"]]:
        model.invoke("To the chat!")
        return Command(goto="chat")

    def chat(state) -> Command[Literal["decide", "__end__"]]:
        return Command(goto=END, update={"messages": [model.invoke("Because.")]})

    builder = StateGraph(MessagesState)
    builder.add_node("decide", decide)
    builder.add_node("chat", chat)
    builder.add_edge(START, "decide")
    chunks = await chunks_of(builder.compile(), CHAT)
    assert "".join(chunks) == "Because."
    assert len(chunks) > 1


async def test_a_message_that_no_model_streams_comes_at_the_end(chunks_of, endpoint, caplog):
    graph = chat_with(endpoint, lambda state: {"messages": [AIMessage("Because.")]}, route="short")
    assert await chunks_of(graph, {"messages": [HumanMessage("Why?")]}) == ["Because."]
    assert not caplog.records


async def test_what_a_parent_leaves_as_it_was_is_no_answer(chunks_of, endpoint):
    graph = chat_with(endpoint, lambda state: {}, route="short")
    assert await chunks_of(graph, {"messages": [HumanMessage("Why?"), AIMessage("Because.")]}) == []


async def test_an_answer_that_comes_in_one_piece_at_the_end_is_no_silence(chunks_of, caplog):
    direct = create_sot_graph(ScriptedChatModel(lambda messages: "I just talk."), options=SotOptions(stream=False))
    assert "".join(await chunks_of(direct, CHAT)) == "I just talk."
    assert not [record for record in caplog.records if SILENCE in record.getMessage()]


async def test_a_thread_with_nothing_left_to_do_is_told_as_one(chunks_of, caplog):
    saver = InMemorySaver()
    await sot(checkpointer=saver).ainvoke(CHAT, THREAD)
    assert await chunks_of(sot(checkpointer=saver), None, THREAD) == []
    [record] = caplog.records
    assert "the run had ended before" in record.getMessage()


async def test_an_answer_of_a_nodes_cache_is_told_as_one(chunks_of, caplog):
    cache, given = InMemoryCache(), {"messages": [HumanMessage("How do plants grow?", id="1")]}
    for _ in range(2):
        builder = StateGraph(MessagesState)
        builder.add_node("answer", sot(), cache_policy=CachePolicy())
        builder.add_edge(START, "answer")
        chunks = await chunks_of(builder.compile(cache=cache), given)
    assert (len(chunks), chunks[0].count("**")) == (1, 6)
    [record] = caplog.records
    assert "CachePolicy" in record.getMessage()


async def test_what_a_node_beside_the_graph_says_is_no_part_of_the_answer(chunks_of, endpoint):
    model = endpoint.chat_model()

    async def title(state):
        await model.ainvoke("A title?")
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(endpoint.chat_model()))
    builder.add_node("title", RunnableLambda(lambda state: {"messages": []}, afunc=title))
    builder.add_edge(START, "answer")
    builder.add_edge(START, "title")
    graph = builder.compile()
    chunks = await chunks_of(graph, {"messages": [HumanMessage("Why?")]})
    assert "".join(chunks) == (await graph.ainvoke({"messages": [HumanMessage("Why?")]}))["messages"][-1].text


async def test_a_node_that_is_tried_again_gives_its_second_answer_too(chunks_of, endpoint):
    endpoint.faults = [Fault(Status(400), point_number(2), times=1)]
    options = SotOptions(on_point_failure="raise", max_retries=0)
    builder = StateGraph(MessagesState)
    policy = RetryPolicy(max_attempts=2, retry_on=ExpansionError, initial_interval=0.01)
    builder.add_node("answer", create_sot_graph(endpoint.chat_model(), options=options), retry_policy=policy)
    builder.add_edge(START, "answer")
    graph = builder.compile(checkpointer=InMemorySaver())
    text = "".join(await chunks_of(graph, {"messages": [HumanMessage("Why?")]}, THREAD))
    assert text.endswith("\n\n" + (await graph.aget_state(THREAD)).values["messages"][-1].text)


async def test_a_parent_that_goes_on_after_a_failed_answer_is_heard(chunks_of, endpoint):
    endpoint.faults = [Fault(Status(400), point_number(2))]
    inner = create_sot_graph(
        endpoint.chat_model(), options=SotOptions(on_point_failure="raise", max_retries=0), name="inner"
    )

    async def answer(state):
        try:
            return {"messages": (await inner.ainvoke(state))["messages"]}
        except ExpansionError:
            return {"messages": [AIMessage("Sorry.")]}

    def answer_in_thread(state):
        try:
            return {"messages": inner.invoke(state)["messages"]}
        except ExpansionError:
            return {"messages": [AIMessage("Sorry.")]}

    graph = parent_of(RunnableLambda(answer_in_thread, afunc=answer))
    text = "".join(await chunks_of(graph, {"messages": [HumanMessage("Why?")]}))
    assert text.startswith("**1. ")
    assert text.endswith("\n\nSorry.")


def in_one_function(inner):
    async def answer(state):
        try:
            result = await inner.ainvoke(state)
        except ExpansionError:
            result = await inner.ainvoke(state)
        return {"route": result["answer"]}

    def answer_in_thread(state):
        try:
            result = inner.invoke(state)
        except ExpansionError:
            result = inner.invoke(state)
        return {"route": result["answer"]}

    builder = StateGraph(Kept)
    builder.add_node("answer", RunnableLambda(answer_in_thread, afunc=answer))
    builder.add_edge(START, "answer")
    return builder


def in_another_node(inner):
    async def answer(state):
        try:
            return {"route": (await inner.ainvoke(state))["answer"]}
        except ExpansionError:
            return {"route": ""}

    def answer_in_thread(state):
        try:
            return {"route": inner.invoke(state)["answer"]}
        except ExpansionError:
            return {"route": ""}

    node = RunnableLambda(answer_in_thread, afunc=answer)
    builder = StateGraph(Kept)
    builder.add_sequence([("answer", node), ("again", node)])
    builder.add_edge(START, "answer")
    return builder


@pytest.mark.parametrize("build", [in_one_function, in_another_node])
async def test_the_call_that_follows_a_failed_one_is_read_as_it_is_written(chunks_of, endpoint, build):
    endpoint.faults = [Fault(Status(400), point_number(2), times=1)]
    options = SotOptions(on_point_failure="raise", max_retries=0)
    graph = build(create_sot_graph(endpoint.chat_model(), options=options)).compile(checkpointer=InMemorySaver())
    chunks = await chunks_of(graph, {"question": "Why?"}, THREAD)
    failed, _, whole = "".join(chunks).partition("\n\n**1. ")
    assert "is missing" in failed
    assert "**1. " + whole == graph.get_state(THREAD).values["route"]
    assert len([chunk for chunk in chunks if chunk in "**1. " + whole]) > 1


async def test_calls_that_a_function_makes_at_once_are_refused(endpoint):
    inner = create_sot_graph(endpoint.chat_model())

    async def answer(state):
        await asyncio.gather(inner.ainvoke(state), inner.ainvoke(state))

    with endpoint.hold(16, one_point), pytest.raises(SotConfigError, match="'answer' answers several times at once"):
        async for _ in astream_answer(parent_of(answer), CHAT):
            pass


async def test_an_answer_that_goes_on_after_another_nodes_is_refused():
    is_answered = asyncio.Event()

    async def write(given):
        await is_answered.wait() if given["point"]["index"] > 1 else None
        return "A text."

    quick = create_sot_graph(ScriptedChatModel(lambda messages: "Yes."), router=lambda *_: "direct")

    async def answer_quickly(state):
        await quick.ainvoke({"question": "Short?"})
        is_answered.set()

    builder = StateGraph(MessagesState).add_node("slow", sot(expander=write)).add_node("quick", answer_quickly)
    graph = builder.add_edge(START, "slow").add_edge(START, "quick").compile()
    with pytest.raises(SotConfigError, match="answer at once"):
        async for _ in astream_answer(graph, CHAT):
            pass


def test_a_runs_answer_goes_on_with_that_of_a_node_that_is_tried_again():
    transformer = AnswerTransformer()
    shown: list[str] = []
    transformer._channel.push = shown.append
    layout = {"heads": ["A: "], "separator": " ", "eager": True}
    points = [{"index": 1, "title": "A", "depends_on": []}]
    for answer in ("sot-answer-1", "sot-answer-2"):
        for event in (
            {"type": "sot.skeleton", "points": points, "id": f"{answer}:answer", **layout},
            {"type": "sot.point.delta", "index": 1, "text": f"of {answer}", "id": f"{answer}:1"},
        ):
            transformer.process({"method": "custom", "params": {"namespace": ["answer:1"], "data": event}})
    event = {"type": "sot.answer", "answer": "A: of sot-answer-2", "id": "sot-answer-2:answer"}
    transformer.process({"method": "custom", "params": {"namespace": ["answer:1"], "data": event}})
    assert "".join(shown) == "A: of sot-answer-1\n\nA: of sot-answer-2"
