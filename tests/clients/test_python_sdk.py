"""LangGraph's Python SDK, against the real development server."""

import pytest

from tests.clients.conftest import ANSWER, OTHER_ORDER, QUESTION, TITLES, answer_of

CHAT = {"messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture
def listen(client):
    """Runs a graph of the server, and has what its messages say be shown."""

    async def run(shown, thread, graph, **settings):
        stream = client.runs.stream(thread, graph, stream_mode="messages-tuple", **settings)
        async for part in stream:
            if part.event == "messages":
                message, _ = part.data
                assert message["type"] == "AIMessageChunk"
                shown.add(message["id"], message["content"])
            else:
                assert part.event == "metadata"
        return (await client.threads.get_state(thread))["values"]["messages"]

    return run


@pytest.fixture
async def thread(client):
    return (await client.threads.create())["thread_id"]


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
@pytest.mark.parametrize("graph", ["sot_graph", "agent"], ids=["at the root", "as a node"])
async def test_the_answer_is_one_message(listen, showing, thread, graph, dispatch):
    with showing() as shown:
        context = {"dispatch": dispatch} if graph == "sot_graph" else {"sot": {"dispatch": dispatch}}
        messages = await listen(shown, thread, graph, input=CHAT, context=context)
    shown.is_live()
    assert [message["content"] for message in messages] == [QUESTION, ANSWER]
    assert messages[-1]["id"] in shown.ids


@pytest.mark.parametrize("graph", ["sot_graph", "agent"], ids=["at the root", "as a node"])
async def test_asked_again_it_is_another_message(client, listen, showing, thread, graph):
    with showing() as first:
        await listen(first, thread, graph, input=CHAT)
    [*_, asked] = [state for state in await client.threads.get_history(thread) if state["values"].get("messages")]
    with showing() as second:
        messages = await listen(second, thread, graph, input=None, checkpoint=asked["checkpoint"])
    second.is_live()
    assert second.ids.isdisjoint(first.ids)
    assert [message["content"] for message in messages] == [QUESTION, ANSWER]
    with showing() as third:
        messages = await listen(third, thread, graph, input=CHAT)
    third.is_live()
    assert [message["type"] for message in messages] == ["human", "ai", "human", "ai"]


@pytest.mark.parametrize(
    ("decision", "titles"),
    [
        ({"type": "approve"}, TITLES),
        ({"type": "edit", "edited_action": {"args": {"titles": "\n".join(OTHER_ORDER)}}}, OTHER_ORDER),
    ],
    ids=["approved", "edited"],
)
async def test_an_answer_whose_skeleton_is_reviewed_comes_after_the_review(
    client, listen, showing, thread, decision, titles
):
    with showing() as before:
        await listen(before, thread, "sot_graph_with_review", input=CHAT)
        assert before.history == []
    [interrupt] = (await client.threads.get_state(thread))["interrupts"]
    assert interrupt["value"]["action_requests"][0]["args"] == {"titles": "\n".join(TITLES)}
    with showing() as shown:
        messages = await listen(shown, thread, "sot_graph_with_review", command={"resume": {"decisions": [decision]}})
    shown.is_live(answer_of(titles))
    assert [message["content"] for message in messages] == [QUESTION, answer_of(titles)]
