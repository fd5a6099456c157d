"""What a question costs, by counts that no busy machine changes: Python calls, requests in flight, connections."""

import asyncio
import cProfile
import pstats

import pytest

from benchmarks.contenders import QUESTION, Setup, make
from sot_graph import SotOptions, astream_answer, create_sot_graph
from sot_graph.testing import SkeletonResponder

MOST_CALLS = 120_000
"""Python calls of a question of ten points; about 90,000 when this was written, 157,000 for the usual script."""


async def python_calls(answer, times=2):
    """Calls of Python functions in this thread for one run, after one that warms up."""
    await answer()
    profile = cProfile.Profile()
    profile.enable()
    try:
        for _ in range(times):
            await answer()
    finally:
        profile.disable()
    return pstats.Stats(profile).total_calls / times


@pytest.fixture
def ways(endpoint):
    def of(points, *names):
        endpoint.responder = SkeletonResponder(points=points, words_per_point=20)
        contenders = make(Setup(endpoint.base_url, points), *names)
        return {name: lambda answer=contender.answer: answer(QUESTION) for name, contender in contenders.items()}

    return of


async def test_a_question_takes_clearly_fewer_python_calls_than_the_usual_script(ways):
    both = ways(10, "sot_graph", "instructor+gather")
    ours = await python_calls(both["sot_graph"])
    assert ours < MOST_CALLS
    assert ours < 0.75 * await python_calls(both["instructor+gather"])


async def test_a_point_among_many_takes_no_more_python_calls_than_one_among_few(ways):
    few = await python_calls(ways(10, "sot_graph")["sot_graph"]) / 10
    many = await python_calls(ways(200, "sot_graph")["sot_graph"], times=1) / 200
    assert many < 1.25 * few


async def test_reading_a_stream_takes_few_more_python_calls_than_bare_streams_of_the_same_points(endpoint):
    titles = [f"Way number {number}" for number in range(1, 11)]
    endpoint.responder = SkeletonResponder(titles=titles, words_per_point=60)
    chat = endpoint.chat_model()
    graph = create_sot_graph(chat)

    async def bare():
        async def one(title):
            async for _ in chat.astream(f"Write only this one point: {title}"):
                pass

        await asyncio.gather(*map(one, titles))

    async def read():
        async for _ in astream_answer(graph, {"question": QUESTION, "given_skeleton": titles}):
            pass

    assert await python_calls(read) < 1.4 * await python_calls(bare)


async def test_three_hundred_points_are_all_in_flight_together(endpoint):
    endpoint.responder = SkeletonResponder(points=300, words_per_point=3)
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(max_points=300))
    with endpoint.hold(300, lambda request: "one point" in request.last_user, timeout=60) as held:
        result = await graph.ainvoke({"question": QUESTION})
    assert held.complete
    assert [point["status"] for point in result["expansions"]] == ["ok"] * 300
