"""Features beside each other: a frame, an expander, points that need others, the cache, speculation, pipelining."""

import asyncio

import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from sot_graph import (
    AnswerReader,
    RouteDecision,
    SotError,
    SotOptions,
    astream_answer,
    create_sot_graph,
    join_headings,
    stream_answer,
)
from sot_graph.testing import Fault, SkeletonResponder, Stall, Status

ASK = {"question": "How do plants grow?"}
THREAD = {"configurable": {"thread_id": "1"}}
TITLES = ["Seed", "Soil", "Sun"]


def stage_of(request):
    for part in ("introduction", "conclusion"):
        if f"write the {part} of the answer" in request.last_user:
            return part
    if "one point" in request.last_user:
        return "point"
    return "direct" if "Answer the question." in request.last_user else "skeleton"


def stages(endpoint):
    return [stage_of(one.request) for one in endpoint.requests]


def cite(given):
    """Each point has a source of its own and one that all share."""
    title = given["point"]["title"]
    return {"text": f"{title} matters [1], as all do [2].", "sources": [f"On {title}", "Handbook"]}


def graph_of(endpoint, dispatch="send", titles=TITLES, says=None, options=None, **kwargs):
    says = says or {"introduction": "Plants need little.", "conclusion": "So they grow."}
    endpoint.responder = SkeletonResponder(titles=titles, text=lambda ask: says.get(ask.stage, f"About {ask.title}."))
    wanted = {"min_points": 2, "dispatch": dispatch, **(options or {})}
    return create_sot_graph(endpoint.chat_model(), options=SotOptions(**wanted), **kwargs)


# --- A frame around points that an expander writes ---


FRAMED = """\
Plants need little.

## Seed

Seed matters [1], as all do [2].

## Soil

Soil matters [3], as all do [2].

## Sun

Sun matters [4], as all do [2].

So they grow [2].

## Sources

1. On Seed
2. Handbook
3. On Soil
4. On Sun"""


@pytest.fixture
def framed(endpoint, dispatch):
    says = {"introduction": "Plants need little.", "conclusion": "So they grow [2]."}
    return graph_of(
        endpoint, dispatch, says=says, options={"frame": "intro+conclusion"}, expander=cite, join=join_headings
    )


async def test_a_frame_stands_around_an_expanders_points_and_the_list_of_their_sources(run, framed, endpoint):
    result = await run(framed)
    assert result["answer"] == result["messages"][-1].content == FRAMED
    assert [source["title"] for source in result["sources"]] == ["On Seed", "Handbook", "On Soil", "On Sun"]
    assert sorted(stages(endpoint)) == ["conclusion", "introduction", "skeleton"]


async def test_it_is_read_as_it_stands(framed):
    assert "".join([text async for text in astream_answer(framed, ASK)]) == FRAMED
    assert "".join(await asyncio.to_thread(lambda: list(stream_answer(framed, ASK)))) == FRAMED


async def test_the_conclusion_is_written_from_texts_that_cite_by_the_answers_numbers(run, framed, endpoint):
    await run(framed)
    (asked,) = [one.request.last_user for one in endpoint.requests if stage_of(one.request) == "conclusion"]
    assert "Soil matters [3], as all do [2]." in asked


async def test_the_conclusion_is_read_live_before_the_list_of_sources(framed, endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=3), lambda request: stage_of(request) == "conclusion")]
    reader, text = AnswerReader(), ""
    events = framed.astream(ASK, stream_mode="custom")
    async for event in events:
        text += reader.feed(event)
        if "\n\nSo " in text:
            break
    await events.aclose()
    assert FRAMED.startswith(text)
    assert len(text) < len(FRAMED)
    assert "Sun matters [4], as all do [2].\n\nSo" in text


# --- Points that need others, written by an expander ---


HOUSE = ["Ground", "Walls (needs 1)", "Roof (needs 2)"]


async def test_an_expanders_prompt_has_the_texts_that_its_point_needs_without_their_numbers(run, endpoint, dispatch):
    seen = {}

    def write(given):
        seen[given["point"]["index"]] = given
        return cite(given)

    graph = graph_of(endpoint, dispatch, HOUSE, options={"dependent": "graph"}, expander=write)
    result = await run(graph)
    assert [seen[index]["point"]["depends_on"] for index in (1, 2, 3)] == [[], [1], [2]]
    assert "matters" not in seen[1]["messages"][-1].text
    assert "1. Ground\nGround matters, as all do.\n" in seen[2]["messages"][-1].text
    assert "2. Walls\nWalls matters, as all do.\n" in seen[3]["messages"][-1].text
    assert "Roof matters [4], as all do [2]." in result["answer"]
    assert "".join([text async for text in astream_answer(graph, ASK)]) == result["answer"]


async def test_an_expander_is_not_asked_for_a_point_whose_need_failed(run, endpoint, dispatch):
    asked = []

    def write(given):
        asked.append(given["point"]["index"])
        if given["point"]["index"] == 2:
            raise ValueError("no walls")
        return cite(given)

    result = await run(graph_of(endpoint, dispatch, HOUSE, options={"dependent": "graph"}, expander=write))
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "failed", "failed"]
    assert result["expansions"][2]["error"] == "it needs point 2, which could not be written"
    assert asked == [1, 2]


# --- The cache beside an expander ---


async def test_beside_an_expander_the_cache_has_the_skeleton_and_the_introduction_and_no_point(run, endpoint, dispatch):
    asked = []

    def write(given):
        asked.append(given["point"]["index"])
        return f"Try {len(asked)}."

    graph = graph_of(endpoint, dispatch, options={"frame": "intro+conclusion"}, expander=write, cache=InMemoryCache())
    await run(graph)
    endpoint.reset()
    again = await run(graph)
    assert sorted(asked) == [1, 1, 2, 2, 3, 3]
    assert stages(endpoint) == ["conclusion"]  # of other texts
    assert again["usage"]["total"]["cache_hits"] == 2


# --- Speculation and pipelining ---


@pytest.mark.parametrize("speculative", [True, "both"])
@pytest.mark.parametrize("frame", ["none", "intro+conclusion"])
async def test_a_skeleton_that_was_begun_speculatively_is_sent_and_paid_for_once(run, endpoint, speculative, frame):
    async def router(question, history):
        await endpoint.wait_for_async(lambda log: {stage_of(one.request) for one in log} >= begun)
        return RouteDecision("skeleton", "it is long")

    begun = {"skeleton"} if speculative is True else {"skeleton", "direct"}
    options = {"speculative": speculative, "frame": frame}
    graph = graph_of(endpoint, "pipelined", options=options, router=router)
    result = await run(graph)
    assert (result["route"], result["route_reason"]) == ("skeleton", "it is long")
    assert stages(endpoint).count("skeleton") == 1
    assert stages(endpoint).count("point") == 3
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 3
    assert "".join([text async for text in astream_answer(graph, ASK)]) == result["answer"]


@pytest.mark.parametrize("speculative", [True, "both"])
async def test_a_speculative_skeleton_is_given_up_where_the_answer_is_direct(run, endpoint, speculative):
    async def router(question, history):
        await endpoint.wait_for_async(lambda log: "skeleton" in {stage_of(one.request) for one in log})
        return "direct"

    graph = graph_of(endpoint, "pipelined", options={"speculative": speculative}, router=router)
    endpoint.faults = [Fault(Stall(after_tokens=4), lambda request: stage_of(request) == "skeleton")]
    result = await run(graph)
    assert result["route"] == "direct"
    assert result["skeleton"] == result["expansions"] == []
    await endpoint.wait_for_async(lambda log: all(one.outcome for one in log))
    assert sorted(stages(endpoint)) == ["direct", "skeleton"]


# --- Documents beside what another invocation reads, and beside a join that needs all points ---


def cites_documents(endpoint, dispatch="send", **kwargs):
    """A graph whose introduction and points cite the second of two documents, which is the answer's first source."""
    says = {"introduction": "They need soil [2].", "conclusion": "So they grow."}
    graph = graph_of(endpoint, dispatch, says=says, **kwargs)
    endpoint.responder = SkeletonResponder(titles=TITLES, text=lambda ask: says.get(ask.stage, f"{ask.title} [2]."))
    return graph


GROUNDED = {**ASK, "documents": ["Sun gives light.", "Soil feeds."]}


async def test_after_its_review_an_answer_from_documents_is_read_as_it_stands(endpoint, chunks_of):
    options = {"review_skeleton": True, "frame": "intro+conclusion"}
    graph = cites_documents(endpoint, options=options, checkpointer=InMemorySaver())
    assert await chunks_of(graph, GROUNDED, THREAD) == []
    text = "".join(await chunks_of(graph, Command(resume=True), THREAD))
    assert text == (await graph.aget_state(THREAD)).values["answer"]
    assert text.endswith("**Sources**\n\n1. Soil feeds.")


async def test_a_run_that_died_after_its_router_is_read_as_it_stands_too(endpoint, chunks_of):
    graph = cites_documents(endpoint, router=lambda *_: "skeleton", checkpointer=InMemorySaver())
    endpoint.faults = [Fault(Status(401), lambda request: stage_of(request) == "skeleton")]
    with pytest.raises(SotError):
        await graph.ainvoke(GROUNDED, THREAD)
    endpoint.faults = []
    assert "Soil [1]." in "".join(await chunks_of(graph, None, THREAD))


async def test_an_introduction_cites_by_the_answers_numbers_beside_any_join(endpoint, dispatch, chunks_of):
    def join(_question, _skeleton, expansions):
        return " ".join(expansion["text"] for expansion in expansions)

    graph = cites_documents(endpoint, dispatch, options={"frame": "intro+conclusion"}, join=join)
    text = "".join(await chunks_of(graph, GROUNDED))
    assert text == "They need soil [1].\n\nSeed [1]. Soil [1]. Sun [1].\n\nSo they grow."
