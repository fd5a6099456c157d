"""Sections with sub-sections: `SotOptions(depth=2)`, and a graph as another one's expander."""

import re

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import get_runtime

from sot_graph import (
    CallLimiter,
    PointwiseJoin,
    SotConfigError,
    SotOptions,
    build_sot_graph,
    create_sot_graph,
    create_sot_tool,
    join_headings,
    join_plain,
    measure_run,
)
from sot_graph.testing import CutOff, Fault, Reply, SkeletonResponder, Status
from tests.support.chat_requests import decides, one_point

ASK = {"question": "How do plants grow?"}
TITLES = ["Sun", "Soil", "Water"]
SHORT = "Six hours of it."
REPORT = f"## Sun\n\n{SHORT}\n\n## Soil\n\n### Clay\n\nAbout Clay.\n\n### Sand\n\nAbout Sand.\n\n## Water\n\n{SHORT}"


def asked_title(request):
    """Of the point that a request is about: the last that is named."""
    return re.findall(r"(?:<|&lt;)point>\d+\. (.*?)(?:<|&lt;)/point>", request.last_user)[-1]


def is_deepest(request):
    """Whether it asks for the text of a point that has no others below it."""
    return one_point(request) and not decides(request)


def respond(request):
    """Soil is long, and becomes a skeleton; the other sections are short."""
    if decides(request):
        return Reply("1. Clay\n2. Sand" if asked_title(request) == "Soil" else SHORT)
    if one_point(request):
        return Reply(f"About {asked_title(request)}.")
    return SkeletonResponder(titles=TITLES)(request)


@pytest.fixture
def report(endpoint, dispatch):
    endpoint.responder = respond
    options = SotOptions(min_points=2, max_points=3, depth=2, dispatch=dispatch)
    return create_sot_graph(endpoint.chat_model(), join=join_headings, options=options)


async def test_a_point_that_is_long_becomes_a_skeleton_of_its_own(run, report, endpoint):
    result = await run(report)
    assert result["answer"] == REPORT
    assert [each["title"] for each in result["skeleton"]] == TITLES
    stages = {stage: used["calls"] for stage, used in result["usage"].items() if used.get("calls")}
    assert stages == {"skeleton": 1, "expansion": 5, "total": 6}
    assert len(endpoint.requests) == 6
    assert result["usage"]["total"]["output_tokens"] == sum(one.tokens_sent for one in endpoint.requests)
    assert [section.id for section in measure_run(result).sections] == [1, 2, 3]


async def test_what_is_streamed_is_the_report(report, chunks_of):
    assert "".join(await chunks_of(report)) == REPORT


async def test_a_section_is_read_while_it_is_written(report, endpoint):
    with endpoint.hold(2, lambda request: is_deepest(request) and asked_title(request) == "Sand") as held:
        read = ""
        async for event in report.astream(ASK, stream_mode="custom"):
            read += event.get("text", "") if event.get("index") == 2 else ""
            if "About Clay." in read:
                held.release()
    assert read == "### Clay\n\nAbout Clay.\n\n### Sand\n\nAbout Sand."


async def test_clients_of_messages_hear_one(report):
    heard = [chunk async for chunk, _ in report.astream(ASK, stream_mode="messages")]
    assert "".join(chunk.text for chunk in heard) == REPORT
    assert len({chunk.id for chunk in heard}) == 1


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_all_calls_are_bound_by_the_points_of_each_level(endpoint, depth):
    endpoint.responder = SkeletonResponder(points=5)
    options = SotOptions(min_points=2, max_points=2, depth=depth)
    result = await create_sot_graph(endpoint.chat_model(), options=options).ainvoke(ASK)
    assert result["usage"]["total"]["calls"] == len(endpoint.requests) == 2 ** (depth + 1) - 1


@pytest.mark.parametrize("bound", ["max_concurrency", "limiter"])
async def test_calls_of_all_levels_share_their_places(endpoint, bound):
    endpoint.responder = SkeletonResponder(points=3)
    options = SotOptions(max_points=3, depth=3, max_concurrency=2 if bound == "max_concurrency" else None)
    limiter = CallLimiter(2, tokens_per_minute=10**9) if bound == "limiter" else None
    graph = create_sot_graph(endpoint.chat_model(), options=options, limiter=limiter)
    with endpoint.hold(2, is_deepest) as held:
        result = await graph.ainvoke(ASK)
    assert held.complete
    assert endpoint.max_in_flight == 2
    assert [each["status"] for each in result["expansions"]] == ["ok"] * 3


async def test_a_section_with_a_point_that_failed_is_not_whole(run, report, endpoint):
    endpoint.faults = [Fault(Status(400), lambda request: is_deepest(request) and asked_title(request) == "Sand")]
    result = await run(report)
    sun, soil, _ = result["expansions"]
    assert (sun["status"], soil["status"]) == ("ok", "failed")
    assert soil["error"].startswith("its point 2 is not whole: ")
    assert "### Clay\n\nAbout Clay." in result["answer"]


@pytest.mark.parametrize("context", [{"frame": "intro"}, {"sot": {"frame": "intro"}}], ids=["own", "a parent's form"])
async def test_a_runs_context_holds_on_the_first_level_alone(report, endpoint, context):
    result = await report.ainvoke(ASK, context=context)
    assert result["usage"]["frame"]["calls"] == 1
    assert len(endpoint.requests) == 7


async def test_the_levels_below_see_the_rest_of_a_parents_context(endpoint):
    seen = []

    async def look(given):
        seen.append(get_runtime().context)
        return "A text."

    endpoint.responder = respond
    inner = create_sot_graph(endpoint.chat_model(), expander=look, options=SotOptions(max_points=2, min_points=2))
    outer = create_sot_graph(endpoint.chat_model(), expander=inner, options=SotOptions(max_points=3))
    parent = StateGraph(MessagesState, context_schema=dict)
    parent.add_node("answer", outer)
    parent.add_edge(START, "answer")
    context = {"user": "7", "sot": {"frame": "intro"}}
    await parent.compile().ainvoke({"messages": [("user", ASK["question"])]}, context=context)
    assert {one["user"] for one in seen} == {"7"}


async def test_documents_are_cited_on_every_level(run, report, endpoint):
    def citing(request):
        reply = respond(request)
        return Reply(f"{reply.text[:-1]} [2].") if reply.text.startswith(("About", SHORT)) else reply

    endpoint.responder = citing
    result = await run(report, {**ASK, "documents": ["Six hours.", "Loose soil."]})
    assert "About Sand [1]." in result["answer"]
    assert result["answer"].endswith("Six hours of it [1].\n\n## Sources\n\n1. Loose soil.")
    assert result["unsupported_citations"] == 0


async def test_a_graph_as_an_expander_has_points_heads_and_sources_of_its_own(endpoint, chunks_of):
    def citing(request):
        return Reply(f"{respond(request).text[:-1]} [1].") if is_deepest(request) else respond(request)

    endpoint.responder = citing
    section = create_sot_graph(
        endpoint.chat_model(),
        router="draft",
        join=PointwiseJoin(head="{title}: ", separator=" "),
        retriever=lambda query: [f"Found for {query[-4:]}."],
        options=SotOptions(min_points=2, max_points=2),
    )
    graph = create_sot_graph(endpoint.chat_model(), expander=section, options=SotOptions(min_points=2))
    result = await graph.ainvoke(ASK)
    soil = result["expansions"][1]
    assert soil["text"].startswith("Clay: About Clay [1]. Sand: About Sand [1].")
    assert result["answer"].count("**Sources**") == 1
    assert "".join(await chunks_of(graph)) == result["answer"]


def test_a_graph_that_was_compiled_by_hand_writes_points_as_any(endpoint):
    endpoint.responder, options = respond, SotOptions(min_points=2)
    prompts = []
    for section in (
        create_sot_graph(endpoint.chat_model(), options=options),
        build_sot_graph(endpoint.chat_model(), options=options).compile(),
    ):
        endpoint.reset()
        create_sot_graph(endpoint.chat_model(), expander=section, options=options).invoke(ASK)
        prompts.append(sorted(logged.request.text for logged in endpoint.requests))
    assert prompts[0] == prompts[1]


async def test_a_limiter_may_be_given_to_both_levels(run, endpoint):
    endpoint.responder, options = respond, SotOptions(min_points=2)
    limiter = CallLimiter(1)
    below = create_sot_graph(endpoint.chat_model(), options=options, limiter=limiter)
    graph = create_sot_graph(endpoint.chat_model(), options=options, limiter=limiter, expander=below)
    assert {point["status"] for point in (await run(graph, ASK))["expansions"]} == {"ok"}


async def test_two_levels_take_their_places_in_one_order(endpoint):
    endpoint.responder = respond
    options, limiter = SotOptions(min_points=2, max_concurrency=1, frame="intro"), CallLimiter(1, tokens_per_minute=1e9)
    below = create_sot_graph(endpoint.chat_model(), options=SotOptions(min_points=2), limiter=limiter)
    graph = create_sot_graph(endpoint.chat_model(), options=options, limiter=limiter, expander=below)
    endpoint.faults = [Fault(Status(500), lambda request: "introduction" in request.last_user.lower(), times=1)]
    result = await graph.ainvoke(ASK)
    assert {point["status"] for point in result["expansions"]} == {"ok"}
    assert limiter.in_flight == 0


async def test_points_of_points_are_written_with_any_durability(run, endpoint):
    endpoint.responder = respond
    options = SotOptions(min_points=2, depth=2)
    graph = create_sot_graph(endpoint.chat_model(), options=options, checkpointer=InMemorySaver())
    for durability in ("sync", "async", "exit"):
        config = {"configurable": {"thread_id": durability}}
        result = await run(graph, ASK, config, durability=durability)
        assert {point["status"] for point in result["expansions"]} == {"ok"}


def test_a_tools_retriever_is_asked_for_the_first_level_alone(endpoint):
    endpoint.responder, asked = respond, []
    options = SotOptions(min_points=2, depth=2)
    graph = create_sot_graph(endpoint.chat_model(), options=options)
    create_sot_tool(graph, retriever=lambda query: asked.append(query) or ["A note."]).invoke(ASK)
    assert sorted(asked) == sorted([ASK["question"], *(f"{ASK['question']} {title}" for title in TITLES)])


@pytest.mark.parametrize("depth", [0, 4, True, "2"])
def test_a_depth_is_one_to_three(depth):
    with pytest.raises(SotConfigError, match="depth"):
        SotOptions(depth=depth)


@pytest.mark.parametrize("way", ["depth", "expander"])
async def test_the_first_head_of_a_section_is_no_echo_of_its_number(endpoint, way):
    endpoint.responder = respond
    options = SotOptions(min_points=2, max_points=3)
    model = endpoint.chat_model()
    if way == "depth":
        graph = create_sot_graph(model, options=SotOptions(min_points=2, max_points=3, depth=2))
    else:
        graph = create_sot_graph(model, options=options, expander=create_sot_graph(model, options=options))
    given = {**ASK, "given_skeleton": ["Soil", "Water"]}
    text = (await graph.ainvoke(given))["expansions"][0]["text"]
    assert text.startswith("*1. Clay*\n\n" if way == "depth" else "**1. ")


async def test_plain_sections_have_their_heads_in_lines_of_their_own(endpoint):
    endpoint.responder = respond
    options = SotOptions(min_points=2, max_points=3, depth=2)
    graph = create_sot_graph(endpoint.chat_model(), options=options, join=join_plain)
    (soil,) = (await graph.ainvoke({**ASK, "given_skeleton": ["Soil"]}))["expansions"]
    assert soil["text"] == "*1. Clay*\n\nAbout Clay.\n\n*2. Sand*\n\nAbout Sand."


async def test_a_token_limit_below_is_one_of_the_section_and_the_answer(endpoint):
    endpoint.responder = respond
    endpoint.faults = [Fault(CutOff(2), lambda request: is_deepest(request) and asked_title(request) == "Sand")]
    options = SotOptions(min_points=2, max_points=3, depth=2)
    result = await create_sot_graph(endpoint.chat_model(), options=options).ainvoke(ASK)
    assert [each.get("truncated") for each in result["expansions"]] == [None, True, None]
    assert result["finish_reason"] == "length"


async def test_a_direct_answer_below_keeps_its_end_where_it_cites(endpoint):
    endpoint.responder = lambda request: Reply("Loosen it well [1]")
    model = endpoint.chat_model()
    below = create_sot_graph(model, router=lambda question, history: "direct", retriever=lambda query: ["A note."])
    graph = create_sot_graph(model, expander=below)
    (point,) = (await graph.ainvoke({**ASK, "given_skeleton": ["Soil"]}))["expansions"]
    assert point["text"] == "Loosen it well [1]"
