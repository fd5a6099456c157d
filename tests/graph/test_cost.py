"""What a question costs, by counts that no busy machine changes: Python calls, requests in flight, connections."""

import asyncio
import cProfile
import pstats

from benchmarks.contenders import QUESTION, Setup, contending
from sot_graph import SotOptions, astream_answer, create_sot_graph
from sot_graph.testing import SkeletonResponder

MOST_CALLS = 100_000
"""Python calls of a question of ten points; about 76,000 when this was written, 157,500 for the usual script."""


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


async def calls_of(endpoint, name, points, times=2):
    """Python calls of a question of so many points by this contender."""
    endpoint.responder = SkeletonResponder(points=points, words_per_point=20)
    async with contending(Setup(endpoint.base_url, points), name) as contenders:
        return await python_calls(lambda: contenders[name].answer(QUESTION), times)


async def test_a_question_takes_clearly_fewer_python_calls_than_the_usual_script(endpoint):
    ours = await calls_of(endpoint, "sot_graph", 10)
    assert ours < MOST_CALLS
    assert ours < 0.65 * await calls_of(endpoint, "instructor+gather", 10)


async def test_a_point_among_many_takes_no_more_python_calls_than_one_among_few(endpoint):
    few = await calls_of(endpoint, "sot_graph", 10) / 10
    many = await calls_of(endpoint, "sot_graph", 200, times=1) / 200
    assert many < 1.25 * few


async def test_reading_a_stream_takes_far_fewer_python_calls_than_bare_streams_of_the_same_points(endpoint):
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

    assert await python_calls(read) < 0.6 * await python_calls(bare)


async def test_three_hundred_points_are_all_in_flight_together(endpoint):
    endpoint.responder = SkeletonResponder(points=300, words_per_point=3)
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(max_points=300))
    with endpoint.hold(300, lambda request: "one point" in request.last_user, timeout=60) as held:
        result = await graph.ainvoke({"question": QUESTION})
    assert held.complete
    assert [point["status"] for point in result["expansions"]] == ["ok"] * 300
