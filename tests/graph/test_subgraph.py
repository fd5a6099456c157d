"""Inside a parent graph."""

from typing import Annotated

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from sot_graph import create_sot_graph
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
    """A parent with keys of the same names."""

    question: str
    messages: Annotated[list[AnyMessage], add_messages]
    skeleton: list
    expansions: list
    answer: str
    usage: dict


async def test_a_chat_graph_gets_one_message_back(run):
    result = await run(parent_of(MessagesState), {"messages": [HumanMessage("Why?")]})
    assert [type(message) for message in result["messages"]] == [HumanMessage, AIMessage]


async def test_a_parent_with_keys_of_the_same_names_gets_each_result_once(run):
    result = await run(parent_of(SameKeys), {"question": "Why?"})
    assert [point["index"] for point in result["expansions"]] == [1, 2, 3]
    assert len(result["skeleton"]) == 3
    assert result["usage"]["total"]["calls"] == 4
    assert [message.text for message in result["messages"]] == ["Why?", result["answer"]]


async def test_two_turns_on_one_thread_of_the_parent_are_two_answers(run):
    graph = parent_of(SameKeys, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    await run(graph, {"question": "First?"}, config)
    second = await run(graph, {"question": "Second?"}, config)
    assert len(second["expansions"]) == 3
    assert second["usage"]["total"]["calls"] == 4
    assert [message.text for message in second["messages"]][::2] == ["First?", "Second?"]
    assert second["messages"][-1].text == second["answer"]


async def test_a_child_with_a_memory_of_its_own_keeps_nothing_of_an_earlier_question(run):
    builder = StateGraph(SameKeys)
    builder.add_node("answer", sot(checkpointer=True))
    builder.add_edge(START, "answer")
    graph = builder.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    await run(graph, {"question": "First?"}, config)
    second = await run(graph, {"question": "Second?"}, config)
    assert [point["index"] for point in second["expansions"]] == [1, 2, 3]
    assert second["usage"]["total"]["calls"] == 4


async def test_a_parents_context_comes_through_and_what_is_not_ours_is_ignored(run):
    class Context(TypedDict, total=False):
        tenant: str
        max_points: int

    builder = StateGraph(SameKeys, context_schema=Context)
    builder.add_node("answer", sot(points=8))
    builder.add_edge(START, "answer")
    result = await run(builder.compile(), {"question": "Why?"}, context={"tenant": "acme", "max_points": 4})
    assert len(result["skeleton"]) == 4


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
