"""What the middleware's router gets to know, what is remembered of it, and what becomes of too long a conversation."""

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage

from sot_graph import CascadeRouter, LearnedRouter, ModelRouter, SkeletonOfThoughtMiddleware, SotConfigError, SotOptions
from sot_graph.testing import CutOff, Fault, Reply

ASK = HumanMessage("How can I sleep better?")
SEEDS = "1. Seed choice\n2. Soil care\n3. Sunny place"
BEFORE = [HumanMessage("What is 2 + 2?"), AIMessage("4")]


def is_deciding(request):
    return "Decide how to go on" in request.text


@pytest.fixture
def answer(endpoint, run):
    """Has an agent answer, and tells whether it was written by points."""

    async def ask(middleware, *messages):
        agent = create_agent(endpoint.chat_model(), [], middleware=[middleware])
        endpoint.reset()
        result = await run(agent, {"messages": [*messages]})
        return "sot" in result["messages"][-1].response_metadata

    return ask


async def test_the_router_gets_the_conversation_before_the_question(answer):
    seen = []

    def router(question, history):
        seen.append((question, [turn["content"] for turn in history]))
        return "skeleton"

    assert await answer(SkeletonOfThoughtMiddleware(router), *BEFORE, ASK)
    assert seen == [(ASK.text, ["What is 2 + 2?", "4"])]


async def test_the_same_words_in_another_conversation_are_another_question(answer):
    middleware = SkeletonOfThoughtMiddleware(lambda question, history: "direct" if history else "skeleton")
    assert not await answer(middleware, *BEFORE, ASK)
    assert await answer(middleware, ASK)


async def test_a_router_that_failed_once_is_asked_again(answer, caplog):
    outcomes = iter([RuntimeError("busy"), "skeleton"])

    def router(question, history):
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    middleware = SkeletonOfThoughtMiddleware(router)
    assert not await answer(middleware, ASK)
    assert caplog.messages == ["Answering directly: the router failed: RuntimeError: busy."]
    assert await answer(middleware, ASK)
    assert await answer(middleware, ASK)  # as decided: the router has no third outcome


@pytest.mark.parametrize(
    "wrap", [lambda router: router, lambda router: CascadeRouter(LearnedRouter(), router, threshold=1)]
)
async def test_a_model_router_asks_the_agents_own_model(endpoint, answer, wrap):
    endpoint.faults = [
        Fault(Reply('{"kind":"A"}'), lambda request: '"kind"' in request.text and not is_deciding(request))
    ]
    assert await answer(SkeletonOfThoughtMiddleware(wrap(ModelRouter())), ASK)
    routed, deciding, *_ = endpoint.requests
    assert not is_deciding(routed.request)
    assert is_deciding(deciding.request)


@pytest.mark.parametrize("router", ["skeleton", 5])
def test_what_is_no_router_is_refused_when_it_is_given(router):
    with pytest.raises(SotConfigError, match="router is"):
        SkeletonOfThoughtMiddleware(router)


async def test_a_conversation_that_is_too_long_is_the_agents_own(endpoint, answer, caplog):
    middleware = SkeletonOfThoughtMiddleware(lambda *_: "skeleton", options=SotOptions(max_question_chars=1000))
    assert not await answer(middleware, HumanMessage("Why? " * 200), AIMessage("So."), ASK)
    assert len(endpoint.requests) == 1
    assert "the agent answers by itself" in caplog.text


@pytest.mark.parametrize("fault", [CutOff(8), Reply(SEEDS[:-6], finish_reason="content_filter")])
async def test_half_a_title_of_a_skeleton_that_was_cut_off_is_no_point(endpoint, answer, run, caplog, fault):
    endpoint.responder = lambda request: SEEDS if is_deciding(request) else "Text."
    endpoint.faults = [Fault(fault, is_deciding)]
    agent = create_agent(
        endpoint.chat_model(),
        [],
        middleware=[SkeletonOfThoughtMiddleware(lambda *_: "skeleton", options=SotOptions(min_points=2))],
    )
    message = (await run(agent, {"messages": [ASK]}))["messages"][-1]
    assert [point["title"] for point in message.response_metadata["sot"]["skeleton"]] == ["Seed choice", "Soil care"]
    assert "its 2 whole titles are used" in caplog.text
