"""A prompt reaches the endpoint as it is, in whatever form it is handed over."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from sot_graph import create_sot_graph
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.prompts.messages import without_system
from sot_graph.testing import Fault, ScriptedChatModel, SkeletonResponder, Status

LONG = "Roots drink. " * 500
CALLED = {"name": "look_up", "args": {"what": "roots"}, "id": "1"}
PROMPT = [
    SystemMessage("You know plants."),
    HumanMessage("How do plants grow?"),
    AIMessage(LONG),
    AIMessage("Short."),
    AIMessage(LONG, tool_calls=[CALLED]),
    AIMessage(LONG, name="gardener"),
    AIMessage([{"type": "text", "text": LONG}]),
]


@pytest.fixture
def chat():
    return ChatOpenAI(model="simulated", api_key="test")


@pytest.mark.parametrize(
    "wrap", [lambda chat: chat, lambda chat: chat.bind(stop=["."]), lambda chat: chat.with_config(tags=["a"])]
)
def test_the_request_is_the_same(chat, wrap):
    shaped = LoopModel(wrap(chat)).shape_prompt(PROMPT)
    assert chat._get_request_payload(shaped) == chat._get_request_payload(PROMPT)


def test_a_long_reply_is_not_looked_through(chat):
    shaped = LoopModel(chat).shape_prompt(PROMPT)
    assert [before is after for before, after in zip(PROMPT, shaped, strict=True)] == [True, True, False, *[True] * 4]
    assert not isinstance(shaped[2], AIMessage)


def test_other_models_get_what_there_is():
    assert LoopModel(ScriptedChatModel(lambda messages: "Roots.")).shape_prompt(PROMPT) == PROMPT


SAYINGS = [
    "System role not supported",
    "Developer instruction is not enabled for models/gemma-3-27b-it",
    "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
    "Only user and assistant roles are supported!",
]


@pytest.mark.parametrize("said", SAYINGS)
async def test_a_model_that_takes_no_system_messages_is_told_in_the_users_first_turn(endpoint, said):
    endpoint.responder = SkeletonResponder(titles=["Seed", "Soil", "Sun"])
    endpoint.faults = [Fault(Status(400, message=said), lambda request: request.messages[0]["role"] == "system")]
    graph = create_sot_graph(endpoint.chat_model())
    asked = {"question": "How do plants grow?", "given_skeleton": ["Seed", "Soil", "Sun"]}
    first = await graph.ainvoke(asked)
    assert [point["status"] for point in first["expansions"]] == ["ok"] * 3
    endpoint.reset()
    second = await graph.ainvoke({"question": "How do plants grow?"})
    assert second["usage"]["total"]["calls"] == len(endpoint.requests) == 4
    for logged in endpoint.requests:
        assert logged.request.messages[0]["role"] == "user"
        assert "accurate, well-organised answers" in logged.request.messages[0]["content"]


def test_what_a_system_message_says_goes_before_what_is_asked_be_it_in_blocks():
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    folded = without_system([SystemMessage("You know plants."), HumanMessage([picture]), AIMessage("Hm.")])
    assert [message.type for message in folded] == ["human", "ai"]
    assert folded[0].content == [{"type": "text", "text": "You know plants."}, picture]
    assert without_system([SystemMessage("Go."), AIMessage("Hm.")])[0] == HumanMessage("Go.")
