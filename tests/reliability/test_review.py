"""Somebody looks at the skeleton before anything is written."""

import asyncio
import json

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import TypeAdapter

from sot_graph import SkeletonError, SotConfigError, SotOptions, astream_answer, create_sot_graph, stream_answer
from sot_graph.testing import Fault, SkeletonResponder, Status

ASK = {"question": "How do plants grow?"}
THREAD = {"configurable": {"thread_id": "1"}}
TITLES = ["Seed", "Soil", "Sun"]


def stage_of(request):
    return "point" if "one point" in request.last_user else "skeleton"


def stages(endpoint):
    return [stage_of(logged.request) for logged in endpoint.requests]


@pytest.fixture
def reviewed(endpoint):
    endpoint.responder = SkeletonResponder(titles=TITLES)
    return create_sot_graph(
        endpoint.chat_model(), options=SotOptions(review_skeleton=True), checkpointer=InMemorySaver()
    )


def titles_of(result):
    return [point["title"] for point in result["skeleton"]]


def check_written(result, titles):
    assert titles_of(result) == titles
    assert [point["index"] for point in result["skeleton"]] == list(range(1, len(titles) + 1))
    assert [expansion["title"] for expansion in result["expansions"]] == titles
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}


async def test_the_run_stops_at_the_skeleton_and_shows_it(run, endpoint, reviewed):
    result = await run(reviewed, ASK, THREAD)
    (stop,) = result["__interrupt__"]
    assert stop.value["type"] == "sot.review"
    assert stop.value["question"] == ASK["question"]
    assert [point["title"] for point in stop.value["points"]] == TITLES
    assert "Command(resume=...)" in stop.value["how"]
    assert stages(endpoint) == ["skeleton"]


APPROVALS = [True, "approve", " OK ", {"approve": True}, TITLES]
EDITS = {
    "edited": ["Seed", "Good soil", "Sun"],
    "reordered": ["Sun", "Seed", "Soil"],
    "added": ["Seed", "Soil", "Sun", "Water"],
    "removed": ["Sun"],
}


@pytest.mark.parametrize("answer", APPROVALS, ids=repr)
async def test_an_approval_writes_it(run, endpoint, reviewed, answer):
    await run(reviewed, ASK, THREAD)
    result = await run(reviewed, Command(resume=answer), THREAD)
    check_written(result, TITLES)
    assert result["route_reason"] == "the skeleton was approved"
    assert stages(endpoint) == ["skeleton"] + ["point"] * 3


@pytest.mark.parametrize("titles", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("form", ["titles", "points", "mapping"])
async def test_an_edited_skeleton_is_written_as_it_was_edited(run, endpoint, reviewed, titles, form):
    await run(reviewed, ASK, THREAD)
    points = [{"index": 7, "title": title} for title in titles]  # numbers of others are never used
    answer = {"titles": titles, "points": points, "mapping": {"points": titles}}[form]
    result = await run(reviewed, Command(resume=answer), THREAD)
    check_written(result, titles)
    assert stages(endpoint) == ["skeleton"] + ["point"] * len(titles)
    shown = endpoint.requests[-1].request.messages[-2]["content"]
    assert [title for title in [*titles, *TITLES] if title not in shown] == [
        t for t in TITLES if t not in titles and t not in shown
    ]


def decided(kind, **more):
    """A resume value as LangChain's middleware for such requests takes it, and chat pages send it."""
    return {"decisions": [{"type": kind, **more}]}


def edited(titles):
    return decided("edit", edited_action={"name": "write_answer", "args": {"titles": titles}})


async def test_a_chat_page_finds_its_own_form_of_a_request(run, reviewed):
    types = pytest.importorskip("langchain.agents.middleware.human_in_the_loop")
    (stop,) = (await run(reviewed, ASK, THREAD))["__interrupt__"]
    asked = TypeAdapter(types.HITLRequest).validate_python(stop.value)
    (request,) = asked["action_requests"]
    assert request["args"] == {"titles": "Seed\nSoil\nSun"}
    assert ASK["question"] in request["description"]
    (config,) = asked["review_configs"]
    assert config == {"action_name": request["name"], "allowed_decisions": ["approve", "edit", "reject"]}
    assert stop.value["message"]


@pytest.mark.parametrize(
    ("answer", "titles"),
    [
        (decided("approve"), TITLES),
        (json.dumps(decided("approve")), TITLES),
        (edited("Seed\n\nRain\n"), ["Seed", "Rain"]),
        (edited(["Seed", "Rain"]), ["Seed", "Rain"]),
        (edited('["Seed", "Rain"]'), ["Seed", "Rain"]),
        ('["Seed", "Rain"]', ["Seed", "Rain"]),
        ('{"points": ["Seed", {"title": "Rain"}]}', ["Seed", "Rain"]),
    ],
    ids=repr,
)
async def test_the_answers_of_chat_pages_are_understood(run, endpoint, reviewed, answer, titles):
    await run(reviewed, ASK, THREAD)
    check_written(await run(reviewed, Command(resume=answer), THREAD), titles)
    assert stages(endpoint) == ["skeleton"] + ["point"] * len(titles)


@pytest.mark.parametrize(("more", "told"), [({"message": "More water."}, "More water."), ({}, "Draft another")])
async def test_a_chat_page_may_reject_with_or_without_a_word(run, endpoint, reviewed, more, told):
    await run(reviewed, ASK, THREAD)
    await run(reviewed, Command(resume=decided("reject", **more)), THREAD)
    assert told in endpoint.requests[-1].request.last_user


async def test_a_rejection_drafts_again_with_its_comment(run, endpoint, reviewed):
    await run(reviewed, ASK, THREAD)
    endpoint.responder = SkeletonResponder(titles=["Water", "Light", "Air", "Care"])
    again = await run(reviewed, Command(resume={"reject": "More about water! </comment> {x}"}), THREAD)
    assert [point["title"] for point in again["__interrupt__"][0].value["points"]] == ["Water", "Light", "Air", "Care"]
    last = endpoint.requests[-1].request
    assert "<comment>\nMore about water! &lt;/comment> {x}\n</comment>" in last.last_user
    assert "Seed" in last.messages[-2]["content"]
    result = await run(reviewed, Command(resume=True), THREAD)
    check_written(result, ["Water", "Light", "Air", "Care"])
    assert stages(endpoint) == ["skeleton"] * 2 + ["point"] * 4
    assert result["usage"]["skeleton"]["calls"] == 2
    assert all("More about water" not in logged.request.text for logged in endpoint.requests[2:])


@pytest.fixture
def rejected(run, endpoint, reviewed):
    """A thread whose skeleton was rejected, and could not be drafted again."""

    async def reject():
        await run(reviewed, ASK, THREAD)
        endpoint.faults = [Fault(Status(400))]
        with pytest.raises(SkeletonError):
            await run(reviewed, Command(resume={"reject": "More about water!"}), THREAD)
        endpoint.faults = []

    return reject


async def test_a_new_question_after_a_redraft_that_failed_is_the_one_that_is_drafted(run, endpoint, reviewed, rejected):
    await rejected()
    again = await run(reviewed, {"question": "How do fish swim?"}, THREAD)
    assert again["__interrupt__"][0].value["question"] == "How do fish swim?"
    assert "More about water!" not in endpoint.requests[-1].request.text
    check_written(await run(reviewed, Command(resume=True), THREAD), TITLES)


async def test_a_redraft_that_failed_is_resumed_with_its_comment(run, endpoint, reviewed, rejected):
    await rejected()
    again = await run(reviewed, None, THREAD)
    assert again["__interrupt__"][0].value["question"] == ASK["question"]
    assert "More about water!" in endpoint.requests[-1].request.last_user
    check_written(await run(reviewed, Command(resume=True), THREAD), TITLES)


@pytest.mark.parametrize(
    "nonsense",
    [
        decided("edit"),
        decided("respond"),
        {"decisions": []},
        edited(""),
        "[",
        "",
        "maybe",
        42,
        [],
        [1, 2],
        [""],
        {"reject": ""},
        {"points": []},
    ],
    ids=repr,
)
async def test_nonsense_is_refused_and_a_good_answer_still_works(run, endpoint, reviewed, nonsense):
    await run(reviewed, ASK, THREAD)
    with pytest.raises(SotConfigError):
        await run(reviewed, Command(resume=nonsense), THREAD)
    assert stages(endpoint) == ["skeleton"]
    check_written(await run(reviewed, Command(resume=True), THREAD), TITLES)
    assert stages(endpoint) == ["skeleton"] + ["point"] * 3


async def test_nonsense_twice_is_refused_twice(run, endpoint, reviewed):
    await run(reviewed, ASK, THREAD)
    for nonsense in ("maybe", "perhaps"):
        with pytest.raises(SotConfigError, match="says nothing about the skeleton"):
            await run(reviewed, Command(resume=nonsense), THREAD)
    check_written(await run(reviewed, Command(resume=["Sun"]), THREAD), ["Sun"])


async def test_without_a_checkpointer_it_is_an_error_before_anything_is_requested(run, endpoint):
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(review_skeleton=True))
    with pytest.raises(SotConfigError, match="checkpointer"):
        await run(graph, ASK)
    assert endpoint.requests == []


@pytest.mark.parametrize("answer", [True, ["Sun", "Rain"]], ids=repr)
async def test_it_works_as_a_subgraph(run, endpoint, answer):
    endpoint.responder = SkeletonResponder(titles=TITLES)
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(endpoint.chat_model(), options=SotOptions(review_skeleton=True)))
    builder.add_edge(START, "answer")
    parent = builder.compile(checkpointer=InMemorySaver())
    stopped = await run(parent, {"messages": [HumanMessage(ASK["question"])]}, THREAD)
    assert stopped["__interrupt__"][0].value["type"] == "sot.review"
    assert stages(endpoint) == ["skeleton"]
    with pytest.raises(SotConfigError):
        await run(parent, Command(resume="maybe"), THREAD)
    result = await run(parent, Command(resume=answer), THREAD)
    titles = TITLES if answer is True else answer
    assert [f"**{number}. {title}**" in result["messages"][-1].text for number, title in enumerate(titles, 1)]
    assert len(result["messages"]) == 2
    assert stages(endpoint) == ["skeleton"] + ["point"] * len(titles)


def test_it_waits_in_a_database_for_another_process(endpoint, tmp_path):
    endpoint.responder = SkeletonResponder(titles=TITLES)
    path, options = str(tmp_path / "threads.sqlite"), SotOptions(review_skeleton=True)
    with SqliteSaver.from_conn_string(path) as saver:
        create_sot_graph(endpoint.chat_model(), options=options, checkpointer=saver).invoke(ASK, THREAD)
    with SqliteSaver.from_conn_string(path) as saver:
        graph = create_sot_graph(endpoint.chat_model(), options=options, checkpointer=saver)
        check_written(graph.invoke(Command(resume=True), THREAD), TITLES)
    assert stages(endpoint) == ["skeleton"] + ["point"] * 3


@pytest.mark.parametrize("way", ["stream_answer", "astream_answer"])
async def test_nothing_is_shown_before_the_approval_and_everything_after_it(endpoint, reviewed, way):
    async def chunks_of(given):
        if way == "stream_answer":
            return await asyncio.to_thread(lambda: list(stream_answer(reviewed, given, THREAD)))
        return [text async for text in astream_answer(reviewed, given, THREAD)]

    assert await chunks_of(ASK) == []
    chunks = await chunks_of(Command(resume=["Sun", "Soil"]))
    assert "".join(chunks) == reviewed.get_state(THREAD).values["answer"]
    assert chunks[0].startswith("**1. Sun**")
    assert len(chunks) > 2


async def test_a_rejected_skeleton_takes_given_texts_along_by_their_titles_only(run, endpoint, reviewed):
    given = [{"index": 1, "title": "Moon", "text": "Of the moon.", "status": "ok", "error": None}]
    detail = "the retriever found nothing for it"
    given.append(
        {"index": 2, "title": "Seed", "text": "Of seeds.", "status": "ok", "error": None, "detail": f"{detail}\x00"}
    )
    await run(reviewed, {**ASK, "given_expansions": given}, THREAD)
    await run(reviewed, Command(resume={"reject": "Nothing about the moon."}), THREAD)
    result = await run(reviewed, Command(resume=True), THREAD)
    check_written(result, TITLES)
    texts = {expansion["title"]: expansion["text"] for expansion in result["expansions"]}
    assert texts["Seed"] == "Of seeds."
    assert {each["title"]: each["detail"] for each in result["expansions"] if "detail" in each} == {"Seed": detail}
    assert "Of the moon." not in result["answer"]


async def test_what_a_given_text_had_to_do_without_is_kept_where_the_skeleton_is_edited(run, reviewed):
    given = [{"index": 1, "title": "Seed", "text": "A.", "status": "ok", "error": None, "detail": "nothing was found"}]
    await run(reviewed, {**ASK, "given_expansions": given}, THREAD)
    result = await run(reviewed, Command(resume=["Sun", "Seed"]), THREAD)
    assert [each.get("detail") for each in result["expansions"]] == [None, "nothing was found"]
