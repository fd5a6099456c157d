"""`ag-ui-langgraph`: what CopilotKit and other AG-UI front ends hear."""

import json

import httpx2
import pytest
from ag_ui_langgraph import LangGraphAgent, add_langgraph_fastapi_endpoint
from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver

from tests.clients.conftest import ANSWER, QUESTION

# The package asks for a graph's schemas by a name that LangGraph has given up.
pytestmark = pytest.mark.filterwarnings("ignore:`get_config_jsonschema` is deprecated")


@pytest.fixture
def agent(make_graph, serve):
    """The address of the graph as an agent."""
    graph = make_graph(InMemorySaver())
    app = FastAPI()
    add_langgraph_fastapi_endpoint(app, LangGraphAgent(name="sot", graph=graph), "/agent")
    return f"{serve(app)}/agent"


@pytest.fixture
def ask():
    """Runs the agent with these messages; what it says is shown. Gives the events' kinds, and the last messages."""

    async def run(agent, shown, number, messages):
        body = {"threadId": "1", "runId": str(number), "messages": messages}
        body |= {"tools": [], "context": [], "state": {}, "forwardedProps": {}}
        kinds, snapshot = [], []
        async with httpx2.AsyncClient() as http, http.stream("POST", agent, json=body) as response:
            async for line in response.aiter_lines():
                if line:
                    event = json.loads(line.removeprefix("data: "))
                    kinds.append(event["type"])
                    snapshot = event.get("messages", snapshot)
                    if event["type"] == "TEXT_MESSAGE_CONTENT":
                        shown.add(event["messageId"], event["delta"])
        return kinds, snapshot

    return run


async def test_each_answer_is_one_message(agent, ask, showing):
    messages = []
    for number in (1, 2):
        messages.append({"id": str(number), "role": "user", "content": QUESTION})
        with showing() as shown:
            kinds, messages = await ask(agent, shown, number, messages)
        shown.is_live()
        assert (kinds[0], kinds[-1]) == ("RUN_STARTED", "RUN_FINISHED")
        assert kinds.count("TEXT_MESSAGE_START") == kinds.count("TEXT_MESSAGE_END") == 1
        assert shown.ids == {messages[-1]["id"]}
    assert [message["content"] for message in messages] == [QUESTION, ANSWER] * 2
