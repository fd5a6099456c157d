"""What parents, users and tools of LangGraph do to a graph."""

import copy
import json
import pickle

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from sot_graph import (
    CallLimiter,
    ExpansionError,
    SotConfigError,
    SotOptions,
    SotPrompts,
    create_sot_graph,
    stream_answer,
)
from tests.support.chat_requests import one_point

ASK = {"question": "How do plants grow?"}
THREAD = {"configurable": {"thread_id": "1"}}


def test_a_result_within_a_node_is_copied_and_pickled_whole(endpoint):
    graph, found = create_sot_graph(endpoint.chat_model()), []

    def node(state):
        result = graph.invoke({"question": "Why?"})
        found.append(
            (result["answer"], [each["answer"] for each in (copy.deepcopy(result), pickle.loads(pickle.dumps(result)))])
        )
        return {"answer": json.dumps({**result, "messages": []})}

    builder = StateGraph(dict)
    builder.add_node("ask", node)
    builder.add_edge(START, "ask")
    builder.compile().invoke({})
    ((answer, copies),) = found
    assert copies == [answer] * 2


@pytest.mark.parametrize("held", [SotPrompts.small(), CallLimiter(2)], ids=["prompts", "limiter"])
def test_what_a_graph_is_made_of_may_be_in_what_is_copied(held):
    assert copy.deepcopy([held])[0] == held


async def test_a_deep_copy_works_as_the_graph_does(run, endpoint):
    graph = create_sot_graph(endpoint.chat_model(), router=lambda *_: "skeleton", checkpointer=InMemorySaver())
    copied = copy.deepcopy(graph)
    assert (await run(copied, ASK, THREAD))["answer"] == (await run(graph, ASK, THREAD))["answer"]


@pytest.mark.parametrize("given", ["How do plants grow?", [HumanMessage("Why?")], HumanMessage("Why?")], ids=repr)
async def test_what_is_no_input_says_what_one_looks_like(run, endpoint, given):
    graph = create_sot_graph(endpoint.chat_model())
    with pytest.raises(SotConfigError, match=r'takes {"question": "..."} or {"messages"'):
        await run(graph, given)
    with pytest.raises(SotConfigError, match=r'takes {"question": "..."} or {"messages"'):
        list(stream_answer(graph, given))


EDITED = [{"index": 1, "title": "Seeds", "depends_on": []}, {"index": 2, "title": "Compost", "depends_on": []}]


async def test_a_skeleton_that_is_edited_in_the_state_is_what_is_written(endpoint, dispatch):
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(dispatch=dispatch), checkpointer=InMemorySaver())
    await graph.ainvoke(ASK, THREAD)
    endpoint.reset()
    fork = await graph.aupdate_state(THREAD, {"skeleton": EDITED}, as_node="draft_skeleton")
    result = await graph.ainvoke(None, fork)
    assert [one["title"] for one in result["expansions"]] == ["Seeds", "Compost"]
    assert result["answer"].startswith("**1. Seeds**")
    assert "**2. Compost**" in result["answer"]
    assert "**3." not in result["answer"]
    assert len(endpoint.requests) == 2
    for logged in endpoint.requests:
        skeleton = logged.request.messages[-2]["content"]
        assert "Seeds" in skeleton
        assert "Compost" in skeleton
        assert len(skeleton.splitlines()) == 2


async def test_an_edit_before_anything_is_written_is_followed_too(endpoint):
    graph = create_sot_graph(endpoint.chat_model(), checkpointer=InMemorySaver())
    stopped = await graph.ainvoke(ASK, THREAD, interrupt_before=["expand_point"])
    assert stopped["expansions"] == []
    await graph.aupdate_state(THREAD, {"skeleton": EDITED}, as_node="draft_skeleton")
    result = await graph.ainvoke(None, THREAD)
    assert [one["title"] for one in result["expansions"]] == ["Seeds", "Compost"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_routers_interrupt_stops_the_run_and_its_answer_decides(run, endpoint, kind):
    def ask(question, history):
        return interrupt({"how": "to answer?", "question": question})

    async def aask(question, history):
        return ask(question, history)

    graph = create_sot_graph(
        endpoint.chat_model(), router=ask if kind == "sync" else aask, checkpointer=InMemorySaver()
    )
    stopped = await run(graph, ASK, THREAD)
    assert stopped["__interrupt__"][0].value == {"how": "to answer?", "question": ASK["question"]}
    assert endpoint.requests == []
    result = await run(graph, Command(resume="direct"), THREAD)
    assert result["route"] == "direct"
    assert len(endpoint.requests) == 1


def asks(given):
    return interrupt("Which?")


def leaves(given):
    return Command(graph=Command.PARENT, goto="other")


def agent_that_leaves():
    builder = StateGraph(MessagesState)
    builder.add_node("agent", leaves)
    builder.add_edge(START, "agent")
    return builder.compile()


@pytest.mark.parametrize(
    ("expander", "why"),
    [
        (asks, "asked for a person"),
        (leaves, "returned a Command to another graph"),
        (agent_that_leaves(), "returned a Command to another graph"),
    ],
)
async def test_an_expander_that_asks_for_a_person_or_leaves_says_that_a_point_cant(run, endpoint, expander, why):
    with pytest.raises(ExpansionError, match=why):
        await run(create_sot_graph(endpoint.chat_model(), expander=expander), ASK)
    assert not any(one_point(each.request) for each in endpoint.requests)
