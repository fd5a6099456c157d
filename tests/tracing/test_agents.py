"""The middleware's own call of the agent's model: its errors are as clean as those of the graph's calls."""

import json
import re

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tracers import LangChainTracer
from langchain_openai import ChatOpenAI

from sot_graph import RoutingError, SkeletonOfThoughtMiddleware, SotOptions
from sot_graph.testing import Fault, Physics, Reply, ScriptedChatModel, SkeletonResponder, Stall, Status
from tests.support.strict_endpoint import StrictEndpoint

KEY = "canary-key-of-the-model"
QUESTION = "Why does the zebrafinch canaryquestion sing at dawn?"
ASK = {"messages": [HumanMessage(QUESTION)]}
SECRET = re.compile(rb"canaryquestion|zebrafinch", re.IGNORECASE)
HIDDEN = {"hide_inputs": True, "hide_outputs": True}
HEADERS = {"Connection": "close"}


def decides(request):
    return "Decide how to go on" in request.text and "<point>" not in request.text


@pytest.fixture
def endpoint():
    with StrictEndpoint(lambda request: Reply("About it."), api_keys=[KEY], physics=Physics.instant()) as running:
        yield running


@pytest.fixture
def quotes(monkeypatch, endpoint):
    """The provider's errors quote the prompt and the key that it got."""
    from sot_graph.testing import simulated_endpoint

    original = simulated_endpoint.error_body

    def body(message, **kwargs):
        return original(f"{message} {endpoint.requests[-1].request.text} for the key {KEY} (Bearer {KEY})", **kwargs)

    monkeypatch.setattr(simulated_endpoint, "error_body", body)
    endpoint.faults = [Fault(Status(400))]


def agent_of(endpoint, router=lambda question, history: "skeleton", **options):
    model = ChatOpenAI(
        model="simulated", base_url=endpoint.base_url, api_key=KEY, max_retries=0, default_headers=HEADERS
    )
    return create_agent(model, middleware=[SkeletonOfThoughtMiddleware(router, options=SotOptions(**options))])


async def _stream(agent, config):
    return [part async for part in agent.astream(ASK, config, stream_mode="messages")]


@pytest.mark.parametrize("streamed", [False, True])
async def test_no_error_of_the_deciding_call_tells_what_is_hidden(streamed, run, endpoint, quotes, recorder):
    tracer = LangChainTracer(client=recorder.client(**HIDDEN))
    with pytest.raises(Exception, match="400") as raised:
        await (
            _stream(agent_of(endpoint), {"callbacks": [tracer]})
            if streamed
            else run(agent_of(endpoint), ASK, {"callbacks": [tracer]})
        )
    root = recorder.root()
    assert root.find("decide").error.startswith("OpenAIInvalidRequestError('*** (HTTP 400)')")
    assert not SECRET.findall(recorder.traffic)
    assert KEY.encode() not in recorder.traffic
    assert KEY not in json.dumps([str(raised.value), getattr(raised.value, "body", None)])


async def test_its_errors_hold_no_key_where_nothing_is_hidden(run, endpoint, quotes, recorder):
    with pytest.raises(Exception, match="canaryquestion"):
        await run(agent_of(endpoint), ASK, {"callbacks": [LangChainTracer(client=recorder.client())]})
    assert "canaryquestion" in recorder.root().find("decide").error
    assert KEY.encode() not in recorder.traffic


class KeptForEver(Exception):
    """An error that nobody can change."""

    def __str__(self):
        return f"no: {QUESTION}"


async def test_an_error_that_cannot_be_cleaned_is_told_by_its_class(run, recorder):
    def refuse(messages):
        raise KeptForEver

    agent = create_agent(ScriptedChatModel(refuse), middleware=[SkeletonOfThoughtMiddleware(lambda *_: "skeleton")])
    with pytest.raises(KeptForEver):
        await run(agent, ASK, {"callbacks": [LangChainTracer(client=recorder.client(**HIDDEN))]})
    assert not SECRET.search(recorder.root().find("decide").error.encode())


async def test_a_routers_error_tells_nothing_that_is_hidden(run, endpoint, recorder):
    def broken(question, history):
        raise ValueError(f"no: {question}")

    agent = agent_of(endpoint, broken, on_router_failure="raise")
    with pytest.raises(RoutingError):
        await run(agent, ASK, {"callbacks": [LangChainTracer(client=recorder.client(**HIDDEN))]})
    recorder.root()
    assert not SECRET.findall(recorder.traffic)


async def test_every_run_is_traced_once(run, endpoint, recorder, caplog):
    write = SkeletonResponder(points=3, words_per_point=8)
    endpoint.responder = lambda request: Reply("1. One\n2. Two\n3. Three") if decides(request) else write(request)
    await run(agent_of(endpoint), ASK, {"callbacks": [LangChainTracer(client=recorder.client())]})
    runs = list(recorder.root().walk())
    assert [each.name for each in runs if each.kind == "llm"][:2] == ["skeleton of thought", "decide"]
    assert sum(each.kind == "llm" for each in runs) == 5
    assert all(len(set(each.tags)) == len(each.tags) for each in runs)
    assert "No indexed run" not in caplog.text


async def test_the_run_of_the_model_in_its_place_says_nothing_of_what_it_is_made_of(run, endpoint, recorder):
    model = ChatOpenAI(model="simulated", base_url=endpoint.base_url, api_key=KEY, default_headers={"X-Token": KEY})
    agent = create_agent(model, middleware=[SkeletonOfThoughtMiddleware(lambda *_: "skeleton")])
    await run(agent, ASK, {"callbacks": [LangChainTracer(client=recorder.client())]})
    told = recorder.root().find("skeleton of thought").fields["serialized"]["repr"]
    assert KEY not in told
    assert "ChatOpenAI" not in told


async def test_a_deciding_call_that_was_given_up_has_an_end_in_the_trace(run, endpoint, recorder):
    endpoint.faults = [Fault(Stall())]
    tracer = LangChainTracer(client=recorder.client())
    with pytest.raises(Exception, match="deadline"):
        await run(agent_of(endpoint, deadline=0.2), ASK, {"callbacks": [tracer]})
    assert "given up" in recorder.root().find("decide").error
