"""An agent whose model thinks in its replies' text: what decides, and what is written, is what follows the thought."""

from dataclasses import replace

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage

from sot_graph import SkeletonOfThoughtMiddleware
from sot_graph.testing import Reply, SkeletonResponder
from tests.support.chat_requests import one_point

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
