"""Runs on the real development server, as Studio starts them, by the SDK."""

import asyncio
import re

import pytest

from sot_graph.testing import Fault, SkeletonResponder, Stall
from tests.support.chat_requests import one_point

ASK = {"question": "How do I keep a garden?"}
TITLES = ["Sowing seeds", "Watering plants", "Pulling weeds", "Spreading compost", "Picking fruit", "Saving tools"]
POINTS = len(TITLES)


@pytest.fixture(autouse=True)
def about_gardens(endpoint):
    endpoint.responder = SkeletonResponder(titles=TITLES, text=lambda ask: f"About {ask.title or 'all of it'}.")


def titles_of(result):
    return [point["title"] for point in result["skeleton"]]


async def test_a_plain_question_is_answered_by_its_skeleton(client):
    result = await client.runs.wait(None, "sot_graph", input=ASK)
    assert titles_of(result) == TITLES
    assert result["route"] == "skeleton"
    assert result["answer"].startswith("**1. Sowing seeds**\n\nAbout Sowing seeds.")
    assert [message["type"] for message in result["messages"]] == ["human", "ai"]
    assert result["messages"][-1]["content"] == result["answer"]


async def test_points_that_begin_with_their_titles_are_answered_all_the_same(client):
    result = await client.runs.wait(None, "sot_graph", input=ASK, context={"dispatch": "pipelined"})
    assert titles_of(result) == TITLES
    assert result["answer"].startswith("**1. Sowing seeds**\n\nAbout Sowing seeds.")


async def test_the_stream_modes_show_events_tokens_and_updates(client):
    parts = [
        part
        async for part in client.runs.stream(
            None, "sot_graph", input=ASK, stream_mode=["custom", "messages-tuple", "updates"]
        )
    ]
    events = [part.data for part in parts if part.event == "custom"]
    tokens = [part.data for part in parts if part.event == "messages"]
    updates = [next(iter(part.data)) for part in parts if part.event == "updates"]
    assert events[0]["type"] == "sot.skeleton"
    assert {event["index"] for event in events if event["type"] == "sot.point.end"} == set(range(1, POINTS + 1))
    assert events[-1]["type"] == "sot.answer"
    assert "".join(message["content"] for message, _ in tokens) == events[-1]["answer"]
    assert updates == ["draft_skeleton", *["expand_point"] * POINTS, "join"]


async def test_the_events_of_the_graph_inside_the_agent_come_with_its_path(client):
    parts = [
        part
        async for part in client.runs.stream(
            None,
            "agent",
            input={"messages": [{"role": "user", "content": "What are good tips for keeping a garden?"}]},
            stream_mode=["custom", "updates"],
            stream_subgraphs=True,
        )
    ]
    kinds = {part.data["type"] for part in parts if re.fullmatch(r"custom\|long_answer:[\w-]+", part.event)}
    assert {"sot.skeleton", "sot.point.delta", "sot.answer"} <= kinds
    inside = [next(iter(part.data)) for part in parts if part.event.startswith("updates|long_answer:")]
    assert inside == ["draft_skeleton", *["expand_point"] * POINTS, "join"]
    assert [next(iter(part.data)) for part in parts if part.event == "updates"] == ["long_answer"]


async def test_the_agent_sends_small_talk_to_the_model_itself(client, endpoint):
    result = await client.runs.wait(None, "agent", input={"messages": [{"role": "user", "content": "Hello!"}]})
    assert [message["content"] for message in result["messages"]] == ["Hello!", "About all of it."]
    assert len(endpoint.requests) == 1


async def test_a_second_turn_sees_the_first_as_history_and_nothing_else_of_it(client, endpoint):
    thread = (await client.threads.create())["thread_id"]
    first = await client.runs.wait(thread, "sot_graph", input=ASK)
    later = ["Packing clothes", "Finding tickets", "Leaving early"]
    endpoint.responder = SkeletonResponder(titles=later, text=lambda ask: f"About {ask.title}.")
    endpoint.reset()
    second = await client.runs.wait(thread, "sot_graph", input={"question": "And how do I travel?"})
    assert titles_of(second) == later
    assert [expansion["title"] for expansion in second["expansions"]] == later
    assert second["usage"]["total"]["calls"] == len(endpoint.requests) == 1 + len(later)
    for logged in endpoint.requests:
        roles = [(message["role"], message["content"]) for message in logged.request.messages[1:3]]
        assert roles == [("user", "How do I keep a garden?"), ("assistant", first["answer"])]
    assert [message["content"] for message in second["messages"]] == [
        "How do I keep a garden?",
        first["answer"],
        "And how do I travel?",
        second["answer"],
    ]


async def interrupted_at_review(client, **run):
    thread = (await client.threads.create())["thread_id"]
    result = await client.runs.wait(thread, "sot_graph_with_review", input=ASK, **run)
    [asked] = result["__interrupt__"]
    assert asked["value"]["type"] == "sot.review"
    assert [point["title"] for point in asked["value"]["points"]] == TITLES
    return thread


async def answer_review(client, thread, verdict):
    return await client.runs.wait(thread, "sot_graph_with_review", command={"resume": verdict})


async def test_nothing_is_written_before_the_skeleton_is_approved_and_an_edited_one_is_written_as_edited(
    client, endpoint
):
    approved, edited = await asyncio.gather(interrupted_at_review(client), interrupted_at_review(client))
    assert not any(one_point(logged.request) for logged in endpoint.requests)
    as_it_was, changed = await asyncio.gather(
        answer_review(client, approved, "approve"), answer_review(client, edited, ["Only this", "And that"])
    )
    assert (titles_of(as_it_was), as_it_was["route_reason"]) == (TITLES, "the skeleton was approved")
    assert (titles_of(changed), changed["route_reason"]) == (["Only this", "And that"], "the skeleton was edited")


async def test_a_rejected_skeleton_is_drafted_and_reviewed_again_and_a_senseless_answer_can_be_corrected(
    client, endpoint
):
    rejected, senseless = await asyncio.gather(interrupted_at_review(client), interrupted_at_review(client))

    async def reject():
        again = await answer_review(client, rejected, {"reject": "nothing about the soil"})
        assert again["__interrupt__"][0]["value"]["type"] == "sot.review"

    async def answer_senselessly():
        with pytest.raises(Exception, match="says nothing about the skeleton"):
            await answer_review(client, senseless, 42)

    await asyncio.gather(reject(), answer_senselessly())
    assert sum("nothing about the soil" in logged.request.last_user for logged in endpoint.requests) == 1
    for result in await asyncio.gather(*(answer_review(client, thread, True) for thread in (rejected, senseless))):
        assert titles_of(result) == TITLES


async def test_a_cancelled_run_closes_its_model_calls(client, endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=1), one_point)]
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "sot_graph", input=ASK)
    await endpoint.wait_for_async(lambda log: sum(one_point(one.request) for one in log) == POINTS, timeout=60)
    await client.runs.cancel(thread, run["run_id"], wait=True)
    await endpoint.wait_for_async(lambda log: all(one.outcome for one in log), timeout=60)
    points = [one.outcome for one in endpoint.requests if one_point(one.request)]
    assert points == ["client_closed"] * POINTS
    assert (await client.runs.get(thread, run["run_id"]))["status"] == "interrupted"


async def test_fifty_runs_at_once_are_not_mixed(client, endpoint):
    runs = 50

    def by_subject(request):
        subject = re.search(r"subject-\d+", str(request.messages))[0]
        titles = [f"{subject} {part}" for part in ("begins", "goes on", "ends")]
        return SkeletonResponder(titles=titles, text=lambda ask: f"About {ask.title}.")(request)

    async def ask(number):
        return await client.runs.wait(None, "sot_graph", input={"question": f"What of subject-{number}?"})

    endpoint.responder = by_subject
    with endpoint.hold(runs, match=lambda request: not one_point(request), timeout=60) as hold:
        results = await asyncio.gather(*map(ask, range(runs)))
    assert hold.complete  # no run had its skeleton before all had begun
    for number, result in enumerate(results):
        parts = [f"subject-{number} {part}" for part in ("begins", "goes on", "ends")]
        assert result["answer"] == "\n\n".join(
            f"**{index}. {title}**\n\nAbout {title}." for index, title in enumerate(parts, 1)
        )
