"""One graph object, many callers."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from sot_graph import SotOptions, create_sot_graph
from sot_graph.testing import SkeletonResponder


def tagging(endpoint):
    """Every reply carries the tag of the question that it belongs to."""
    write = SkeletonResponder(points=4, words_per_point=6)

    def respond(request):
        reply = write(request)
        tag = request.text.split("tag-")[1].split()[0]
        if "one point" in request.last_user:
            reply = replace(reply, text=f"tag-{tag} {reply.text}")
        return reply

    endpoint.responder = respond
    return create_sot_graph(endpoint.chat_model())


def check(result, tag):
    assert result["route"] == "skeleton"
    assert len(result["expansions"]) == 4
    for expansion in result["expansions"]:
        assert expansion["text"].startswith(f"tag-{tag} "), expansion


async def test_a_hundred_tasks_share_a_graph_and_nothing_else(endpoint):
    graph = tagging(endpoint)
    results = await asyncio.gather(*(graph.ainvoke({"question": f"tag-{tag} Why?"}) for tag in range(100)))
    for tag, result in enumerate(results):
        check(result, tag)


def test_twenty_threads_share_a_graph_and_nothing_else(endpoint):
    graph = tagging(endpoint)
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda tag: graph.invoke({"question": f"tag-{tag} Why?"}), range(40)))
    for tag, result in enumerate(results):
        check(result, tag)


def test_the_same_graph_works_on_one_event_loop_after_another_and_without_one(endpoint):
    graph = tagging(endpoint)
    for tag in range(3):
        check(asyncio.run(graph.ainvoke({"question": f"tag-{tag} Why?"})), tag)
        check(graph.invoke({"question": f"tag-{tag} Why?"}), tag)


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
def test_a_join_may_invoke_another_graph(endpoint, dispatch):
    options = SotOptions(dispatch=dispatch)
    inner = create_sot_graph(endpoint.chat_model(), options=options, checkpointer=InMemorySaver())

    def join(_question, _skeleton, _expansions):
        return inner.invoke({"question": "Inner?"}, {"configurable": {"thread_id": "1"}})["answer"]

    outer = create_sot_graph(endpoint.chat_model(), join=join, options=options)
    assert outer.invoke({"question": "Outer?"})["answer"]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_max_concurrency_bounds_the_calls_of_a_run(endpoint, mode):
    endpoint.responder = SkeletonResponder(points=10)
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(max_concurrency=3))
    with endpoint.hold(3, lambda request: "one point" in request.last_user) as held:
        if mode == "invoke":
            await asyncio.to_thread(graph.invoke, {"question": "Why?"})
        else:
            await graph.ainvoke({"question": "Why?"})
        assert held.complete
    assert endpoint.max_in_flight == 3
