"""The graph on a server, used from another process by LangGraph's `RemoteGraph`."""

import asyncio
from contextlib import aclosing, closing

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command

from sot_graph import astream_answer, stream_answer
from sot_graph.testing import Fault, SkeletonResponder, Stall
from tests.support.chat_requests import one_point

ASK = {"question": "How do I keep a garden?"}
MESSAGES = {"messages": [("user", "How do I keep a garden?")]}
TITLES = ["Sowing seeds", "Watering plants", "Pulling weeds"]
ANSWER = "\n\n".join(f"**{number}. {title}**\n\nAbout {title}." for number, title in enumerate(TITLES, 1))


@pytest.fixture(autouse=True)
def about_gardens(endpoint):
    endpoint.responder = SkeletonResponder(titles=TITLES, text=lambda ask: f"About {ask.title}.")


@pytest.fixture
def remote(client, sync_client):
    return RemoteGraph("sot_graph", client=client, sync_client=sync_client)


@pytest.fixture
def parent(remote):
    return around(remote)


def around(remote):
    """A graph of this process with the remote one inside."""
    builder = StateGraph(MessagesState)
    builder.add_node("answer", remote)
    builder.add_edge(START, "answer")
    return builder.compile()


def about(title):
    return lambda request: one_point(request) and title in request.last_user


async def closed_calls(endpoint):
    await endpoint.wait_for_async(lambda log: all(one.outcome for one in log), timeout=60)
    return [one.outcome for one in endpoint.requests if one_point(one.request)]


async def test_a_remote_graph_answers_as_a_local_one_does(remote):
    result = await remote.ainvoke(ASK)
    assert result["answer"] == ANSWER
    assert result["usage"]["total"]["calls"] == 1 + len(TITLES)


async def test_inside_another_graph_it_adds_one_message_and_nothing_else(parent):
    result = await parent.ainvoke(MESSAGES)
    assert [message.content for message in result["messages"]] == ["How do I keep a garden?", ANSWER]


async def test_its_answer_can_be_read_in_reading_order(remote):
    assert "".join([text async for text in astream_answer(remote, ASK)]) == ANSWER


@pytest.mark.parametrize("node", [None, "answer"])
async def test_its_answer_can_be_read_through_the_graph_around_it(parent, node):
    assert "".join([text async for text in astream_answer(parent, MESSAGES, node=node)]) == ANSWER


def test_its_answer_can_be_read_synchronously(remote):
    assert "".join(stream_answer(remote, ASK)) == ANSWER


def test_its_answer_can_be_read_synchronously_through_the_graph_around_it(parent):
    assert "".join(stream_answer(parent, MESSAGES)) == ANSWER


async def test_the_first_point_is_read_while_the_second_is_being_written(remote, endpoint):
    read, is_held = "", True
    with endpoint.hold(2, match=about("Watering plants"), timeout=60) as hold:
        async with aclosing(astream_answer(remote, ASK)) as chunks:
            async for text in chunks:
                read += text
                if "About Sowing seeds." in read and is_held:
                    assert "About Watering plants." not in read
                    hold.release()
                    is_held = False
    assert read == ANSWER


async def test_options_of_one_run_reach_the_server(remote):
    texts = [text async for text in astream_answer(remote, ASK, context={"max_points": 1})]
    assert "".join(texts) == ANSWER.split("\n\n**2.")[0]


async def test_a_runs_durability_reaches_the_server(remote, client):
    thread = (await client.threads.create())["thread_id"]
    config = {"configurable": {"thread_id": thread}}
    assert "".join([text async for text in astream_answer(remote, ASK, config, durability="exit")]) == ANSWER
    assert len(await client.threads.get_history(thread)) == 1


@pytest.mark.parametrize("inside", [False, True], ids=["itself", "inside a graph"])
async def test_a_reader_who_leaves_cancels_the_run_and_its_model_calls(remote, endpoint, inside):
    graph, given = (around(remote.bind(on_disconnect="cancel")), MESSAGES) if inside else (remote, ASK)
    endpoint.faults = [Fault(Stall(after_tokens=1), one_point)]
    async with aclosing(astream_answer(graph, given)) as chunks:
        await anext(chunks)
        await endpoint.wait_for_async(lambda log: sum(one_point(one.request) for one in log) == len(TITLES), timeout=60)
    assert await closed_calls(endpoint) == ["client_closed"] * len(TITLES)


async def test_a_synchronous_reader_who_leaves_cancels_them_too(remote, endpoint):
    def read_a_little():
        with closing(stream_answer(remote, ASK)) as chunks:
            next(chunks)
            endpoint.wait_for(lambda log: sum(one_point(one.request) for one in log) == len(TITLES), timeout=60)

    endpoint.faults = [Fault(Stall(after_tokens=1), one_point)]
    await asyncio.to_thread(read_a_little)
    assert await closed_calls(endpoint) == ["client_closed"] * len(TITLES)


async def test_what_goes_wrong_on_the_server_is_raised_with_its_message(remote):
    with pytest.raises(RemoteException, match="max_points=0"):
        [text async for text in astream_answer(remote, ASK, context={"max_points": 0})]


async def test_a_remote_review_is_answered_and_the_whole_answer_read(client):
    remote = RemoteGraph("sot_graph_with_review", client=client)
    thread = {"configurable": {"thread_id": (await client.threads.create())["thread_id"]}}
    assert [text async for text in astream_answer(remote, ASK, thread)] == []
    [waiting] = (await remote.aget_state(thread)).interrupts
    assert waiting.value["type"] == "sot.review"
    texts = [text async for text in astream_answer(remote, Command(resume=True), thread)]
    assert "".join(texts) == ANSWER
