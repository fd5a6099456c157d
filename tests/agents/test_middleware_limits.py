"""What the middleware promises where time or tokens run out, or where it is made with something that can't be."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_core.messages import HumanMessage

from sot_graph import (
    CascadeRouter,
    LearnedRouter,
    PointwiseJoin,
    SkeletonError,
    SkeletonOfThoughtMiddleware,
    SotConfigError,
    SotOptions,
    SotPrompts,
    create_sot_graph,
)
from sot_graph.skeleton.answering_drafter import SkeletonForm
from sot_graph.testing import CutOff, Fault, Reply, ScriptedChatModel, SkeletonResponder, Stall, ToolCall
from tests.support.chat_requests import decides, one_point

ASK = {"messages": [HumanMessage("How do I start a garden in Oslo?", id="1")]}
TITLES = ["Choosing a spot", "Preparing the soil", "Picking crops"]
LIST = "\n".join(f"{number}. {title}" for number, title in enumerate(TITLES, 1))
OWN = "It is a long story, and this is the agent's own way of telling it."


def weather(city: str) -> str:
    """How the weather is."""
    return f"12 degrees in {city}"


@pytest.fixture
def model(endpoint):
    """Writes a skeleton where it is told how, the points of it, and anything else in its own words."""
    write = SkeletonResponder(titles=TITLES, words_per_point=12)

    def respond(request):
        if one_point(request):
            return write(request)
        return Reply(LIST if decides(request) else OWN)

    endpoint.responder = respond
    return endpoint.chat_model(max_retries=0)


def agent_of(model, tools=(), middleware=(), **options):
    ours = SkeletonOfThoughtMiddleware(lambda question, history: "skeleton", options=SotOptions(**options))
    return create_agent(model, list(tools), middleware=[*middleware, ours])


async def read(agent, *, sync):
    """The agent's own stream, and whether it ended well."""
    text = ""

    def take():
        nonlocal text
        for chunk, _ in agent.stream(ASK, stream_mode="messages"):
            text += chunk.text

    async def atake():
        nonlocal text
        async for chunk, _ in agent.astream(ASK, stream_mode="messages"):
            text += chunk.text

    error = None
    try:
        await (asyncio.to_thread(take) if sync else atake())
    except SkeletonError as raised:
        error = raised
    return text, error


# --- A skeleton that was cut off ---


async def test_a_skeleton_cut_off_with_too_few_titles_is_no_answer(run, model, endpoint, caplog):
    endpoint.faults = [Fault(CutOff(8), decides)]
    message = (await run(agent_of(model), ASK))["messages"][-1]
    assert message.text == OWN
    assert message.response_metadata["finish_reason"] == "stop"
    assert [decides(one.request) for one in endpoint.requests] == [True, False]
    assert message.usage_metadata["input_tokens"] == sum(one.request.prompt_tokens for one in endpoint.requests)
    assert "the agent answers by itself" in caplog.text


@pytest.mark.parametrize("sync", [True, False])
async def test_nothing_of_it_is_streamed(model, endpoint, sync):
    endpoint.faults = [Fault(CutOff(2), decides)]  # in mid first title
    assert await read(agent_of(model), sync=sync) == (OWN, None)


async def test_then_the_agent_may_call_its_tools_as_ever(run, endpoint):
    def respond(request):
        if decides(request):
            return Reply(LIST)
        has_results = any(message.get("role") == "tool" for message in request.messages)
        return Reply(OWN) if has_results else Reply("", tool_calls=[ToolCall("weather", {"city": "Oslo"}, id="w")])

    endpoint.responder = respond
    endpoint.faults = [Fault(CutOff(8), decides)]
    result = await run(agent_of(endpoint.chat_model(), [weather]), ASK)
    assert [message.type for message in result["messages"]] == ["human", "ai", "tool", "ai"]


# --- The deadline ---


@pytest.mark.parametrize("sync", [True, False])
async def test_an_agents_model_that_has_not_answered_at_the_deadline_is_an_error(model, endpoint, sync):
    endpoint.faults = [Fault(Stall())]
    text, error = await read(agent_of(model, deadline=0.3), sync=sync)
    assert text == ""
    assert "deadline (0.3 s)" in str(error)


async def test_so_it_is_where_nobody_streams(run, model, endpoint):
    endpoint.faults = [Fault(Stall())]
    with pytest.raises(SkeletonError, match="deadline"):
        await run(agent_of(model, deadline=0.3), ASK)


async def test_a_retry_around_it_begins_a_new_deadline(run, model, endpoint):
    endpoint.faults = [Fault(Stall(), times=1)]
    again = ModelRetryMiddleware(max_retries=1, initial_delay=0)
    message = (await run(agent_of(model, middleware=[again], deadline=2.0), ASK))["messages"][-1]
    assert message.text.startswith("**1. Choosing a spot**")


@pytest.mark.parametrize("sync", [True, False])
async def test_of_an_own_answer_that_is_being_read_the_deadline_keeps_what_is_there(endpoint, sync):
    endpoint.responder = lambda request: Reply("word " * 300)
    endpoint.faults = [Fault(Stall(after_tokens=100))]
    text, error = await read(agent_of(endpoint.chat_model(max_retries=0), deadline=2.0), sync=sync)
    assert error is None
    assert text.startswith("word word ")
    assert text.endswith(" … *(The answer breaks off here.)*")


async def test_what_deciding_has_taken_the_points_do_not_have(model, endpoint, monkeypatch, caplog):
    began = time.monotonic()
    now = [began]
    monkeypatch.setattr("sot_graph.agents.stand_in_model.time", SimpleNamespace(monotonic=lambda: now[0]))

    def respond(request):
        now[0] = began + 999.5  # of a thousand seconds
        return Reply(LIST)

    endpoint.faults = [Fault(Stall(), one_point)]
    endpoint.responder = respond
    message = (await agent_of(model, deadline=1000.0).ainvoke(ASK))["messages"][-1]
    assert message.text.count("not finished in time") == len(TITLES)
    (said,) = [line for line in caplog.text.splitlines() if "(deadline)" in line]
    assert "1, 2, 3" in said


async def test_without_a_deadline_the_agents_model_runs_where_it_always_did(model):
    names = []

    def respond(messages):
        names.append(threading.current_thread().name)
        return OWN

    await asyncio.to_thread(agent_of(ScriptedChatModel(respond)).invoke, ASK)
    assert not any(name.startswith("sot_graph") for name in names)


async def test_the_agents_context_sets_options_for_one_run(model, endpoint):
    ours = SkeletonOfThoughtMiddleware(lambda question, history: "skeleton")
    agent = create_agent(model, middleware=[ours], context_schema=dict)
    context = {"sot": {"max_points": 2, "min_points": 2}, "user": "me", "max_retries": None}
    message = (await agent.ainvoke(ASK, context=context))["messages"][-1]
    assert "2 to 2 points" in endpoint.requests[0].request.last_user
    assert len(message.response_metadata["sot"]["skeleton"]) == 2


# --- What it is made with ---

UNUSABLE = {
    "options: a dict": ({"options": {}}, r"options is dict; pass SotOptions\(\.\.\.\)"),
    "options: a number": ({"options": 5}, r"options is int; pass SotOptions\(\.\.\.\)"),
    "options: the class": ({"options": SotOptions}, r"options is the class SotOptions; pass SotOptions\(\.\.\.\)"),
    "prompts": ({"prompts": "Be brief."}, r"prompts is str; pass SotPrompts\(\.\.\.\)"),
    "prompts: the class": ({"prompts": SotPrompts}, r"prompts is the class SotPrompts"),
    "join: a word": ({"join": "plain"}, r"join is str; it must be a callable of \(question, skeleton, expansions\)"),
    "join: arity": ({"join": lambda question: ""}, r"can't be called as join\(question, skeleton, expansions\)"),
    "join: a class": ({"join": PointwiseJoin}, r"join is the class PointwiseJoin; pass an instance of it"),
    "limiter": ({"limiter": 5}, r"limiter is int; pass CallLimiter"),
    "router: a word": (
        {"router": "skeleton"},
        r"router is str; it must be a callable of \(question, history\), or one",
    ),
    "router: another word": (
        {"router": "learned"},
        r"or one of ours, such as LearnedRouter\(\) or \"draft\"; not 'learned'",
    ),
    "router: our class": ({"router": LearnedRouter}, r"router is the class LearnedRouter; pass an instance of it"),
    "router: arity": ({"router": lambda question: "direct"}, r"can't be called as router\(question, history\)"),
    "router: too many": ({"router": lambda q, h, model: "direct"}, r"missing a required argument: 'model'"),
}


@pytest.mark.parametrize(("given", "says"), UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("make", [SkeletonOfThoughtMiddleware, lambda **given: create_sot_graph("gpt-4o", **given)])
def test_what_can_not_be_is_refused_in_the_same_words_when_it_is_given(make, given, says, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    with pytest.raises(SotConfigError, match=says):
        make(**given)


def test_a_cascade_says_which_of_its_routers_can_not_be():
    with pytest.raises(SotConfigError, match="second is the class LearnedRouter"):
        CascadeRouter(LearnedRouter(), LearnedRouter)
    with pytest.raises(SotConfigError, match=r"first can't be called as first\(question, history\)"):
        CascadeRouter(lambda question: "direct", LearnedRouter())


# --- What is held back ---

SKELETONS = {
    "a list": LIST,
    "with words around": f"Here is the skeleton of a longer answer:\n\n{LIST}\n\nShall I go on with these?",
    "bullets": LIST.replace("1. ", "- ").replace("2. ", "- ").replace("3. ", "- "),
    "bold": "\n".join(f"**{number}. {title}**" for number, title in enumerate(TITLES, 1)),
    "JSON": '```json\n{"points": ["Choosing a spot in the sun", "Preparing the soil", "Picking crops"]}',
    "many": "\n".join(f"{number}. A title of some five words {number}" for number in range(1, 11)),
}


@pytest.mark.parametrize("text", SKELETONS.values(), ids=SKELETONS)
def test_no_beginning_of_a_skeleton_is_taken_for_an_answer(text):
    form = SkeletonForm(fewest=3, most=10)
    assert form.titles_in(text)
    assert [text[:end] for end in range(len(text) + 1) if not form.may_become(text[:end])] == []


@pytest.mark.parametrize("sync", [True, False])
async def test_an_answer_is_shown_long_before_it_is_as_long_as_a_skeleton_may_be(endpoint, sync):
    endpoint.responder = lambda request: Reply("It is a long story. " * 100)
    endpoint.faults = [Fault(Stall(after_tokens=60))]
    text, _ = await read(agent_of(endpoint.chat_model(max_retries=0), deadline=2.0), sync=sync)
    assert text.startswith("It is a long story. ")
