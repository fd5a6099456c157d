"""A run whose points failed is gone on with: they are asked for again, and what is there is not."""

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from sot_graph import ExpansionError, SotOptions, create_sot_graph
from sot_graph.testing import Fault, SkeletonResponder, Status
from tests.support.chat_requests import one_point

ASK = {"question": "How is a house built?", "messages": [("user", "How is a house built?")]}
THREAD = {"configurable": {"thread_id": "1"}}
TITLES = ["Ground", "Walls (needs 1)", "Roof (needs 2)"]


def is_second(request):
    return one_point(request) and "2. Walls" in request.last_user


@pytest.fixture(params=["alone", "in a parent"])
def made(request, endpoint, dispatch):
    """A graph with a checkpointer, whose model has no second try."""
    endpoint.responder = SkeletonResponder(titles=TITLES)

    def make(**options):
        settings = SotOptions(dispatch=dispatch, dependent="graph", max_retries=0, **options)
        if request.param == "alone":
            return create_sot_graph(endpoint.chat_model(), options=settings, checkpointer=InMemorySaver())
        builder = StateGraph(MessagesState)
        builder.add_node("answer", create_sot_graph(endpoint.chat_model(), options=settings))
        builder.add_edge(START, "answer")
        return builder.compile(checkpointer=InMemorySaver())

    return make


def asked_since(endpoint, before):
    """The points that were asked for, and whether the skeleton was."""
    requests = [logged.request for logged in endpoint.requests[before:]]
    points = [title for title in ("Ground", "Walls", "Roof") for request in requests if f". {title}" in last(request)]
    return points, any(not one_point(request) for request in requests)


def last(request):
    return request.last_user.rpartition("one point")[2] if one_point(request) else ""


async def test_when_the_model_is_back_all_points_are_written(run, endpoint, made):
    graph = made()
    endpoint.faults = [Fault(Status(400), one_point)]
    with pytest.raises(ExpansionError, match="None of the 3 points"):
        await run(graph, ASK, THREAD)
    endpoint.faults, before = [], len(endpoint.requests)
    result = await run(graph, None, THREAD)
    assert result["messages"][-1].text.startswith("**1. Ground**")
    assert asked_since(endpoint, before) == (["Ground", "Walls", "Roof"], False)


async def test_while_it_is_away_they_are_asked_for_once_each_time_and_the_error_is_the_new_one(run, endpoint, made):
    graph = made()
    endpoint.faults = [Fault(Status(400), one_point)]
    with pytest.raises(ExpansionError, match="HTTP 400"):
        await run(graph, ASK, THREAD)
    endpoint.faults, before = [Fault(Status(403), one_point)], len(endpoint.requests)
    with pytest.raises(ExpansionError, match="HTTP 403"):
        await run(graph, None, THREAD)
    assert asked_since(endpoint, before) == (["Ground"], False)  # what the others need is not there


async def test_of_one_that_failed_only_that_and_what_needs_it_are_asked_for_again(run, endpoint, made):
    graph = made(on_point_failure="raise")
    endpoint.faults = [Fault(Status(400), is_second)]
    with pytest.raises(ExpansionError, match=r"2 \("):
        await run(graph, ASK, THREAD)
    endpoint.faults, before = [], len(endpoint.requests)
    result = await run(graph, None, THREAD)
    assert "**2. Walls**" in result["messages"][-1].text
    assert asked_since(endpoint, before) == (["Walls", "Roof"], False)
