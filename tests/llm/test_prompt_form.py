"""A prompt reaches the endpoint as it is, in whatever form it is handed over."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from sot_graph.llm.loop_bound_model import prompt_form
from sot_graph.testing import ScriptedChatModel

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
    shaped = prompt_form(wrap(chat))(PROMPT)
    assert chat._get_request_payload(shaped) == chat._get_request_payload(PROMPT)


def test_a_long_reply_is_not_looked_through(chat):
    shaped = prompt_form(chat)(PROMPT)
    assert [before is after for before, after in zip(PROMPT, shaped, strict=True)] == [True, True, False, *[True] * 4]
    assert not isinstance(shaped[2], AIMessage)


def test_other_models_get_what_there_is():
    assert prompt_form(ScriptedChatModel(["Roots."]))(PROMPT) == PROMPT
