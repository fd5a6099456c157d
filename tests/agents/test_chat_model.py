"""`SotChatModel`: the graph where only a chat model fits."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tracers.base import BaseTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from sot_graph import ExpansionError, SotChatModel, SotConfigError, SotOptions, astream_answer, create_sot_graph
from sot_graph.testing import Fault, ScriptedChatModel, Status
from tests.support.chat_requests import one_point

ASK = "How do plants grow?"


@pytest.fixture
def model(endpoint):
    return SotChatModel(graph=create_sot_graph(endpoint.chat_model(), options=SotOptions(max_retries=0)))


async def test_it_answers_as_a_model_does(run, model, endpoint):
    message = await run(model, ASK)
    assert message.text.startswith("**1. ")
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.response_metadata["sot"]["usage"]["total"]["calls"] == len(endpoint.requests) == 4


async def test_it_streams_in_reading_order(model):
    for chunks in (list(model.stream(ASK)), [chunk async for chunk in model.astream(ASK)]):
        assert {type(chunk) for chunk in chunks} == {AIMessageChunk}
        assert len({chunk.id for chunk in chunks}) == 1
        whole = sum(chunks[1:], chunks[0])
        titles = [point["title"] for point in whole.response_metadata["sot"]["skeleton"]]
        places = [whole.text.index(f"**{number}. {title}**") for number, title in enumerate(titles, 1)]
        assert all(one < other for one, other in pairwise(places))


async def test_in_a_chain_with_a_conversation(model, endpoint):
    prompt = ChatPromptTemplate.from_messages([("system", "You are a gardener."), ("human", "{question}")])
    chain = prompt | model | StrOutputParser()
    assert (await chain.ainvoke({"question": ASK})).startswith("**1. ")
    assert all("You are a gardener." in logged.request.raw["messages"][0]["content"] for logged in endpoint.requests)


async def test_what_it_writes_for_another_node_is_not_the_parents_answer(model):
    async def plan(state):
        await model.ainvoke("Notes, please.")

    builder = StateGraph(MessagesState)
    builder.add_node("plan", plan)
    builder.add_node("say", lambda state: {"messages": [AIMessage("The answer.")]})
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "say")
    text = "".join([text async for text in astream_answer(builder.compile(), {"messages": [("user", ASK)]})])
    assert text == "The answer."


async def test_in_a_node_it_is_heard_as_any_model_is(model):
    builder = StateGraph(MessagesState)

    async def write(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder.add_node("write", write)
    builder.add_edge(START, "write")
    graph = builder.compile()
    asked = {"messages": [HumanMessage(ASK)]}
    for subgraphs in (False, True):
        parts = graph.astream(asked, stream_mode="messages", subgraphs=subgraphs)
        said = [part[1][0] if subgraphs else part[0] async for part in parts]
        assert {type(message) for message in said} == {AIMessageChunk}
        assert len({message.id for message in said}) == 1
        assert "".join(message.content for message in said).startswith("**1. ")


class Tree(BaseTracer):
    """Keeps the runs of a trace."""

    def __init__(self):
        super().__init__()
        self.roots = []

    def _persist_run(self, run):
        self.roots.append(run)


async def test_each_call_is_counted_once_and_hangs_below_the_models_run(run, model, endpoint):
    counter, tree = UsageMetadataCallbackHandler(), Tree()
    message = await run(model, ASK, {"callbacks": [counter, tree]})
    (counted,) = counter.usage_metadata.values()
    total = message.response_metadata["sot"]["usage"]["total"]
    assert counted["output_tokens"] == total["output_tokens"] > 0
    (root,) = tree.roots
    assert root.run_type == "llm"
    assert [child.run_type for child in root.child_runs] == ["chain"]


async def test_a_context_is_laid_over_the_graphs_options(run, endpoint):
    changes = {"min_points": 1, "max_points": 2}
    for context in (changes, {"sot": changes}, SimpleNamespace(**changes), SimpleNamespace(sot=changes, user="ada")):
        message = await run(SotChatModel(graph=create_sot_graph(endpoint.chat_model()), context=context), ASK)
        assert len(message.response_metadata["sot"]["skeleton"]) == 2


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ("nonsense", "takes a compiled graph of create_sot_graph, not str"),
        (StateGraph(MessagesState).add_node("a", print).add_edge(START, "a").compile(), "not CompiledStateGraph"),
        (create_sot_graph(ScriptedChatModel(print), checkpointer=InMemorySaver()), "has a checkpointer"),
    ],
)
def test_what_is_no_graph_for_a_model_is_refused_when_it_is_made(graph, said):
    with pytest.raises(SotConfigError, match=said):
        SotChatModel(graph=graph)


def test_tools_are_refused_with_what_to_do_instead(model):
    with pytest.raises(SotConfigError, match=r"calls no tools.*SkeletonOfThoughtMiddleware"):
        model.bind_tools([])


async def test_settings_of_a_call_are_refused(run, model):
    with pytest.raises(SotConfigError, match="takes no stop, temperature"):
        await run(model.bind(stop=["x"], temperature=0.0), ASK)


async def test_what_the_graph_raises_comes_through(run, endpoint, model):
    endpoint.faults = [Fault(Status(400), one_point)]
    with pytest.raises(ExpansionError):
        await run(model, ASK)


async def test_leaving_a_stream_closes_its_calls(model, endpoint):
    async def read():
        async for _ in model.astream(ASK):
            pass

    with endpoint.hold(4, one_point):
        reading = asyncio.create_task(read())
        await endpoint.wait_for_async(lambda requests: sum(one_point(each.request) for each in requests) == 3)
        reading.cancel()
        await asyncio.wait({reading})
        await endpoint.wait_for_async(lambda requests: all(each.outcome for each in requests))
        assert all(each.outcome != "ok" for each in endpoint.requests if one_point(each.request))
