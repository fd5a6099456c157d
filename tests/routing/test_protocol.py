"""What a router may return, and what is a router."""

import dataclasses
import logging
from dataclasses import dataclass

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, StateGraph

from sot_graph import CascadeRouter, LearnedRouter, ModelRouter, RouteDecision, RoutingError, SotConfigError
from sot_graph.run import _invocations
from sot_graph.testing import ScriptedChatModel


@pytest.mark.parametrize(
    ("route", "reason", "confidence"),
    [("maybe", "so", None), ("direct", "", None), ("direct", " ", None), ("direct", None, None), ("direct", "so", 1.1),
     ("direct", "so", -0.1), ("direct", "so", float("nan")), ("direct", "so", True), ("direct", "so", "0.5"),
     ([], "so", None)],
)  # fmt: skip
def test_a_nonsensical_decision_is_refused(route, reason, confidence):
    with pytest.raises(SotConfigError, match="RouteDecision"):
        RouteDecision(route, reason, confidence)


def test_a_decision_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RouteDecision("direct", "so").route = "skeleton"  # type: ignore[misc]


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), "0.8", True])
def test_a_cascades_threshold_is_a_confidence(threshold):
    with pytest.raises(SotConfigError, match="CascadeRouter's threshold is a confidence from 0 to 1"):
        CascadeRouter(LearnedRouter(), LearnedRouter(), threshold=threshold)


def test_a_cascade_is_made_of_routers():
    with pytest.raises(SotConfigError, match="second is str; it must be a callable"):
        CascadeRouter(LearnedRouter(), "model")


async def test_a_model_router_without_a_model_says_so_outside_of_a_graph():
    with pytest.raises(RoutingError, match="a ModelRouter without a model uses its graph's"):
        await ModelRouter()("Why?")


def test_a_model_router_without_a_model_goes_direct_as_an_edge(caplog):
    edge = ModelRouter().as_edge({"skeleton": "long", "direct": "short"})
    with caplog.at_level(logging.WARNING):
        assert edge.invoke({"question": "Why?"}) == "short"
    assert "a ModelRouter without a model uses its graph's" in caplog.text


@dataclass(slots=True)
class Chat:
    messages: list


@pytest.mark.parametrize("state", [Chat, lambda messages: {"messages": messages, "question": "And in winter?"}])
def test_an_edge_judges_a_follow_up_with_what_was_said_before(state):
    edge = LearnedRouter().as_edge({"skeleton": "long", "direct": "short"})
    said = [HumanMessage("What are the best ways to save energy at home?"), AIMessage("**1. Heating**")]
    asked = HumanMessage("And in winter?")
    assert edge.invoke(state([asked])) == "short"
    assert edge.invoke(state([*said, asked])) == "long"
    assert edge.invoke(state(said)) == "long"


async def test_a_router_that_is_called_in_a_node_leaves_the_parents_context_alone():
    router = ModelRouter(ScriptedChatModel(lambda messages: '{"kind":"A"}'))

    async def decide(state):
        return {"question": (await router("Why?")).route}

    builder = StateGraph(dict, context_schema=dict)
    builder.add_node("decide", decide)
    builder.add_edge(START, "decide")
    assert await builder.compile().ainvoke({"question": "Why?"}, context={"user": "ada"}) == {"question": "skeleton"}


async def test_a_model_router_is_shown_no_pictures():
    seen = []
    router = ModelRouter(ScriptedChatModel(lambda messages: seen.append(messages[-1].text) or '{"kind":"A"}'))
    picture = {"type": "image", "base64": "AAAA", "mime_type": "image/png"}
    await router("Why?", [{"role": "user", "content": [picture, {"type": "text", "text": "Look!"}]}])
    assert "user: Look!\n" in seen[0]


async def test_a_router_that_is_called_by_itself_leaves_no_run_behind():
    router = ModelRouter(ScriptedChatModel(lambda messages: '{"kind":"C"}'))
    before = set(_invocations._by_key)
    assert (await router("What is 17 * 23?")).route == "direct"
    assert set(_invocations._by_key) <= before
