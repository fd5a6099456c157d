"""What the points get to see of an agent's conversation, be it pictures, marks for a cache, or very much."""

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from sot_graph import SkeletonOfThoughtMiddleware, create_sot_graph
from sot_graph.testing import Reply, SkeletonResponder
from tests.support.chat_requests import one_point

TITLES = ["Choosing a spot", "Preparing the soil", "Picking crops"]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
HUGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}
WHY = {"type": "text", "text": "What grows in this garden?"}


@pytest.fixture
def points(endpoint, run):
    """Has an agent answer, and gives back its answer and what the points were asked with."""
    write = SkeletonResponder(titles=TITLES, words_per_point=12)

    def respond(request):
        if one_point(request):
            return write(request)
        return Reply("\n".join(f"{number}. {title}" for number, title in enumerate(TITLES, 1)))

    endpoint.responder = respond

    async def ask(*messages, system_prompt=None):
        ours = SkeletonOfThoughtMiddleware(lambda question, history: "skeleton")
        agent = create_agent(endpoint.chat_model(), middleware=[ours], system_prompt=system_prompt)
        result = await run(agent, {"messages": list(messages)})
        asked = [one.request.raw["messages"] for one in endpoint.requests if one_point(one.request)]
        assert len(asked) == len(TITLES)
        return result["messages"][-1], asked

    return ask


def blocks_in(messages):
    return [block for message in messages if isinstance(message["content"], list) for block in message["content"]]


async def test_points_see_the_pictures_of_the_question(points, caplog):
    _, asked = await points(HumanMessage([WHY, PICTURE]))
    for messages in asked:
        assert PICTURE in blocks_in(messages)
        assert "What grows in this garden?" in str(messages)
    assert "left out" not in caplog.text


async def test_points_see_the_pictures_that_were_shown_before(points):
    _, asked = await points(HumanMessage([WHY, PICTURE]), AIMessage("Peas."), HumanMessage("How do they grow?"))
    assert all(PICTURE in blocks_in(messages) for messages in asked)


async def test_points_see_the_pictures_that_tools_have_found(points):
    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}])
    found = ToolMessage([{"type": "text", "text": "Here it is."}, PICTURE], tool_call_id="1")
    _, asked = await points(HumanMessage("What grows in my garden?"), call, found)
    for messages in asked:
        assert PICTURE in blocks_in(messages)
        assert "Here it is." in str(messages)


async def test_a_pictures_bytes_are_no_characters_of_the_conversation(points):
    answer, _ = await points(HumanMessage([WHY, HUGE]), AIMessage("Peas."), HumanMessage("How do they grow?"))
    assert answer.text.startswith("**1. Choosing a spot**")


async def test_nor_are_they_for_the_graph_itself(run, endpoint):
    endpoint.responder = SkeletonResponder(titles=TITLES, words_per_point=12)
    graph = create_sot_graph(endpoint.chat_model())
    shown = [HumanMessage([WHY, HUGE]), AIMessage("Peas."), HumanMessage("How do they grow?")]
    assert (await run(graph, {"messages": shown}))["route"] == "skeleton"


async def test_a_system_prompts_marks_for_a_providers_cache_reach_the_points(points):
    marked = {"type": "text", "text": "You are a gardener.", "cache_control": {"type": "ephemeral"}}
    _, asked = await points(HumanMessage("How do peas grow?"), system_prompt=SystemMessage([marked]))
    for messages in asked:
        assert messages[0]["role"] == "system"
        assert messages[0]["content"][0] == marked
        assert sum(message["role"] == "system" for message in messages) == 1


async def test_a_conversation_that_is_too_long_only_as_the_points_would_get_it_is_the_agents_own(run, endpoint, caplog):
    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}])
    found = ToolMessage("x" * 199_970, tool_call_id="1")  # which is told to the points between two tags
    endpoint.responder = lambda request: Reply("Peas.")
    ours = SkeletonOfThoughtMiddleware(lambda question, history: "skeleton")
    asked = {"messages": [HumanMessage("What grows in my garden?"), call, found]}
    result = await run(create_agent(endpoint.chat_model(), middleware=[ours]), asked)
    assert result["messages"][-1].text == "Peas."
    assert "Decide how" not in endpoint.requests[0].request.text
    assert "the agent answers by itself" in caplog.text


async def test_the_answer_tells_which_model_has_written_it(points):
    answer, _ = await points(HumanMessage("How do peas grow?"))
    assert answer.response_metadata["model_name"] == "simulated"
    assert answer.response_metadata["model_provider"] == "openai"
