"""A trace reads like the answer: every run once, named by what it does, ended, and with its tokens."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from sot_graph import (
    ExpansionError,
    ModelRouter,
    SotConfigError,
    SotOptions,
    aretry_failed_points,
    create_sot_graph,
    retry_failed_points,
)
from sot_graph.testing import (
    CutOff,
    Fault,
    HangUp,
    ScriptedChatModel,
    SkeletonResponder,
    Stall,
    Status,
    answer_skeleton_of_thought,
)

ASK = {"question": "How do plants grow?"}
WRITE = SkeletonResponder(points=3, words_per_point=8)


def is_routing(request):
    return "Which letter?" in request.last_user


def is_draft(request):
    return "Do not answer yet" in request.last_user


def of_point(number):
    return lambda request: "<point>" in request.last_user and f"{number}." in request.last_user


def routed(letter):
    return lambda request: json.dumps({"kind": letter}) if is_routing(request) else WRITE(request)


def nonsense_first():
    asked = []

    def respond(request):
        if is_draft(request) and not asked:
            asked.append(request)
            return "nonsense"
        return WRITE(request)

    return respond


def check_whole(root, usage):
    """No run twice, none that never ended, a parent for each, and the tokens of the result."""
    runs = list(root.walk())
    assert all(run.posts == 1 for run in runs), root.as_text()
    assert all(run.has_ended for run in runs), root.as_text()
    calls = [run for run in runs if run.kind == "llm"]
    assert len(calls) == usage["calls"], root.as_text()
    tokens = [sum(run.tokens[side] for run in calls) for side in (0, 1)]
    told = [usage["input_tokens"], usage["output_tokens"]]
    if usage.get("estimated"):  # a trace has only what the provider has told
        assert tokens[0] < told[0], root.as_text()
        assert tokens[1] <= told[1], root.as_text()
    else:
        assert tokens == told, root.as_text()


async def test_the_tree_reads_like_the_answer_however_it_is_run(ways_to_run, endpoint, recorder, config, text_snapshot):
    graph = create_sot_graph(endpoint.chat_model(), router=lambda question, history: "skeleton")
    results = [await run(graph, ASK, config) for run in ways_to_run]
    roots = recorder.roots()
    assert len({root.as_text() for root in roots}) == 1
    assert roots[0].as_text() == text_snapshot
    for root, result in zip(roots, results, strict=True):
        assert root.inputs == ASK
        assert root.outputs["answer"] == result["answer"]
        assert root.error is None


@pytest.mark.parametrize("decision", ["a skeleton", "an answer"])
async def test_the_draft_that_decides_is_one_call(endpoint, recorder, config, text_snapshot, decision):
    answer = "It is 12 degrees in Oslo. Take a coat."
    if decision == "an answer":
        endpoint.responder = lambda request: answer
    result = await create_sot_graph(endpoint.chat_model(), router="draft").ainvoke(ASK, config)
    [root] = recorder.roots()
    check_whole(root, result["usage"]["total"])
    assert root.as_text() == text_snapshot
    assert (result["answer"] == answer) is (decision == "an answer")


def test_the_docs_show_a_tree_as_it_is(recorder, config):
    write = answer_skeleton_of_thought(["Seed", "Soil", "Sun"], "About {title}.")
    asked = []

    def flaky(messages):
        text = messages[-1].text
        if "Which letter?" in text:
            return '{"kind":"A"}'
        if "2. Soil" in text and not asked:
            asked.append(text)
            return ConnectionError("the line went dead")
        return ValueError("no word on this") if "3. Sun" in text else write(messages)

    create_sot_graph(ScriptedChatModel(flaky), router=ModelRouter()).invoke(ASK, config)
    page = Path(__file__).parents[2] / "docs" / "tracing.md"
    assert f"```text\n{recorder.root().as_text()}```" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
async def test_the_introduction_and_the_conclusion_stand_where_they_are_read(
    dispatch, ways_to_run, endpoint, recorder, config, text_snapshot
):
    graph = create_sot_graph(
        endpoint.chat_model(), options=SotOptions(frame="intro+conclusion", dispatch=dispatch, stream=True)
    )
    results = [await run(graph, ASK, config) for run in ways_to_run]
    roots = recorder.roots()
    assert len({root.as_text() for root in roots}) == 1
    assert roots[0].as_text() == text_snapshot
    for root, result in zip(roots, results, strict=True):
        for part in ("introduction", "conclusion"):
            node, call = root.find(f"write_{part}"), root.find(f"write the {part}")
            about = [node.metadata[f"sot_frame_{key}"] for key in ("part", "status")]
            assert about == [part, "ok"]
            assert "sot_point_index" not in node.metadata
            assert call.metadata["sot_frame_part"] == part
            if dispatch == "send":  # else a task of LangGraph's, which records what it is given
                assert node.inputs == {"part": part}
                assert node.outputs["text"] in result["answer"]


async def test_a_part_of_the_frame_that_fails_is_an_error_and_one_from_the_cache_says_so(
    run, endpoint, recorder, config
):
    endpoint.faults = [Fault(Status(400), lambda request: "write the conclusion" in request.last_user)]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(frame="intro+conclusion"), cache=InMemoryCache())
    await run(graph, ASK, {})
    result = await run(graph, ASK, config)
    root = recorder.root()
    check_whole(root, result["usage"]["total"])
    introduction, conclusion = (root.find(f"write_{part}") for part in ("introduction", "conclusion"))
    assert introduction.metadata["sot_cache_hit"] is True
    assert introduction.children == []
    assert conclusion.metadata["sot_frame_status"] == "failed"
    assert "HTTP 400" in conclusion.error
    assert root.error is None


@dataclass
class Case:
    """A run, and what is to be seen of it."""

    responder: object = WRITE
    faults: list = field(default_factory=list)
    options: dict = field(default_factory=dict)
    graph: dict = field(default_factory=dict)
    given: dict = field(default_factory=lambda: ASK)
    errors: dict = field(default_factory=dict)
    """Name of a run -> a part of its error. All others have none."""


def model_router():
    return {"router": ModelRouter()}


CASES = {
    "by a skeleton": Case(),
    "directly": Case(routed("C"), graph=model_router()),
    "a given skeleton": Case(given={**ASK, "given_skeleton": ["Seed", "Soil"]}),
    "a call that is repeated": Case(
        faults=[Fault(Status(500), of_point(1), times=1)],
        errors={"write 1: Early beginnings": "Simulated error 500"},
    ),
    "a point that fails": Case(
        faults=[Fault(Status(400), of_point(2))],
        errors={"expand 2: Main causes": "HTTP 400", "write 2: Main causes": "Simulated error 400"},
    ),
    "a point that is late": Case(
        faults=[Fault(Stall(), of_point(2))],
        options={"point_timeout": 0.5},
        errors={"expand 2: Main causes": "point_timeout", "write 2: Main causes": "given up"},
    ),
    "a skeleton that is asked for again": Case(
        nonsense_first, errors={"write skeleton": "the reply is not the JSON that was asked for"}
    ),
    "JSON that is cut off": Case(
        faults=[Fault(CutOff(5), is_draft, times=1)], errors={"write skeleton": "the model's reply was cut off"}
    ),
    "a list that is asked for again": Case(
        nonsense_first,
        options={"skeleton_format": "list"},
        errors={"write skeleton as a list": "0 usable points of at least 3"},
    ),
    "points begun while the skeleton is written": Case(
        options={"dispatch": "pipelined"},
        faults=[Fault(Status(400), of_point(2))],
        errors={"expand 2: Main causes": "HTTP 400", "write 2: Main causes": "Simulated error 400"},
    ),
    "a skeleton that never ends": Case(
        SkeletonResponder(titles=[f"Title {number}" for number in range(200)], words_per_point=8),
        options={"dispatch": "pipelined"},
        faults=[Fault(Stall(after_tokens=250), is_draft)],
        errors={"write skeleton": "no longer wanted"},
    ),
    "a draft that is not wanted": Case(
        routed("C"),
        graph=model_router(),
        options={"speculative": True},
        faults=[Fault(Stall(), is_draft)],
        errors={"write skeleton": "given up"},
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_no_run_is_missing_or_doubled_and_the_tokens_add_up(case, run, endpoint, recorder, config):
    case = CASES[case]
    endpoint.responder = case.responder() if case.responder is nonsense_first else case.responder
    for fault in case.faults:
        fault.reset()
    endpoint.faults = case.faults
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(**case.options), **case.graph)
    result = await run(graph, case.given, config)
    root = recorder.root()
    check_whole(root, result["usage"]["total"])
    failed = {each.name: each.error for each in root.walk() if each.error}
    assert failed.keys() == case.errors.keys(), root.as_text()
    for name, part in case.errors.items():
        assert part in failed[name]


@pytest.mark.parametrize("letter", ["A", "C"])
async def test_the_runs_of_both_ways_are_there_and_add_up(letter, run, endpoint, recorder, config):
    endpoint.responder = routed(letter)
    graph = create_sot_graph(endpoint.chat_model(), router=ModelRouter(), options=SotOptions(speculative="both"))
    with endpoint.hold(3, lambda request: "<point>" not in request.last_user):
        result = await run(graph, ASK, config)
    root = recorder.root()
    route = root.find("route")
    assert {each.name for each in route.children} == {"choose a route", "write skeleton", "write answer"}
    assert all(each.posts == 1 and each.has_ended for each in root.walk()), root.as_text()
    assert len([each for each in root.walk() if each.kind == "llm"]) == result["usage"]["total"]["calls"]


async def test_a_reply_that_breaks_off_is_an_error_and_what_goes_on_from_it_the_next_try(
    run, endpoint, recorder, config
):
    endpoint.faults = [Fault(HangUp(after_tokens=3), of_point(2), times=1)]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(stream=True))
    result = await run(graph, ASK, config)
    point = recorder.root().find("expand 2: Main causes")
    assert [each.name for each in point.children] == ["write 2: Main causes", "write 2: Main causes, try 2"]
    assert "payload is not completed" in point.children[0].error
    assert point.children[1].metadata["sot_try"] == 2
    assert point.error is None
    check_whole(recorder.root(), result["usage"]["total"])


async def test_a_point_says_its_number_title_and_status(run, endpoint, recorder, config):
    endpoint.faults = [Fault(Status(400), of_point(2))]
    await run(create_sot_graph(endpoint.chat_model()), ASK, config)
    points = [each for each in recorder.root().children if each.name.startswith("expand")]
    about = [[each.metadata[f"sot_point_{key}"] for key in ("index", "title", "status")] for each in points]
    assert about == [[1, "Early beginnings", "ok"], [2, "Main causes", "failed"], [3, "Daily practice", "ok"]]
    assert points[0].inputs["point"]["title"] == "Early beginnings"
    assert set(points[0].outputs) == {"text", "status"}
    call = points[0].children[0]
    assert (call.metadata["sot_point_index"], call.metadata["sot_point_title"]) == (1, "Early beginnings")


async def test_what_came_from_the_cache_says_so_and_has_no_calls(run, endpoint, recorder, config):
    graph = create_sot_graph(endpoint.chat_model(), cache=InMemoryCache())
    await run(graph, ASK, {})
    result = await run(graph, ASK, config)
    root = recorder.root()
    check_whole(root, result["usage"]["total"])
    hits = [each for each in root.walk() if each.metadata.get("sot_cache_hit")]
    assert [each.name for each in hits] == [each.name for each in root.children if each.name != "join"]


async def test_as_a_subgraph_it_hangs_under_the_parents_node(ways_to_run, endpoint, recorder, config, text_snapshot):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(endpoint.chat_model()))
    builder.add_edge(START, "answer")
    graph = builder.compile(name="chat")
    for run in ways_to_run:
        await run(graph, {"messages": [("user", "How do plants grow?")]}, config)
    trees = {root.as_text() for root in recorder.roots()}
    assert len(trees) == 1
    assert trees.pop() == text_snapshot


async def test_each_part_of_a_reviewed_run_is_a_trace_with_its_question(run_whole, endpoint, recorder, config):
    graph = create_sot_graph(
        endpoint.chat_model(), options=SotOptions(review_skeleton=True), checkpointer=InMemorySaver()
    )
    config = {**config, "configurable": {"thread_id": "1"}}
    await run_whole(graph, ASK, config)
    await run_whole(graph, Command(resume={"reject": "too short"}), config)
    result = await run_whole(graph, Command(resume=True), config)
    roots = recorder.roots()
    assert [root.inputs["question"] for root in roots] == [ASK["question"]] * 3
    assert [[each.name for each in root.children][:2] for root in roots] == [
        ["draft_skeleton", "review_skeleton"],
        ["review_skeleton", "draft_skeleton"],
        ["review_skeleton", "expand 1: Early beginnings"],
    ]
    assert "waits for its review" in roots[0].children[1].error
    assert roots[2].outputs["answer"] == result["answer"]
    calls = [each for root in roots for each in root.walk() if each.kind == "llm"]
    assert len(calls) == result["usage"]["total"]["calls"]
    assert sum(each.tokens[1] for each in calls) == result["usage"]["total"]["output_tokens"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_retried_points_are_a_trace_of_their_own(is_async, endpoint, recorder, config):
    endpoint.faults = [Fault(Status(400), of_point(2), times=1)]
    graph = create_sot_graph(endpoint.chat_model(), checkpointer=InMemorySaver())
    config = {**config, "configurable": {"thread_id": "1"}}
    await graph.ainvoke(ASK, config)
    result = await aretry_failed_points(graph, config) if is_async else retry_failed_points(graph, config)
    again = recorder.roots()[1]
    assert [each.name for each in again.children] == ["expand 2: Main causes", "join"]
    assert again.inputs["question"] == ASK["question"]
    assert again.outputs["answer"] == result["answer"]
    assert again.metadata["sot_failed_points"] == 0


async def test_a_run_that_fails_has_its_reason_at_every_level(run_whole, endpoint, recorder, config):
    endpoint.faults = [Fault(Status(401))]
    with pytest.raises(SotConfigError):
        await run_whole(create_sot_graph(endpoint.chat_model()), ASK, config)
    root = recorder.root()
    assert [each.name for each in root.walk()] == ["sot_graph", "draft_skeleton", "write skeleton"]
    assert all("Simulated error 401" in each.error for each in root.walk())


async def test_points_that_raise_are_counted_on_the_run_that_fails(run_whole, endpoint, recorder, config):
    endpoint.faults = [Fault(Status(400), of_point(2))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(on_point_failure="raise"))
    with pytest.raises(ExpansionError):
        await run_whole(graph, ASK, config)
    root = recorder.root()
    assert (root.metadata["sot_points"], root.metadata["sot_failed_points"]) == (3, 1)
    assert "ExpansionError" in root.error


async def test_a_model_with_things_bound_to_it_is_traced_as_any_other(run, endpoint, recorder, config):
    model = endpoint.chat_model().bind(temperature=0.5).with_config(tags=["mine"])
    result = await run(create_sot_graph(model), ASK, config)
    root = recorder.root()
    check_whole(root, result["usage"]["total"])
    calls = [each for each in root.walk() if each.kind == "llm"]
    assert all("mine" in each.tags for each in calls)
    assert all(logged.request.raw["temperature"] == 0.5 for logged in endpoint.requests)


async def test_the_calls_of_a_model_with_fallbacks_end_too(run, endpoint, recorder, config):
    """LangChain puts a run of its own around them."""
    endpoint.faults = [Fault(Stall(), of_point(2))]
    model = endpoint.chat_model().with_fallbacks([endpoint.chat_model()])
    result = await run(create_sot_graph(model, options=SotOptions(point_timeout=0.5)), ASK, config)
    check_whole(recorder.root(), result["usage"]["total"])


class Seen(BaseCallbackHandler):
    """A callback handler that is no tracer."""

    def __init__(self):
        self.names = []
        self.ended = 0

    def on_chat_model_start(self, serialized, messages, *, name=None, **_):
        self.names.append(name)

    def on_llm_end(self, response, **_):
        self.ended += 1

    on_llm_error = on_llm_end


async def test_a_handler_that_is_no_tracer_reads_the_same_in_the_calls_and_sees_each_end(run_whole):
    seen = Seen()
    model = ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil", "Sun"]))
    await run_whole(create_sot_graph(model), ASK, {"callbacks": [seen]})
    assert sorted(seen.names) == ["write 1: Seed", "write 2: Soil", "write 3: Sun", "write skeleton"]
    assert seen.ended == 4
