"""Points that stall, and runs that must end in time."""

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from sot_graph import SkeletonError, SotOptions, astream_answer, create_sot_graph
from sot_graph.testing import Fault, Stall, Status
from tests.support.chat_requests import one_point, point_number

ASK = {"question": "How do plants grow?"}
SLACK = 0.3
"""Seconds after its deadline in which an answer must be there: the one promise about time."""
AMPLE = 4.0
"""Seconds in which points that don't stall are whole, on a machine that is busy with other tests, too."""


def statuses(result):
    return [expansion["status"] for expansion in result["expansions"]]


async def test_a_point_that_stalls_is_timed_out_and_the_others_are_unharmed(run, endpoint):
    endpoint.faults = [Fault(Stall(), point_number(3))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(point_timeout=1.0))
    result = await run(graph, ASK)
    assert statuses(result) == ["ok", "ok", "timed_out", "ok", "ok", "ok", "ok", "ok"]
    assert result["expansions"][2]["error"] == "not finished after 1 s (point_timeout)"
    assert "not finished in time" in result["answer"]
    await endpoint.wait_for_async(lambda log: all(one.outcome for one in log))
    assert [one.outcome for one in endpoint.requests].count("client_closed") == 1


async def test_a_point_timeout_holds_for_all_tries_together(run, endpoint):
    endpoint.faults = [Fault(Status(429, retry_after=30), point_number(3))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(point_timeout=1.0))
    assert statuses(await run(graph, ASK))[2] == "timed_out"


@pytest.mark.parametrize("limit", ["deadline", "skeleton_timeout"])
async def test_a_skeleton_that_a_busy_provider_keeps_from_being_there_says_so(run, endpoint, limit):
    endpoint.faults = [Fault(Status(429, retry_after=30, message="Slow down."))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(**{limit: 1.0}))
    said = rf"not there after 1 s \(SotOptions\.{limit}\); the model's last try failed: Slow down. \(HTTP 429\)\."
    with pytest.raises(SkeletonError, match=said):
        await run(graph, ASK)


async def test_a_text_that_a_busy_provider_keeps_from_being_there_says_so(run, endpoint):
    endpoint.faults = [Fault(Status(503, retry_after=30, message="Overloaded."), point_number(2), times=1)]
    result = await run(create_sot_graph(endpoint.chat_model(), options=SotOptions(point_timeout=1.0)), ASK)
    late = result["expansions"][1]
    assert late["error"] == (
        "not finished after 1 s (point_timeout); the model's last try failed: Overloaded. (HTTP 503)"
    )
    endpoint.faults = [Fault(Status(429, retry_after=30, message="Slow down."))]
    graph = create_sot_graph(
        endpoint.chat_model(), router=lambda *_: "direct", options=SotOptions(deadline=1.0, router_timeout=None)
    )
    with pytest.raises(SkeletonError, match=r"at the deadline \(1 s\); the model's last try failed: Slow down\."):
        await run(graph, ASK)


async def test_a_point_that_gets_through_in_the_end_is_late_for_its_length(run, endpoint):
    endpoint.faults = [Fault(Status(429, retry_after=0), point_number(2), times=1), Fault(Stall(2), point_number(2))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(point_timeout=1.5, stream=True))
    result = await run(graph, ASK)
    assert result["expansions"][1]["error"] == "not finished after 1.5 s (point_timeout)"


async def test_at_the_deadline_what_is_there_is_joined_and_the_rest_is_timed_out(run, endpoint):
    endpoint.faults = [Fault(Stall(), point_number(2, 7))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(deadline=AMPLE))
    result = await run(graph, ASK)
    assert statuses(result) == ["ok", "timed_out", "ok", "ok", "ok", "ok", "timed_out", "ok"]
    assert AMPLE <= result["timings"]["total"] <= AMPLE + SLACK
    for expansion in result["expansions"]:
        assert expansion["text"] in result["answer"]


async def test_a_deadline_counts_the_waits_for_a_place_and_for_a_busy_provider(run, endpoint):
    endpoint.faults = [Fault(Status(429, retry_after=30), point_number(1)), Fault(Stall(), point_number(2))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(deadline=1.5, max_concurrency=1))
    result = await run(graph, ASK)
    assert statuses(result)[:2] == ["timed_out", "timed_out"]
    assert result["timings"]["total"] <= 1.5 + SLACK


async def test_at_the_deadline_nothing_is_an_answer_too(run, endpoint):
    endpoint.faults = [Fault(Stall(), one_point)]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(deadline=1.5))
    result = await run(graph, ASK)
    assert set(statuses(result)) == {"timed_out"}
    assert result["timings"]["total"] <= 1.5 + SLACK


async def test_at_the_deadline_points_keep_what_was_written_of_them(run, endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=10), point_number(1))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(deadline=AMPLE))
    result = await run(graph, ASK)
    assert statuses(result) == ["timed_out"] + ["ok"] * 7
    assert f"{result['expansions'][0]['text']} … *(This point breaks off here.)*" in result["answer"]
    assert result["expansions"][0]["error"] == "not finished 4 s after the run's start (deadline)"


async def test_at_the_deadline_a_direct_answer_keeps_what_was_written_of_it(run, endpoint):
    result = await run(talks_only(endpoint, Stall(after_tokens=4)), ASK)
    assert result["answer"].startswith("I just talk")
    assert result["answer"].endswith(" … *(The answer breaks off here.)*")


async def test_who_wants_no_streamed_calls_gets_none_for_a_deadline_either(run, endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=10), point_number(1))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(deadline=1.5, stream=False))
    result = await run(graph, ASK)
    assert (statuses(result)[0], result["expansions"][0]["text"]) == ("timed_out", "")
    assert not any(logged.request.stream for logged in endpoint.requests)


async def test_a_streamed_answer_ends_at_the_deadline_with_all_that_was_written(endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=10), point_number(1))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(deadline=AMPLE))
    parts = [part async for part in graph.astream(ASK, stream_mode=["custom", "values"])]
    result = parts[-1][1]
    assert statuses(result) == ["timed_out"] + ["ok"] * 7
    assert result["expansions"][0]["text"]
    assert f"{result['expansions'][0]['text']} … *(This point breaks off here.)*" in result["answer"]
    assert result["timings"]["total"] <= AMPLE + SLACK


async def test_a_late_skeleton_is_an_error_that_says_so(run, endpoint):
    endpoint.faults = [Fault(Stall())]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(deadline=0.5))
    with pytest.raises(SkeletonError, match=r"not there after 0\.5 s.*deadline"):
        await run(graph, ASK)
    assert len(endpoint.requests) == 1
    await endpoint.wait_for_async(lambda log: log[0].outcome == "client_closed")


async def test_a_skeleton_timeout_holds_without_a_deadline(run, endpoint):
    endpoint.faults = [Fault(Stall())]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(skeleton_timeout=0.5))
    with pytest.raises(SkeletonError, match=r"not there after 0\.5 s.*skeleton_timeout"):
        await run(graph, ASK)


def talks_only(endpoint, stall):
    """A model that never writes a skeleton, and stalls in its direct answer."""
    endpoint.responder = lambda request: "I just talk, and talk on, and on, without any list at all."
    endpoint.faults = [Fault(stall, lambda request: "Answer the question." in request.last_user)]
    return create_sot_graph(endpoint.chat_model(), options=SotOptions(deadline=1.0))


async def test_a_direct_answer_has_the_deadline_too(run, endpoint):
    with pytest.raises(SkeletonError, match=r"deadline"):
        await run(talks_only(endpoint, Stall()), ASK)
    await endpoint.wait_for_async(lambda log: log[-1].outcome == "client_closed")


async def test_a_direct_answer_that_is_streamed_keeps_what_was_written_by_the_deadline(endpoint):
    graph = talks_only(endpoint, Stall(after_tokens=4))
    parts = [part async for part in graph.astream(ASK, stream_mode=["custom", "values"])]
    result = parts[-1][1]
    assert result["answer"].startswith("I just talk")
    assert result["answer"].endswith(" … *(The answer breaks off here.)*")
    assert 1.0 <= result["timings"]["total"] <= 1.0 + SLACK
    assert "".join([text async for text in astream_answer(graph, ASK)]) == result["answer"]


async def test_runs_at_once_have_a_deadline_each(endpoint):
    endpoint.faults = [Fault(Stall(), point_number(2))]
    graph = create_sot_graph(endpoint.chat_model())
    one, other = await asyncio.gather(
        graph.ainvoke(ASK, context={"deadline": 1.0}), graph.ainvoke(ASK, context={"deadline": 2.0})
    )
    assert one["timings"]["total"] <= 1.0 + SLACK
    assert 2.0 <= other["timings"]["total"] <= 2.0 + SLACK


class BlockingModel(BaseChatModel):
    """A model that has nothing asynchronous: each call holds a thread."""

    meeting: Any

    @property
    def _llm_type(self) -> str:
        return "blocking"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.meeting.wait()
        return ChatResult(generations=[ChatGeneration(message=AIMessage("Some text."))])


FORTY = [f"Title {number}" for number in range(1, 41)]
"""More than an event loop's own executor has threads."""


def test_a_model_that_blocks_is_asked_for_all_points_at_once():
    graph = create_sot_graph(BlockingModel(meeting=threading.Barrier(len(FORTY), timeout=60)))
    assert statuses(graph.invoke({**ASK, "given_skeleton": FORTY})) == ["ok"] * len(FORTY)


def test_a_model_that_blocks_and_stalls_stops_no_other_call(endpoint):
    end = threading.Event()
    stalling = create_sot_graph(BlockingModel(meeting=end), options=SotOptions(point_timeout=0.1))
    other = create_sot_graph(
        endpoint.chat_model(base_url=endpoint.base_url.replace("127.0.0.1", "localhost")),  # a name to look up
        options=SotOptions(deadline=60),
    )
    try:
        assert statuses(stalling.invoke({**ASK, "given_skeleton": FORTY})) == ["timed_out"] * len(FORTY)
        assert set(statuses(other.invoke(ASK))) == {"ok"}
    finally:
        end.set()
