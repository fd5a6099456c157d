"""What a trace can be filtered and compared by: figures on the run of the graph."""

import asyncio
import json
from importlib.metadata import version

import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from sot_graph import ModelRouter, SotOptions, SotPrompts, create_sot_graph
from sot_graph.testing import Fault, SkeletonResponder, Status

ASK = {"question": "How do plants grow?"}
ALWAYS = {"sot_version", "sot_fingerprint", "sot_route", "sot_points", "sot_failed_points", "sot_streamed"}
TIMES = {"sot_seconds", "sot_critical_path", "sot_speed_up_estimate"}


def figures_of(run):
    return {key: value for key, value in run.metadata.items() if key.startswith("sot_")}


async def test_they_are_on_the_root_when_the_run_ends_and_on_no_other_run(run, endpoint, recorder, config):
    endpoint.faults = [Fault(Status(400), lambda request: "2." in request.last_user and "<point>" in request.last_user)]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK, config)
    root = recorder.root()
    figures = figures_of(root)
    assert figures.keys() - {"sot_time_to_first_word"} == ALWAYS | TIMES
    assert (figures["sot_route"], figures["sot_points"], figures["sot_failed_points"]) == ("skeleton", 3, 1)
    assert figures["sot_version"] == version("sot-graph")
    assert figures["sot_seconds"] == pytest.approx(result["timings"]["total"], abs=0.001)
    assert 0 < figures["sot_critical_path"] <= figures["sot_seconds"] + 0.001
    assert not any(key in (ALWAYS | TIMES) - {"sot_route"} for run in root.children for key in run.metadata)


async def test_the_time_to_the_first_word_is_there_where_it_is_known(ways_to_run, endpoint, recorder, config):
    invoke, ainvoke, stream, astream, astream_answer = ways_to_run
    for run, is_known in ((invoke, False), (ainvoke, False), (stream, True), (astream, True), (astream_answer, True)):
        result = await run(create_sot_graph(endpoint.chat_model()), ASK, config)
        figures = figures_of(recorder.roots()[-1])
        assert figures["sot_streamed"] is is_known
        assert ("sot_time_to_first_word" in figures) is is_known
        if is_known and "timings" in result:
            first = result["timings"]["points"][0]["first_token"]
            assert figures["sot_time_to_first_word"] == pytest.approx(first, abs=0.001)


async def test_of_a_direct_answer_it_is_that_of_the_answer(endpoint, recorder, config):
    graph = create_sot_graph(
        endpoint.chat_model(), router=lambda question, history: "direct", options=SotOptions(stream=True)
    )
    result = await graph.ainvoke(ASK, config)
    figures = figures_of(recorder.root())
    assert (figures["sot_route"], figures["sot_points"]) == ("direct", 0)
    first = result["timings"]["direct"]["first_token"]
    assert figures["sot_time_to_first_word"] == pytest.approx(first, abs=0.001)


async def test_what_was_written_before_the_router_decided_is_first_read_when_it_has(endpoint, recorder, config):
    write = SkeletonResponder(points=3, words_per_point=8)

    def is_routing(request):
        return "Which letter?" in request.last_user

    endpoint.responder = lambda request: json.dumps({"kind": "C"}) if is_routing(request) else write(request)
    graph = create_sot_graph(
        endpoint.chat_model(), router=ModelRouter(), options=SotOptions(speculative="both", stream=True)
    )
    with endpoint.hold(2, is_routing) as held:
        running = asyncio.ensure_future(graph.ainvoke(ASK, config))
        await endpoint.wait_for_async(lambda log: sum(logged.outcome == "ok" for logged in log) == 2)
        held.release()
        result = await running
    figures = figures_of(recorder.root())
    decided = result["timings"]["route"]["end"]
    assert result["timings"]["direct"]["first_token"] < decided
    assert figures["sot_time_to_first_word"] == pytest.approx(decided, abs=0.001)
    assert figures["sot_critical_path"] <= figures["sot_seconds"] + 0.001


async def test_what_came_from_the_cache_took_no_time_to_estimate_from(run, endpoint, recorder, config):
    graph = create_sot_graph(endpoint.chat_model(), cache=InMemoryCache())
    await run(graph, ASK, {})
    await run(graph, ASK, config)
    assert figures_of(recorder.root()).keys() == ALWAYS | {"sot_seconds"}


async def test_the_times_of_a_resumed_run_are_of_two_clocks_and_not_told(endpoint, recorder, config):
    graph = create_sot_graph(
        endpoint.chat_model(),
        options=SotOptions(review_skeleton=True, stream=True),
        checkpointer=InMemorySaver(),
    )
    config = {**config, "configurable": {"thread_id": "1"}}
    await graph.ainvoke(ASK, config)
    await graph.ainvoke(Command(resume=True), config)
    stopped, resumed = map(figures_of, recorder.roots())
    assert stopped.keys() == {"sot_version", "sot_fingerprint"}
    assert resumed.keys() == ALWAYS - {"sot_streamed"} | {"sot_seconds"}


async def test_of_a_subgraph_they_are_on_the_subgraphs_run(run, endpoint, recorder, config):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(endpoint.chat_model()))
    builder.add_edge(START, "answer")
    await run(builder.compile(), {"messages": [("user", "How do plants grow?")]}, config)
    root = recorder.root()
    assert figures_of(root) == {}
    assert figures_of(root.find("sot_graph")).keys() >= ALWAYS | TIMES


async def test_the_fingerprint_is_that_of_prompts_and_options(endpoint, recorder, config):
    async def fingerprint(context=None, **settings):
        await create_sot_graph(endpoint.chat_model(), **settings).ainvoke(ASK, config, context=context)
        return recorder.roots()[-1].metadata["sot_fingerprint"]

    plain = await fingerprint()
    assert plain == await fingerprint()
    others = [
        await fingerprint(options=SotOptions(max_points=4)),
        await fingerprint(context={"max_points": 5}),
        await fingerprint(prompts=SotPrompts(system="Be brief.")),
    ]
    assert len({plain, *others}) == 4
    assert await fingerprint(context={"max_points": 4}) == others[0]
