"""Only what failed is written again."""

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import get_runtime
from langgraph.types import Command

from sot_graph import (
    ExpansionError,
    SotConfigError,
    SotError,
    SotOptions,
    aretry_failed_points,
    create_sot_graph,
    retry_failed_points,
)
from sot_graph.testing import Fault, SkeletonResponder, Status

ASK = {"question": "How do plants grow?"}
THREAD = {"configurable": {"thread_id": "1"}}


class Grounded(MessagesState):
    documents: list


@pytest.fixture(params=["sync", "async"])
def retry(request):
    async def call(graph, config=THREAD, **kwargs):
        if request.param == "sync":
            return retry_failed_points(graph, config, **kwargs)
        return await aretry_failed_points(graph, config, **kwargs)

    return call


@pytest.fixture
def broken(endpoint):
    """Points 2 and 5 fail until `endpoint.faults` is emptied."""
    endpoint.faults = [
        Fault(Status(400), lambda request: any(f"<point>{number}. " in request.last_user for number in (2, 5)))
    ]
    return endpoint


def heal(endpoint):
    endpoint.faults = []
    endpoint.reset()


def requested_points(endpoint):
    return sorted(int(logged.request.last_user.split("<point>")[1].split(".")[0]) for logged in endpoint.requests)


@pytest.mark.parametrize("on_point_failure", ["mark", "skip", "raise"])
async def test_a_retry_writes_the_failed_points_alone_and_replaces_the_message(retry, broken, on_point_failure):
    options = SotOptions(on_point_failure=on_point_failure)
    graph = create_sot_graph(broken.chat_model(), options=options, checkpointer=InMemorySaver())
    if on_point_failure == "raise":
        with pytest.raises(ExpansionError) as caught:
            await graph.ainvoke(ASK, THREAD)
        assert [expansion["index"] for expansion in caught.value.failed] == [2, 5]
    else:
        first = await graph.ainvoke(ASK, THREAD)
        assert [expansion["status"] for expansion in first["expansions"]].count("failed") == 2
    heal(broken)
    result = await retry(graph)
    assert requested_points(broken) == [2, 5]
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}
    assert [message.text for message in result["messages"]] == [ASK["question"], result["answer"]]
    assert result["usage"]["expansion"]["calls"] == 10


async def test_a_retry_of_a_whole_answer_requests_nothing(retry, endpoint):
    graph = create_sot_graph(endpoint.chat_model(), checkpointer=InMemorySaver())
    first = await graph.ainvoke(ASK, THREAD)
    endpoint.reset()
    assert (await retry(graph))["answer"] == first["answer"]
    assert endpoint.requests == []


async def test_a_point_that_fails_again_stays_failed(retry, broken):
    graph = create_sot_graph(broken.chat_model(), checkpointer=InMemorySaver())
    first = await graph.ainvoke(ASK, THREAD)
    second = await retry(graph)
    assert second["answer"] == first["answer"]
    assert [e["index"] for e in second["expansions"] if e["status"] == "failed"] == [2, 5]


async def test_a_childs_failed_points_are_retried_through_its_parent(retry, broken):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(broken.chat_model(), checkpointer=True))
    builder.add_edge(START, "answer")
    parent = builder.compile(checkpointer=InMemorySaver())
    await parent.ainvoke({"messages": [HumanMessage("Hello?")]}, THREAD)
    first = await parent.ainvoke({"messages": [HumanMessage("How do plants grow?")]}, THREAD)
    assert "could not be written" in first["messages"][-1].text
    heal(broken)
    result = await retry(parent)
    assert requested_points(broken) == [2, 5]
    total = result["usage"]["total"]
    assert total["calls"] == 1 + 8 + 2
    assert result["messages"][-1].usage_metadata["output_tokens"] == total["output_tokens"]
    assert len(result["timings"]["points"]) == 8
    assert result["timings"]["skeleton"]["end"] > 0
    after = (await parent.aget_state(THREAD)).values["messages"]
    assert [message.text for message in after][-2:] == ["How do plants grow?", result["answer"]]
    assert len(after) == 4
    assert "could not be written" not in after[-1].text
    again = await retry(parent)
    assert (again["answer"], again["usage"]) == (result["answer"], result["usage"])
    assert requested_points(broken) == [2, 5]


@pytest.mark.parametrize("is_child", [False, True])
async def test_a_retry_asks_for_the_rest_alone_and_its_expander_sees_what_a_run_sees(retry, endpoint, is_child):
    """And the parent's thread, whose run was over, stays so: the nodes after this one don't run again."""
    failing, asked, ran = {2, 5}, [], []

    def write(given):
        index = given["point"]["index"]
        seen = get_config()["configurable"]["user_id"], (get_runtime().context or {}).get("user", "ada")
        asked.append((index, *seen))
        if index in failing:
            raise ValueError
        return "A text."

    thread = {"configurable": {"thread_id": "1", "user_id": "ada"}}
    memory = InMemorySaver()
    options = SotOptions(on_point_failure="raise")
    graph = create_sot_graph(
        endpoint.chat_model(), expander=write, options=options, checkpointer=True if is_child else memory
    )
    about = {}
    if is_child:
        builder = StateGraph(MessagesState, context_schema=dict)
        builder.add_node("answer", graph)
        builder.add_node("after", lambda state: ran.append(state["messages"][-1].text) or {})
        builder.add_edge(START, "answer")
        builder.add_edge("answer", "after")
        graph, about = builder.compile(checkpointer=memory), {"context": {"user": "ada"}}
    with pytest.raises(ExpansionError):
        await graph.ainvoke({"messages": [HumanMessage("How do plants grow?")]}, thread, **about)
    for still_failing, expected in (({5}, {2, 5}), (set(), {5})):
        failing = still_failing
        asked.clear()
        try:
            result = await retry(graph, thread, **about)
        except ExpansionError:
            assert still_failing
        assert set(asked) == {(index, "ada", "ada") for index in expected}
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}
    if is_child:  # its run had ended within the node
        assert (await graph.aget_state(thread)).next == ("after",)
        await graph.ainvoke(None, thread, **about)
    await retry(graph, thread, **about)
    assert (await graph.aget_state(thread)).next == ()
    assert ran == [result["answer"]] * is_child


async def test_an_introduction_is_written_once_however_often_a_childs_points_fail_again(retry, broken):
    options = SotOptions(on_point_failure="raise", frame="intro")
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(broken.chat_model(), options=options, checkpointer=True))
    builder.add_edge(START, "answer")
    parent = builder.compile(checkpointer=InMemorySaver())
    with pytest.raises(ExpansionError) as caught:
        await parent.ainvoke({"messages": [HumanMessage("How do plants grow?")]}, THREAD)
    assert caught.value.frame["introduction"]["status"] == "ok"
    for faults in (broken.faults, []):
        broken.faults = faults
        broken.reset()
        try:
            result = await retry(parent)
        except ExpansionError:
            assert faults
        assert requested_points(broken) == [2, 5]
    assert result["answer"].startswith(caught.value.frame["introduction"]["text"])


async def test_two_levels_deep_the_failed_points_are_retried_too(retry, broken):
    graph = create_sot_graph(broken.chat_model(), checkpointer=True)
    for name in ("team", "company"):
        builder = StateGraph(MessagesState)
        builder.add_node(name, graph)
        builder.add_edge(START, name)
        graph = builder.compile(checkpointer=InMemorySaver() if name == "company" else None)
    before = await graph.ainvoke({"messages": [HumanMessage("How do plants grow?")]}, THREAD)
    heal(broken)
    result = await retry(graph)
    assert requested_points(broken) == [2, 5]
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}
    after = (await graph.aget_state(THREAD)).values["messages"]
    assert [message.id for message in after] == [message.id for message in before["messages"]]
    assert after[-1].text == result["answer"]


async def test_a_child_that_keeps_nothing_says_what_to_do_instead(retry, broken):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(broken.chat_model()))
    builder.add_edge(START, "answer")
    parent = builder.compile(checkpointer=InMemorySaver())
    await parent.ainvoke({"messages": [HumanMessage("Why?")]}, THREAD)
    with pytest.raises(SotConfigError, match=r"checkpointer=True.*given_expansions"):
        await retry(parent)


async def test_a_child_without_a_checkpointer_is_told_how_to_get_one(retry, endpoint):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(endpoint.chat_model(), checkpointer=False))
    builder.add_edge(START, "answer")
    parent = builder.compile(checkpointer=InMemorySaver())
    with pytest.raises(SotConfigError, match="a parent of one with checkpointer=True"):
        await retry(parent)


async def test_without_a_checkpointer_or_a_thread_it_says_what_to_do(retry, endpoint):
    with pytest.raises(SotConfigError, match="given_expansions"):
        await retry(create_sot_graph(endpoint.chat_model()))
    kept = create_sot_graph(endpoint.chat_model(), checkpointer=InMemorySaver())
    with pytest.raises(SotConfigError, match="thread_id"):
        await retry(kept, {})
    with pytest.raises(SotConfigError, match="is its thread_id right"):
        await retry(kept)
    with pytest.raises(SotConfigError, match="thread_id"):
        await retry(kept, None)
    with pytest.raises(SotConfigError, match="not str"):
        await retry("graph")


async def test_a_node_whose_skeleton_was_approved_is_retried_without_another_review(retry, broken):
    options = SotOptions(review_skeleton=True)
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(broken.chat_model(), options=options, checkpointer=True))
    builder.add_edge(START, "answer")
    parent = builder.compile(checkpointer=InMemorySaver())
    await parent.ainvoke({"messages": [("user", ASK["question"])]}, THREAD)
    await parent.ainvoke(Command(resume=True), THREAD)
    heal(broken)
    result = await retry(parent)
    assert requested_points(broken) == [2, 5]
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}
    state = await parent.aget_state(THREAD)
    assert [message.type for message in state.values["messages"]] == ["human", "ai"]
    assert state.values["messages"][-1].text == result["answer"]
    assert not state.next


async def test_a_review_that_is_open_comes_first(retry, endpoint):
    options = SotOptions(review_skeleton=True)
    graph = create_sot_graph(endpoint.chat_model(), options=options, checkpointer=InMemorySaver())
    await graph.ainvoke(ASK, THREAD)
    with pytest.raises(SotConfigError, match=r"review.*Command\(resume"):
        await retry(graph)
    assert (await graph.aget_state(THREAD)).next == ("review_skeleton",)
    result = await graph.ainvoke(Command(resume=True), THREAD)
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}


async def test_a_newer_question_that_died_while_it_was_drafted_is_not_answered_by_an_older_one(retry, broken):
    graph = create_sot_graph(broken.chat_model(), checkpointer=InMemorySaver())
    await graph.ainvoke(ASK, THREAD)
    broken.faults = [Fault(Status(400))]
    with pytest.raises(SotError):
        await graph.ainvoke({"question": "And animals?"}, THREAD)
    heal(broken)
    with pytest.raises(SotConfigError, match="last question has no skeleton yet"):
        await retry(graph)
    assert broken.requests == []
    assert "And animals?" in str((await graph.ainvoke(None, THREAD))["messages"])


async def test_a_childs_kept_state_has_the_sources_and_the_ending_of_the_retry(retry, endpoint):
    is_second = lambda request: "<point>2. " in request.last_user  # noqa: E731
    endpoint.responder = SkeletonResponder(titles=["Seed", "Soil"], text=lambda ask: f"{ask.title} [{ask.number}].")
    endpoint.faults = [Fault(Status(400), is_second)]
    child = create_sot_graph(endpoint.chat_model(), options=SotOptions(min_points=2), checkpointer=True)
    parent = StateGraph(Grounded).add_node("answer", child).add_edge(START, "answer").compile(InMemorySaver())
    await parent.ainvoke({"messages": [HumanMessage("How do plants grow?")], "documents": ["Seeds.", "Soil."]}, THREAD)
    heal(endpoint)
    result = await retry(parent)
    kept = (await parent.aget_state({"configurable": {**THREAD["configurable"], "checkpoint_ns": "answer"}})).values
    assert [source["number"] for source in result["sources"]] == [1, 2]
    assert [kept[key] for key in ("answer", "sources")] == [result[key] for key in ("answer", "sources")]
