"""`dispatch="pipelined"`: points are begun while the skeleton is still being written; all else stays as it is."""

import asyncio
import json
from contextlib import aclosing

import pytest
from langchain_core.messages import HumanMessage
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from sot_graph import (
    CallLimiter,
    RouteDecision,
    SkeletonError,
    SotConfigError,
    SotOptions,
    astream_answer,
    create_sot_graph,
    measure_run,
    retry_failed_points,
    stream_answer,
)
from sot_graph.testing import CutOff, Fault, HangUp, Reply, SkeletonResponder, Stall, Status
from tests.support.chat_requests import number_of, one_point

ASK = {"question": "How do plants grow?"}
TITLES = ["Light", "Water", "Soil", "Air"]


def is_skeleton(request):
    return not one_point(request) and "Answer the question." not in request.last_user


def pipelined(endpoint, **kwargs):
    options = {"min_points": 2, "dispatch": "pipelined", **kwargs.pop("options", {})}
    return create_sot_graph(endpoint.chat_model(), options=SotOptions(**options), **kwargs)


@pytest.fixture(autouse=True)
def four_points(endpoint):
    endpoint.responder = SkeletonResponder(titles=TITLES)


def without_times(result):
    return {key: value for key, value in result.items() if key not in ("timings", "usage", "messages")}


TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    "bound", [{}, {"tools": [TOOL], "tool_choice": "none"}], ids=["", "with tools of the caller's"]
)
async def test_points_are_written_while_the_skeleton_is_not_whole(run, endpoint, bound):
    endpoint.faults = [Fault(Stall(after_tokens=8), is_skeleton)]
    options = SotOptions(min_points=2, dispatch="pipelined", skeleton_timeout=2.0)
    await run(create_sot_graph(endpoint.chat_model().bind(**bound), options=options))
    await endpoint.wait_for_async(lambda log: all(one.outcome for one in log))
    skeleton, *points = endpoint.requests
    assert points
    assert all(point.arrived_at < skeleton.ended_at for point in points)


@pytest.mark.parametrize("options", [{}, {"skeleton_format": "list"}, {"structured_mode": "tools"}], ids=str)
async def test_the_result_is_the_same_as_with_send(run, endpoint, options):
    sent = await run(create_sot_graph(endpoint.chat_model(), options=SotOptions(min_points=2, **options)))
    piped = await run(pipelined(endpoint, options=options))
    assert without_times(piped) == without_times(sent)
    stages = sent["usage"].keys() - {"cost"}
    assert [piped["usage"][stage]["calls"] for stage in stages] == [sent["usage"][stage]["calls"] for stage in stages]
    assert piped["usage"]["total"]["output_tokens"] == sent["usage"]["total"]["output_tokens"]


async def test_a_points_prompt_knows_the_titles_up_to_its_own(run, endpoint):
    await run(pipelined(endpoint))
    shown = {
        number_of(one.request): json.loads(one.request.messages[-2]["content"])["points"]
        for one in endpoint.requests
        if one_point(one.request)
    }
    assert shown == {number: TITLES[:number] for number in range(1, 5)}


@pytest.mark.parametrize("kept", [False, True], ids=["no checkpointer", "checkpointer"])
@pytest.mark.parametrize("read", [stream_answer, astream_answer])
async def test_it_streams_in_reading_order(endpoint, read, kept):
    graph = pipelined(endpoint, checkpointer=InMemorySaver() if kept else None)
    config = {"configurable": {"thread_id": "1"}}
    if read is stream_answer:
        chunks = await asyncio.to_thread(lambda: list(stream_answer(graph, ASK, config)))
    else:
        chunks = [text async for text in astream_answer(graph, ASK, config)]
    answer = (await graph.ainvoke(ASK, {"configurable": {"thread_id": "2"}}))["answer"]
    assert "".join(chunks) == answer
    assert chunks[0].startswith("**1. Light**")


async def test_events_come_from_the_graphs_own_namespace_and_grow_the_skeleton(endpoint):
    graph = pipelined(endpoint, checkpointer=InMemorySaver())
    parent = StateGraph(MessagesState)
    parent.add_node("answer", graph.copy({"checkpointer": None}))
    parent.add_edge(START, "answer")
    config = {"configurable": {"thread_id": "1"}}
    for one, given, depth in ((graph, ASK, 0), (parent.compile(), {"messages": [HumanMessage("Why?")]}, 1)):
        parts = [part async for part in one.astream(given, config, stream_mode=["custom"], subgraphs=True)]
        assert {len(namespace) for namespace, _, _ in parts} == {depth}
        events = [event for _, _, event in parts]
        json.dumps(events)
        grown = [event["point"]["title"] for event in events if event["type"] == "sot.skeleton.delta"]
        (settled,) = [event for event in events if event["type"] == "sot.skeleton"]
        assert grown == [point["title"] for point in settled["points"]] == TITLES
        assert events[-1]["type"] == "sot.answer"


async def test_an_update_is_told_for_each_point(endpoint):
    updates = [part async for part in pipelined(endpoint).astream(ASK, stream_mode="updates")]
    names = [name for update in updates for name in update]
    assert sorted(names) == ["draft_skeleton", *["expand_point"] * 4, "join"]
    (expansion,) = next(update for update in updates if "expand_point" in update)["expand_point"]["expansions"]
    assert expansion["status"] == "ok"


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("kept", [False, True], ids=["no checkpointer", "checkpointer"])
async def test_no_width_of_langgraphs_is_a_deadlock(run, endpoint, width, kept):
    graph = pipelined(endpoint, checkpointer=InMemorySaver() if kept else None)
    async with asyncio.timeout(60):
        result = await run(graph, ASK, {"max_concurrency": width, "configurable": {"thread_id": "1"}})
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 4


async def test_no_bound_on_calls_is_a_deadlock(run, endpoint):
    graph = pipelined(endpoint, options={"max_concurrency": 1}, limiter=CallLimiter(1))
    async with asyncio.timeout(60):
        result = await run(graph)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 4
    assert endpoint.max_in_flight == 1


@pytest.mark.parametrize("mode", ["tools", "json_schema", "md_json"])
@pytest.mark.parametrize("tokens", [4, 6, 8])
async def test_half_a_title_is_no_point(run, endpoint, mode, tokens):
    endpoint.responder = SkeletonResponder(titles=["Alpha beta gamma", "Delta epsilon zeta", "Eta theta iota"])
    endpoint.faults = [Fault(CutOff(tokens), is_skeleton, times=1)]
    result = await run(pipelined(endpoint, options={"structured_mode": mode, "min_points": 3}))
    assert [point["title"] for point in result["skeleton"]] == endpoint.responder.titles


async def test_what_is_usable_stays_and_the_rest_is_asked_for(run, endpoint, caplog):
    endpoint.faults = [Fault(Reply('{"points":["Light","Mist"'), is_skeleton, times=1)]
    result = await run(pipelined(endpoint, options={"min_points": 3}))
    assert [point["title"] for point in result["skeleton"]] == ["Light", "Mist", "Water", "Soil", "Air"]
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 5
    assert len([one for one in endpoint.requests if one_point(one.request)]) == 5
    _, again = [one.request for one in endpoint.requests if is_skeleton(one.request)]
    assert again.messages[-2]["content"] == '{"points":["Light","Mist"]}'
    assert "These 2 points are kept." in again.last_user
    assert [record.levelname for record in caplog.records if "asking for the rest" in record.getMessage()] == [
        "WARNING"
    ]


@pytest.mark.parametrize("skeleton_format", ["structured", "list"])
@pytest.mark.parametrize("kind", [HangUp(after_tokens=8), CutOff(8)], ids=["hang-up", "cut off"])
async def test_a_skeleton_that_breaks_off_goes_on_from_there(run, endpoint, kind, skeleton_format):
    endpoint.faults = [Fault(kind, is_skeleton, times=1)]
    result = await run(pipelined(endpoint, options={"skeleton_format": skeleton_format}))
    assert [point["title"] for point in result["skeleton"]] == TITLES
    numbers = [number_of(one.request) for one in endpoint.requests if one_point(one.request)]
    assert sorted(numbers) == [1, 2, 3, 4]


async def test_a_skeleton_that_is_late_is_used_as_far_as_it_is_there(run, endpoint, caplog):
    endpoint.faults = [Fault(Stall(after_tokens=8), is_skeleton)]
    result = await run(pipelined(endpoint, options={"skeleton_timeout": 0.5}))
    titles = [point["title"] for point in result["skeleton"]]
    assert titles == TITLES[: len(titles)]
    assert titles
    assert "skeleton_timeout" in caplog.text


async def test_a_skeleton_without_a_title_in_time_is_an_error(run, endpoint):
    endpoint.faults = [Fault(Stall(), is_skeleton)]
    with pytest.raises(SkeletonError, match="skeleton_timeout"):
        await run(pipelined(endpoint, options={"skeleton_timeout": 0.2}))


@pytest.mark.parametrize("kind", [Reply("No."), Reply('{"points":[]}'), Reply("")], ids=str)
async def test_without_a_skeleton_the_question_is_answered_directly(run, endpoint, kind):
    endpoint.faults = [Fault(kind, is_skeleton)]
    result = await run(pipelined(endpoint))
    assert result["route"] == "direct"
    assert result["skeleton"] == result["expansions"] == []
    assert "points" not in result["timings"]


async def test_a_wrong_key_is_the_providers_error_at_once(run, endpoint):
    endpoint.faults = [Fault(Status(401))]
    with pytest.raises(SotConfigError, match="Check the key"):
        await run(pipelined(endpoint))
    assert len(endpoint.requests) == 1


async def test_more_points_than_asked_for_are_left_out_with_a_warning(run, endpoint, caplog):
    result = await run(pipelined(endpoint, options={"max_points": 2}))
    assert [point["title"] for point in result["skeleton"]] == TITLES[:2]
    assert "the first 2 are kept" in caplog.text
    assert len([one for one in endpoint.requests if one_point(one.request)]) == 2


GOES_ON = {
    "more titles": [f"Title {number}" for number in range(200)],
    "the same titles": [*TITLES[:3], *["Water", "Light"] * 100],
    "no titles": [*TITLES, "and so on " * 300],
}


@pytest.mark.parametrize("options", [{}, {"skeleton_format": "list"}, {"structured_mode": "tools"}], ids=str)
@pytest.mark.parametrize("titles", GOES_ON.values(), ids=GOES_ON)
async def test_a_skeleton_that_never_ends_is_closed_once_there_are_points_enough(run, endpoint, titles, options):
    endpoint.responder = SkeletonResponder(titles=titles)
    endpoint.faults = [Fault(Stall(after_tokens=250), is_skeleton)]
    graph = pipelined(endpoint, options={"max_points": 4, **options}, cache=InMemoryCache())
    result = await run(graph)
    await endpoint.wait_for_async(lambda log: all(one.outcome for one in log))
    skeleton, *points = endpoint.requests
    assert skeleton.outcome == "client_closed"
    assert len(points) == len(result["skeleton"]) == (3 if titles[3] == "Water" else 4)
    assert result["usage"]["skeleton"]["calls"] == 1
    assert result["usage"]["expansion"]["output_tokens"] == sum(point.tokens_sent for point in points)
    endpoint.reset()
    assert (await run(graph))["answer"] == result["answer"]  # it was whole: the cache has it
    assert endpoint.requests == []


async def test_a_point_that_fails_leaves_its_siblings_alone_and_can_be_retried(run, endpoint):
    endpoint.faults = [Fault(Status(400), lambda request: one_point(request) and number_of(request) == 2, times=1)]
    graph = pipelined(endpoint, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    result = await run(graph, ASK, config)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "failed", "ok", "ok"]
    assert "This point is missing" in result["answer"]
    endpoint.faults = []
    before = len(endpoint.requests)
    healed = await asyncio.to_thread(retry_failed_points, graph, config)
    assert [number_of(one.request) for one in endpoint.requests[before:]] == [2]
    assert [expansion["status"] for expansion in healed["expansions"]] == ["ok"] * 4


async def test_a_point_that_stalls_is_timed_out_and_the_deadline_holds(run, endpoint):
    endpoint.faults = [Fault(Stall(), lambda request: one_point(request) and number_of(request) == 3)]
    for options in ({"point_timeout": 1.5}, {"deadline": 2.5}):
        result = await run(pipelined(endpoint, options=options))
        assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "ok", "timed_out", "ok"]


async def test_leaving_early_closes_every_call(endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=2), one_point), Fault(Stall(after_tokens=8), is_skeleton)]
    async with aclosing(astream_answer(pipelined(endpoint), ASK)) as chunks:
        await anext(chunks)
        await endpoint.wait_for_async(lambda log: len(log) > 1)
    await endpoint.wait_for_async(lambda log: all(one.outcome for one in log))
    assert {one.outcome for one in endpoint.requests} == {"client_closed"}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_cache_knows_the_skeleton_and_each_point(run, endpoint):
    graph = pipelined(endpoint, cache=InMemoryCache())
    first = await run(graph)
    endpoint.reset()
    second = await run(graph)
    assert endpoint.requests == []
    assert second["answer"] == first["answer"]
    assert second["usage"]["total"]["cache_hits"] == 5
    assert second["usage"]["total"]["calls"] == 0


async def test_a_skeleton_that_was_cut_short_is_not_cached(run, endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=8), is_skeleton, times=1)]
    graph = pipelined(endpoint, cache=InMemoryCache(), options={"skeleton_timeout": 0.5})
    short = await run(graph)
    whole = await run(graph)
    assert len(short["skeleton"]) < 4
    assert [point["title"] for point in whole["skeleton"]] == TITLES


async def test_a_router_goes_before_and_a_given_skeleton_is_sent(run, endpoint):
    graph = pipelined(endpoint, router=lambda _question, _history: RouteDecision("skeleton", "it is long"))
    result = await run(graph)
    assert (result["route"], result["route_reason"]) == ("skeleton", "it is long")
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 4
    given = await run(graph, {**ASK, "given_skeleton": ["Light", "Water"]})
    assert [expansion["title"] for expansion in given["expansions"]] == ["Light", "Water"]


async def test_a_second_turn_knows_nothing_of_the_first(run, endpoint):
    graph = pipelined(endpoint, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    first = await run(graph, ASK, config)
    endpoint.responder = SkeletonResponder(titles=["Roots", "Leaves"])
    second = await run(graph, {"question": "And trees?"}, config)
    assert [expansion["title"] for expansion in second["expansions"]] == ["Roots", "Leaves"]
    assert second["usage"]["total"]["calls"] == 3
    assert len(second["messages"]) == len(first["messages"]) + 2


async def test_it_can_be_chosen_for_one_run(run, endpoint):
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(min_points=2))
    result = await run(graph, ASK, context={"dispatch": "pipelined"})
    assert all("titled" in point for point in result["timings"]["points"])


async def test_its_timings_are_those_of_one_run(run, endpoint):
    result = await run(pipelined(endpoint))
    figures = measure_run(result)
    assert figures.one_clock
    assert figures.critical_path is not None
    assert figures.critical_path <= figures.total + 1e-6
