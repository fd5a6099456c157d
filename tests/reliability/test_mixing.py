"""Runs at the same time on the same thread take nothing from each other."""

import asyncio
from dataclasses import replace

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from sot_graph import create_sot_graph
from sot_graph.testing import SkeletonResponder

THREAD = {"configurable": {"thread_id": "1"}}


def tagging(endpoint, saver):
    """Every point's text carries the tag of the question that was asked last in its prompt."""
    write = SkeletonResponder(points=4, words_per_point=6)

    def respond(request):
        reply = write(request)
        tag = request.text.rsplit("tag-", 1)[1].split()[0]
        return replace(reply, text=f"tag-{tag} {reply.text}") if "one point" in request.last_user else reply

    endpoint.responder = respond
    return create_sot_graph(endpoint.chat_model(), checkpointer=saver)


def check(result, tag):
    assert [expansion["text"].split()[0] for expansion in result["expansions"]] == [f"tag-{tag}"] * 4
    assert result["answer"].count(f"tag-{tag} ") == 4
    assert result["messages"][-1].text == result["answer"]


async def test_the_same_thread_invoked_at_the_same_time_mixes_nothing(endpoint, run):
    graph = tagging(endpoint, InMemorySaver())
    with endpoint.hold(12, lambda request: "one point" in request.last_user) as held:
        results = await asyncio.gather(*(run(graph, {"question": f"tag-{tag} Why?"}, THREAD) for tag in range(3)))
        assert held.complete
    for tag, result in enumerate(results):
        check(result, tag)


async def test_the_same_thread_in_a_database_mixes_nothing(endpoint, tmp_path):
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "threads.sqlite")) as saver:
        graph = tagging(endpoint, saver)
        asked = (graph.ainvoke({"question": f"tag-{tag} Why?"}, THREAD) for tag in range(5))
        for tag, result in enumerate(await asyncio.gather(*asked)):
            check(result, tag)


async def test_a_second_question_takes_nothing_of_a_first_that_failed(endpoint):
    graph = tagging(endpoint, InMemorySaver())
    task = asyncio.create_task(graph.ainvoke({"question": "tag-0 Why?"}, THREAD))
    with endpoint.hold(9, lambda request: "one point" in request.last_user):
        await endpoint.wait_for_async(lambda log: len(log) == 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    check(await graph.ainvoke({"question": "tag-1 Why?"}, THREAD), 1)
