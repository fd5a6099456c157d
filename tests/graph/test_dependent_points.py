"""Points that build on others: in waves with `Send`, pipelined as soon as what each needs is there."""

import asyncio
from itertools import pairwise

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from sot_graph import (
    ModelRouter,
    RouteDecision,
    SotConfigError,
    SotOptions,
    astream_answer,
    create_sot_graph,
    measure_run,
    retry_failed_points,
)
from sot_graph.testing import Fault, ScriptedChatModel, SkeletonResponder, Stall, Status
from tests.support.chat_requests import number_of, one_point

ASK = {"question": "How is a house built?"}
DIAMOND = ["Ground", "Walls (needs 1)", "Roof (needs 1)", "Furniture (needs 2, 3)"]


def points_of(endpoint):
    return [one for one in endpoint.requests if one_point(one.request)]


def graph_of(endpoint, dispatch, titles=DIAMOND, **kwargs):
    endpoint.responder = SkeletonResponder(titles=titles)
    options = {"min_points": 2, "dispatch": dispatch, "dependent": "graph", **kwargs.pop("options", {})}
    return create_sot_graph(endpoint.chat_model(), options=SotOptions(**options), **kwargs)


async def test_a_skeleton_says_what_its_points_need(run, endpoint, dispatch):
    result = await run(graph_of(endpoint, dispatch))
    assert [(point["title"], point["depends_on"]) for point in result["skeleton"]] == [
        ("Ground", []),
        ("Walls", [1]),
        ("Roof", [1]),
        ("Furniture", [2, 3]),
    ]
    assert "(needs 1, 2)" in endpoint.requests[0].request.last_user
    assert "(needs" not in result["answer"]


async def test_points_of_one_title_that_a_reviewer_gives_wait_for_nobody(run, endpoint):
    given = [
        {"title": "Costs"},
        {"title": "Rome", "depends_on": [1]},
        {"title": "Costs", "depends_on": [2]},
        {"title": "End", "depends_on": [2]},
    ]
    reviewed = graph_of(endpoint, "send", options={"review_skeleton": True}, checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    await run(reviewed, {**ASK, "given_skeleton": given}, thread)
    result = await run(reviewed, Command(resume=["Costs", "Rome", "Costs", "End"]), thread)
    assert [point["depends_on"] for point in result["skeleton"]] == [[], [], [], [2]]
    assert len(result["expansions"]) == 4


@pytest.mark.parametrize(
    ("edited", "needs"),
    [
        (["Ground", "Walls", "Roof", "Furniture"], [[], [1], [1], [2, 3]]),
        (["Furniture", "Ground", "Garden", "Walls"], [[4], [], [], [2]]),
        (["Soil", "Walls", "Roof", "Furniture"], [[], [], [], [2, 3]]),
        ([{"title": "Ground"}, {"title": "Walls"}], [[], [1]]),
        ([{"title": "Ground", "depends_on": []}, {"title": "Walls"}], [[], []]),
    ],
)
async def test_points_that_a_reviewer_leaves_as_they_are_keep_what_they_need(run, endpoint, edited, needs):
    reviewed = graph_of(endpoint, "send", options={"review_skeleton": True}, checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    await run(reviewed, ASK, thread)
    result = await run(reviewed, Command(resume=edited), thread)
    assert [point["depends_on"] for point in result["skeleton"]] == needs
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}


async def test_a_point_sees_the_texts_of_those_that_it_needs_and_no_others(run, endpoint, dispatch):
    result = await run(graph_of(endpoint, dispatch))
    texts = {one["index"]: f"{one['index']}. {one['title']}\n{one['text']}" for one in result["expansions"]}
    for one in points_of(endpoint):
        needed = next(p["depends_on"] for p in result["skeleton"] if p["index"] == number_of(one.request))
        seen = {index for index, text in texts.items() if text in one.request.last_user}
        assert seen == set(needed)


CHAIN = ["A one", *[f"{letter} more (needs {number - 1})" for number, letter in enumerate("BCDE", 2)]]


@pytest.mark.parametrize("titles", [DIAMOND, CHAIN], ids=["diamond", "chain of five"])
async def test_a_point_begins_once_its_needs_have_ended(run, endpoint, dispatch, titles):
    result = await run(graph_of(endpoint, dispatch, titles))
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * len(titles)
    logged = {number_of(one.request): one for one in points_of(endpoint)}
    for point in result["skeleton"]:
        assert all(logged[other].ended_at <= logged[point["index"]].arrived_at for other in point["depends_on"])


async def test_points_without_needs_are_in_flight_together(run, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch, [f"{letter} alone" for letter in "ABCDEFGHIJ"])
    with endpoint.hold(10, one_point) as hold:
        await run(graph)
    assert hold.complete


async def test_independent_points_of_a_wave_are_in_flight_together(run, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch)
    with endpoint.hold(2, lambda request: one_point(request) and number_of(request) in (2, 3)) as hold:
        await run(graph)
    assert hold.complete


async def test_pipelined_a_point_does_not_wait_for_others_of_an_earlier_wave(run, endpoint):
    # C needs A alone. B never ends, and C is written all the same.
    endpoint.faults = [Fault(Stall(), lambda request: one_point(request) and number_of(request) == 2)]
    graph = graph_of(endpoint, "pipelined", ["A one", "B two", "C three (needs 1)"], options={"point_timeout": 2.0})
    result = await run(graph)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "timed_out", "ok"]
    await endpoint.wait_for_async(lambda log: all(one.outcome for one in log))
    stalled, third = (next(one for one in points_of(endpoint) if number_of(one.request) == n) for n in (2, 3))
    assert third.ended_at < stalled.ended_at


async def test_the_answer_streams_in_reading_order_and_is_announced_once(endpoint, dispatch):
    graph = graph_of(endpoint, dispatch)
    chunks = [text async for text in astream_answer(graph, ASK)]
    events = [event async for event in graph.astream(ASK, stream_mode="custom")]
    assert [event["type"] for event in events].count("sot.answer") == 1
    assert events[-1]["answer"] == "".join(chunks)
    places = ["".join(chunks).index(title) for title in ("Ground", "Walls", "Roof", "Furniture")]
    assert all(left < right for left, right in pairwise(places))


async def test_a_point_whose_need_failed_says_so_and_asks_for_nothing(run, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch, checkpointer=InMemorySaver())
    endpoint.faults = [Fault(Status(400), lambda request: one_point(request) and number_of(request) == 2)]
    config = {"configurable": {"thread_id": "1"}}
    result = await run(graph, ASK, config)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "failed", "ok", "failed"]
    assert result["expansions"][3]["error"] == "it needs point 2, which could not be written"
    assert sorted(number_of(one.request) for one in points_of(endpoint)) == [1, 2, 3]

    endpoint.reset()
    endpoint.faults = []
    healed = await asyncio.to_thread(retry_failed_points, graph, config)
    assert [number_of(one.request) for one in endpoint.requests] == [2, 4]
    assert [expansion["status"] for expansion in healed["expansions"]] == ["ok"] * 4
    assert healed["expansions"][1]["text"] in endpoint.requests[1].request.last_user


async def test_a_need_that_is_late_makes_those_that_wait_late_too(run, endpoint, dispatch):
    endpoint.faults = [Fault(Stall(), lambda request: one_point(request) and number_of(request) == 1)]
    graph = graph_of(endpoint, dispatch, ["A one", "B two (needs 1)", "C three"], options={"deadline": 1.5})
    result = await run(graph)
    assert [expansion["status"] for expansion in result["expansions"]] == ["timed_out", "timed_out", "ok"]
    assert "was not finished in time" in result["expansions"][1]["error"]


async def test_at_the_deadline_no_call_begins_for_a_point_that_waited(run, endpoint):
    endpoint.faults = [Fault(Stall(), lambda request: one_point(request) and number_of(request) == 1)]
    titles = ["A one", "B two", "C three (needs 2)"]
    result = await run(graph_of(endpoint, "send", titles, options={"deadline": 1.5}))  # its waves are barriers
    assert [expansion["status"] for expansion in result["expansions"]] == ["timed_out", "ok", "timed_out"]
    assert result["usage"]["expansion"]["calls"] == 2


class TellingSaver(InMemorySaver):
    """Tells when points 1 and 2 are kept: only then is it sure that they are not asked for again."""

    def __init__(self):
        super().__init__()
        self.kept = set()
        self.has_both = asyncio.Event()

    async def aput_writes(self, config, writes, task_id, task_path=""):
        await super().aput_writes(config, writes, task_id, task_path)
        for _, value in writes:
            found = value.get("expansions", []) if isinstance(value, dict) else value
            if isinstance(found, list):
                self.kept |= {one["index"] for one in found if isinstance(one, dict) and "status" in one}
        if {1, 2} <= self.kept:
            self.has_both.set()


async def test_a_resumed_run_asks_only_for_what_is_not_there(run, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch, checkpointer=(saver := TellingSaver()))
    endpoint.faults = [Fault(Stall(), lambda request: one_point(request) and number_of(request) == 3)]
    config = {"configurable": {"thread_id": "1"}}
    running = asyncio.create_task(graph.ainvoke(ASK, config))
    await endpoint.wait_for_async(
        lambda log: (
            {number_of(one.request) for one in log if one_point(one.request) and one.outcome == "ok"} == {1, 2}
            and any(one_point(one.request) and number_of(one.request) == 3 for one in log)
        )
    )
    async with asyncio.timeout(20):
        await saver.has_both.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await endpoint.wait_for_async(lambda log: all(one.outcome for one in log))
    endpoint.reset()
    endpoint.faults = []
    result = await run(graph, None, config)
    assert sorted(number_of(one.request) for one in endpoint.requests) == [3, 4]
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 4


@pytest.mark.parametrize("width", [1, 2])
async def test_no_width_of_langgraphs_is_a_deadlock(run, endpoint, dispatch, width):
    async with asyncio.timeout(60):
        result = await run(graph_of(endpoint, dispatch), ASK, {"max_concurrency": width})
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 4


async def test_a_given_skeleton_may_need_what_stands_behind(run, endpoint, dispatch):
    given = [{"title": "Sum", "depends_on": [2, 3]}, {"title": "Left"}, {"title": "Right"}]
    result = await run(graph_of(endpoint, dispatch), {**ASK, "given_skeleton": given})
    assert number_of(points_of(endpoint)[-1].request) == 1
    assert [expansion["title"] for expansion in result["expansions"]] == ["Sum", "Left", "Right"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([{"title": "A", "depends_on": [1]}], "in a circle: 1 -> 1"),
        ([{"title": "A", "depends_on": [2]}, {"title": "B", "depends_on": [1]}], "in a circle"),
        ([{"title": "A", "depends_on": [7]}], "depends on 7, and there is no such point"),
        ([{"title": "A", "depends_on": "2"}, "B"], "depends_on='2'; it must be a list"),
        ([{"title": "A", "depends_on": [True]}, "B"], "it must be a list"),
    ],
)
async def test_needs_that_cannot_be_met_are_refused(run, endpoint, given, says):
    with pytest.raises(SotConfigError, match=says):
        await run(graph_of(endpoint, "send"), {**ASK, "given_skeleton": given})
    assert endpoint.requests == []


async def test_the_result_of_a_run_can_be_given_back(run, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch)
    first = await run(graph)
    kept = [{**e, "status": "failed", "text": ""} if e["index"] == 3 else e for e in first["expansions"]]
    endpoint.reset()
    second = await run(graph, {**ASK, "given_skeleton": first["skeleton"], "given_expansions": kept})
    assert second["skeleton"] == first["skeleton"]
    assert [number_of(one.request) for one in endpoint.requests] == [3]


@pytest.mark.parametrize("speculative", [False, True])
@pytest.mark.parametrize(("dependent", "route"), [("graph", "skeleton"), ("direct", "direct")])
async def test_the_routers_class_b_takes_the_graph_where_that_is_wanted(run, endpoint, dependent, route, speculative):
    router = ModelRouter(ScriptedChatModel(lambda _messages: '{"kind":"B"}'))
    options = {"dependent": dependent, "speculative": speculative}
    result = await run(graph_of(endpoint, "send", router=router, options=options))
    assert result["route"] == route
    if route == "skeleton":
        assert result["skeleton"][3]["depends_on"] == [2, 3]


async def test_independent_points_are_not_asked_for_needs(run, endpoint):
    sure = RouteDecision("skeleton", "they are independent", dependent=False)
    await run(graph_of(endpoint, "send", ["A one", "B two"], router=lambda _question, _history: sure))
    assert "needs" not in endpoint.requests[0].request.last_user


async def test_without_the_option_a_title_keeps_its_words(run, endpoint):
    endpoint.responder = SkeletonResponder(titles=["Ground", "Walls (needs 1)", "Roof"])
    result = await run(create_sot_graph(endpoint.chat_model()))
    assert result["skeleton"][1] == {"index": 2, "title": "Walls (needs 1)", "depends_on": []}


ALONE = [f"{letter} alone" for letter in "ABCDEFGHIJ"]


@pytest.mark.parametrize(
    ("titles", "expansions"), [(DIAMOND, 3), (CHAIN, 5), (ALONE, 1)], ids=["diamond", "chain of five", "ten alone"]
)
async def test_the_run_takes_as_many_expansions_as_the_longest_chain_has(run, endpoint, dispatch, titles, expansions):
    figures = measure_run(await run(graph_of(endpoint, dispatch, titles)))
    assert figures.complete
    chain = figures.critical_points
    needs = {point.id: point.depends_on for point in figures.points}
    assert all(need in needs[index] for need, index in pairwise(chain))
    assert not any(chain[-1] in others for others in needs.values())
    # A title that came after all that its point needs: what the point waited for last is the skeleton.
    waited_for_its_title = dispatch == "pipelined" and needs[chain[0]]
    assert waited_for_its_title or len(chain) == expansions
    assert figures.critical_path <= figures.total + 1e-6
