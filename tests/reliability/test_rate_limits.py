"""Providers that are busy, and bounds on how much they are asked."""

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.rate_limiters import InMemoryRateLimiter
from pydantic import Field

from sot_graph import CallLimiter, SotConfigError, SotOptions, create_sot_graph
from sot_graph.testing import Fault, ScriptedChatModel, SkeletonResponder, Status, answer_skeleton_of_thought
from tests.support.chat_requests import one_point, point_number
from tests.support.http_errors import http_error
from tests.support.virtual_time import run_in_virtual_time

ASK = {"question": "How do plants grow?"}


async def test_a_point_that_gets_429_twice_waits_as_asked_and_is_written(run, endpoint):
    endpoint.responder = SkeletonResponder(points=10)
    endpoint.faults = [Fault(Status(429, retry_after=0.5), point_number(4), times=2)]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 10
    assert all(expansion["text"] in result["answer"] for expansion in result["expansions"])
    asked = [logged for logged in endpoint.requests if one_point(logged.request)]
    assert len(asked) == 12
    assert result["usage"]["expansion"]["calls"] == 12
    tries = [logged for logged in asked if point_number(4)(logged.request)]
    for earlier, later in pairwise(tries):
        assert later.arrived_at - earlier.ended_at >= 0.5


class BusyHalfway(ScriptedChatModel):
    """Breaks off its first replies to prompts that hold `words`, after a piece: it is overloaded, for 5 seconds."""

    words: str
    piece: str
    times: int
    asked_at: list[float] = Field(default_factory=list)

    async def _aanswer(self, messages, *args):
        if self.words in str(messages[-1].text) or messages[-1].text.startswith("Your reply broke off"):
            self.asked_at.append(asyncio.get_running_loop().time())
        return await super()._aanswer(messages, *args)

    async def _astream(self, messages, *args, **kwargs):
        async for chunk in super()._astream(messages, *args, **kwargs):
            if self.words in str(messages[-1].text) and len(self.asked_at) <= self.times:
                yield ChatGenerationChunk(message=AIMessageChunk(self.piece))
                raise http_error(529, headers={"retry-after": "5"})
            yield chunk


HALFWAY = {
    "a text of which nothing was sent": ("2. Soil", "**", 6, "send"),
    "a text that is continued": ("2. Soil", "Soil is where", 1, "send"),
    "a draft": ("numbered list", "1.", 6, "send"),
    "a skeleton whose points are written": ("numbered list", "1. Seed\n2. Soil\n", 6, "pipelined"),
}


@pytest.mark.parametrize(("words", "piece", "times", "dispatch"), HALFWAY.values(), ids=HALFWAY)
def test_a_provider_that_gets_busy_halfway_through_a_reply_is_asked_when_it_says(words, piece, times, dispatch):
    model = BusyHalfway(
        answer_skeleton_of_thought(["Seed", "Soil", "Sun"], "About {title}."), words=words, piece=piece, times=times
    )
    options = SotOptions(skeleton_format="list", stream=True, dispatch=dispatch)
    graph = create_sot_graph(model, router="draft", options=options)
    result = run_in_virtual_time(graph.ainvoke(ASK))
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 3
    assert len(model.asked_at) == times + 1
    assert all(later - earlier >= 5 for earlier, later in pairwise(model.asked_at))


async def test_fifty_questions_get_through_an_outage_without_hammering_at_it(endpoint):
    """429 on everything for five seconds, without a `Retry-After`."""
    endpoint.responder = SkeletonResponder(points=3, words_per_point=5)
    endpoint.faults = [Fault(Status(429), until=5.0)]
    graph = create_sot_graph(endpoint.chat_model())
    endpoint.reset()
    results = await asyncio.gather(*(graph.ainvoke({"question": f"Why {number}?"}) for number in range(50)))
    assert all(result["route"] == "skeleton" for result in results)
    assert {expansion["status"] for result in results for expansion in result["expansions"]} == {"ok"}
    refused = Counter(logged.request.text for logged in endpoint.requests if logged.status == 429)
    assert len(refused) == 50
    assert max(refused.values()) <= 3


async def test_patience_with_a_busy_provider_ends_where_the_option_says(run, endpoint):
    endpoint.faults = [Fault(Status(429, retry_after=0.2), point_number(2))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(rate_limit_patience=0.3))
    result = await run(graph, ASK)
    assert result["expansions"][1]["status"] == "failed"
    assert "429" in result["expansions"][1]["error"]
    assert len([logged for logged in endpoint.requests if point_number(2)(logged.request)]) == 2


async def test_a_quota_that_is_used_up_is_not_asked_again(run, endpoint):
    broke = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
    endpoint.faults = [Fault(Status(429, body=broke), point_number(2))]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert "quota" in result["expansions"][1]["error"]
    assert len([logged for logged in endpoint.requests if point_number(2)(logged.request)]) == 1


async def test_without_a_quota_a_skeleton_is_asked_for_once_and_the_account_is_named(run, endpoint):
    broke = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
    endpoint.faults = [Fault(Status(429, body=broke))]
    with pytest.raises(SotConfigError, match=r"exceeded your current quota.* Check the account's credit"):
        await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert len(endpoint.requests) == 1


async def test_max_concurrency_bounds_each_run_for_itself(endpoint):
    endpoint.responder = SkeletonResponder(points=6)
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(max_concurrency=2))
    with endpoint.hold(4, one_point) as held:
        await asyncio.gather(*(graph.ainvoke({"question": f"Why {number}?"}) for number in range(2)))
        assert held.complete
    assert endpoint.max_in_flight == 4


@pytest.mark.parametrize("threads", [False, True])
async def test_a_limiter_shared_by_two_graphs_bounds_the_process(endpoint, threads):
    limiter = CallLimiter(3)
    graphs = [create_sot_graph(endpoint.chat_model(), limiter=limiter) for _ in range(2)]
    with endpoint.hold(3, one_point) as held:
        calls = [
            asyncio.to_thread(graph.invoke, ASK) if threads and number else graph.ainvoke(ASK)
            for number, graph in enumerate(graphs)
        ]
        results = await asyncio.gather(*calls)
        assert held.complete
    assert endpoint.max_in_flight == 3
    assert {expansion["status"] for result in results for expansion in result["expansions"]} == {"ok"}
    assert limiter.in_flight == 0


async def test_a_cancelled_run_gives_its_places_back(endpoint):
    limiter = CallLimiter(2)
    graph = create_sot_graph(endpoint.chat_model(), limiter=limiter)
    with endpoint.hold(3, one_point):
        task = asyncio.create_task(graph.ainvoke(ASK))
        await endpoint.wait_for_async(lambda log: len([one for one in log if one_point(one.request)]) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert limiter.in_flight == 0
    assert (await graph.ainvoke(ASK))["route"] == "skeleton"


async def test_a_wait_for_a_busy_provider_holds_no_place_of_the_limiter(endpoint):
    """With one place only, the other points are written while one waits to be asked again."""
    endpoint.responder = SkeletonResponder(points=3)
    endpoint.faults = [Fault(Status(429, retry_after=0.5), point_number(1), times=1)]
    result = await create_sot_graph(endpoint.chat_model(), limiter=CallLimiter(1)).ainvoke(ASK)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 3
    assert [point_number(1)(logged.request) for logged in endpoint.requests] == [False, True, False, False, True]


async def test_a_rate_limiter_given_on_the_model_keeps_working(run, endpoint):
    endpoint.responder = SkeletonResponder(points=3)
    pace = InMemoryRateLimiter(requests_per_second=10, check_every_n_seconds=0.01, max_bucket_size=1)
    result = await run(create_sot_graph(endpoint.chat_model(rate_limiter=pace)), ASK)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 3
    arrivals = [logged.arrived_at for logged in endpoint.requests]
    assert arrivals[-1] - arrivals[0] >= 0.25
