"""Agents whose models think in their replies' text, or are called on several event loops."""

import asyncio
from dataclasses import replace

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage

from sot_graph import SkeletonOfThoughtMiddleware
from sot_graph.testing import Physics, Reply, SimulatedEndpoint, SkeletonResponder
from tests.support.chat_requests import decides, one_point

ASK = {"messages": [HumanMessage("How do I start a garden in Oslo?", id="1")]}
TITLES = ["Choosing a spot", "Preparing the soil", "Picking crops"]
THOUGHT = "<think>\n1. A garden.\n2. Oslo.\n3. Cold.\n4. Perhaps potatoes.\n</think>\n\n"


@pytest.fixture
def agent(endpoint):
    write = SkeletonResponder(titles=TITLES, words_per_point=12)

    def respond(request):
        reply = write(request) if one_point(request) else Reply("\n".join(f"- {title}" for title in TITLES))
        return replace(reply, text=THOUGHT + reply.text)

    endpoint.responder = respond
    return create_agent(endpoint.chat_model(), [], middleware=[SkeletonOfThoughtMiddleware(lambda *_: "skeleton")])


async def test_the_skeleton_is_read_behind_the_thought(run, agent, endpoint):
    answer = (await run(agent))["messages"][-1].text
    assert [title in answer for title in TITLES] == [True] * 3
    assert "potatoes" not in answer
    assert len(endpoint.requests) == 4


async def test_so_it_is_while_it_streams(agent):
    pieces = [
        message.text async for message, _ in agent.astream(ASK, stream_mode="messages") if message.type != "human"
    ]
    assert "Picking crops" in "".join(pieces)
    assert "potatoes" not in "".join(pieces)


def test_the_deciding_call_goes_out_once_on_every_event_loop():
    write = SkeletonResponder(titles=TITLES, words_per_point=12)

    def respond(request):
        return write(request) if one_point(request) else Reply("\n".join(f"- {title}" for title in TITLES))

    # With LangChain's own client, which all models of a process share, and which is bound to the first loop.
    with SimulatedEndpoint(respond, physics=Physics.instant()) as plain:
        middleware = [SkeletonOfThoughtMiddleware(lambda *_: "skeleton")]
        agent = create_agent(plain.chat_model(max_retries=0), [], middleware=middleware)
        for runs in range(1, 4):
            asyncio.run(agent.ainvoke(ASK))
            assert sum(decides(entry.request) for entry in plain.requests) == runs
            assert len(plain.requests) == 4 * runs
