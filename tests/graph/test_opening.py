"""An opening begun beside the skeleton: sent and pipelined, synchronous and asynchronous."""

import asyncio
import inspect
import threading
from contextlib import aclosing, closing, contextmanager

import pytest
from langchain_core.messages import convert_to_openai_messages
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from sot_graph import (
    AnswerReader,
    ExpansionError,
    RouteDecision,
    SotOptions,
    astream_answer,
    create_sot_graph,
    measure_run,
    retry_failed_points,
    stream_answer,
)
from sot_graph.state import SotState
from sot_graph.testing import ChatRequest, Fault, Reply, SkeletonResponder, Stall, Status
from tests.support.chat_requests import decides as decides_itself
from tests.support.virtual_time import PacedModel, run_in_virtual_time

ASK = {"question": "How do plants grow?"}
TITLES = ["Seed", "Soil", "Sun"]
TEXTS = {"opening": "Plants grow by light, water and time.", "conclusion": "So they grow."}
BODY = "\n\n".join(f"**{number}. {title}**\n\nAbout {title} and so on." for number, title in enumerate(TITLES, 1))
WHOLE = f"{TEXTS['opening']}\n\n{BODY}"


def stage_of(request):
    for part in TEXTS:
        if f"rite the {part} of the answer" in request.last_user:
            return part
    if "one point" in request.last_user:
        return "point"
    return "direct" if "Answer the question." in request.text else "skeleton"


def is_stage(*stages):
    return lambda request: stage_of(request) in stages


def stages(endpoint):
    return sorted(stage_of(one.request) for one in endpoint.requests)


def graph_of(endpoint, dispatch="send", frame="opening", options=None, **kwargs):
    write = SkeletonResponder(
        titles=TITLES, text=lambda ask: TEXTS.get(ask.stage, f"About {ask.title} and so on." if ask.title else "Rest.")
    )

    def has_opened(log):
        return all(one.outcome for one in log if stage_of(one.request) == "opening" and not one.fault)

    async def respond(request):
        if stage_of(request) == "point":  # no opening is late by chance, however busy the machine
            await endpoint.wait_for_async(has_opened)
        return write(request)

    endpoint.responder = respond
    wanted = {"min_points": 2, "dispatch": dispatch, "frame": frame, **(options or {})}
    return create_sot_graph(endpoint.chat_model(), options=SotOptions(**wanted), **kwargs)


@contextmanager
def held_until(endpoint, stage, is_ready):
    """Calls of this stage get no reply before one of the opening is ready. On a busy machine they may overtake it."""

    def release(held):
        endpoint.wait_for(lambda log: any(stage_of(one.request) == "opening" and is_ready(one) for one in log))
        held.release()

    with endpoint.hold(100, is_stage(stage)) as held:
        threading.Thread(target=release, args=(held,), daemon=True).start()
        yield


@pytest.fixture
def opening_first(endpoint):
    """No point is written before the opening is."""
    with held_until(endpoint, "point", lambda opening: opening.outcome):
        yield


@pytest.fixture
def opening_asked_for_first(endpoint):
    """There is no skeleton before the opening's call has arrived."""
    with held_until(endpoint, "skeleton", lambda _: True):
        yield


async def events_of(graph, given=ASK, config=None):
    return [event async for event in graph.astream(given, config, stream_mode="custom")]


@pytest.mark.usefixtures("opening_first")
@pytest.mark.parametrize("frame", ["opening", "opening+conclusion"])
async def test_the_opening_stands_before_the_points_for_one_call_more(run, endpoint, dispatch, frame):
    result = await run(graph_of(endpoint, dispatch, frame))
    parts = ["opening"] if frame == "opening" else ["opening", "conclusion"]
    assert result["answer"] == "\n\n".join([WHOLE, *(TEXTS[part] for part in parts[1:])])
    assert result["frame"] == {part: {"text": TEXTS[part], "status": "ok", "error": None} for part in parts}
    assert stages(endpoint) == sorted(["skeleton", "point", "point", "point", *parts])
    assert result["usage"]["total"]["calls"] == 4 + len(parts)
    assert result["usage"]["frame"]["calls"] == len(parts)
    assert [section.id for section in measure_run(result).sections] == ["opening", 1, 2, 3, *parts[1:]]


async def test_the_points_are_told_that_an_opening_says_the_short_answer_and_not_its_words(endpoint):
    await graph_of(endpoint).ainvoke(ASK)
    asked = {
        stage: [one.request for one in endpoint.requests if stage_of(one.request) == stage]
        for stage in stages(endpoint)
    }
    assert all("An opening before the points" in request.last_user for request in asked["point"])
    assert not any(TEXTS["opening"] in request.text for request in asked["point"])
    assert "opening" not in asked["skeleton"][0].text


async def test_the_opening_is_asked_for_beside_the_skeleton(run, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch)
    with endpoint.hold(2, is_stage("opening", "skeleton")) as held:
        await run(graph)
    assert held.complete


async def test_the_points_are_asked_for_while_the_opening_is_being_written(run, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch)
    with endpoint.hold(4, is_stage("opening", "point")) as held:
        result = await run(graph)
    assert held.complete
    assert [point["status"] for point in result["expansions"]] == ["ok"] * 3


async def test_the_opening_is_read_while_the_skeleton_is_being_written_and_a_reader_who_leaves_ends_both(
    endpoint, dispatch
):
    graph = graph_of(endpoint, dispatch)
    endpoint.faults = [Fault(Stall(after_tokens=2), is_stage("skeleton"))]
    read = ""
    async with aclosing(astream_answer(graph, ASK)) as chunks:
        async for text in chunks:
            read += text
            if read == TEXTS["opening"]:
                break
    outcomes = endpoint.wait_for(lambda log: [one.outcome for one in log] if all(one.outcome for one in log) else None)
    assert sorted(outcomes) == ["client_closed", "ok"]


class PausingSaver(InMemorySaver):
    """Never gets done with what stands between the skeleton and the points."""

    def __init__(self):
        super().__init__()
        self.paused = asyncio.Event()

    async def aput(self, config, checkpoint, metadata, new_versions):
        if "skeleton" in checkpoint["channel_values"]:
            self.paused.set()
            await asyncio.Event().wait()
        return await super().aput(config, checkpoint, metadata, new_versions)


async def leave_a_stream(graph, _endpoint):
    async with aclosing(graph.astream(ASK, stream_mode="updates")) as parts:
        await anext(parts)


def skeleton_is_there(log):
    return any(one.outcome == "ok" for one in log if stage_of(one.request) == "skeleton")


async def leave_an_answer(graph, endpoint):
    async with aclosing(astream_answer(graph, ASK)) as chunks:
        await anext(chunks)
        await endpoint.wait_for_async(skeleton_is_there)


async def leave_a_parent(graph, _endpoint):
    parent = StateGraph(SotState).add_node("answer", graph).add_edge(START, "answer").compile()
    async with aclosing(parent.astream(ASK, stream_mode="updates", subgraphs=True)) as parts:
        await anext(parts)


async def cancel_a_call(graph, _endpoint):
    saver = PausingSaver()
    graph.checkpointer = saver
    running = asyncio.create_task(graph.ainvoke(ASK, {"configurable": {"thread_id": "1"}}, durability="sync"))
    await saver.paused.wait()
    running.cancel()
    await asyncio.wait({running})


async def interrupt_a_call(graph, _endpoint):
    graph.checkpointer = InMemorySaver()
    await graph.ainvoke(ASK, {"configurable": {"thread_id": "1"}}, interrupt_before=["expand_point"])


def close_a_synchronous_stream(graph, _endpoint):
    with closing(graph.stream(ASK, stream_mode="updates")) as parts:
        next(parts)


def close_a_synchronous_answer(graph, endpoint):
    with closing(stream_answer(graph, ASK)) as chunks:
        next(chunks)
        endpoint.wait_for(skeleton_is_there)


BETWEEN_STEPS = [
    leave_a_stream,
    leave_an_answer,
    leave_a_parent,
    cancel_a_call,
    interrupt_a_call,
    close_a_synchronous_stream,
    close_a_synchronous_answer,
]


@pytest.mark.usefixtures("opening_asked_for_first")
@pytest.mark.parametrize("leave", BETWEEN_STEPS, ids=lambda leave: leave.__name__)
async def test_who_leaves_between_the_skeleton_and_the_points_ends_the_openings_call(endpoint, leave):
    graph = graph_of(endpoint)
    endpoint.faults = [Fault(Stall(after_tokens=3), is_stage("opening"))]
    if inspect.iscoroutinefunction(leave):
        await leave(graph, endpoint)
    else:
        await asyncio.to_thread(leave, graph, endpoint)
    await endpoint.wait_for_async(lambda log: all(one.outcome for one in log), timeout=1.0)
    outcomes = {stage_of(one.request): one.outcome for one in endpoint.requests}
    assert (outcomes["skeleton"], outcomes["opening"]) == ("ok", "client_closed")


async def test_a_reader_who_leaves_in_mid_opening_ends_its_call(endpoint, dispatch):
    graph = graph_of(endpoint, dispatch)
    endpoint.faults = [Fault(Stall(after_tokens=3), is_stage("opening", "point"))]

    async def read():
        async for _ in astream_answer(graph, ASK):
            pass

    reading = asyncio.create_task(read())
    await endpoint.wait_for_async(lambda log: len(log) == 5 or None)  # the points are being written, too
    reading.cancel()
    await asyncio.wait({reading})
    outcomes = endpoint.wait_for(lambda log: [one.outcome for one in log] if all(one.outcome for one in log) else None)
    assert "client_closed" in outcomes


@pytest.mark.usefixtures("opening_first")
async def test_the_chunks_are_the_answer_and_say_the_opening_first(chunks_of, endpoint, dispatch):
    chunks = await chunks_of(graph_of(endpoint, dispatch))
    assert "".join(chunks) == WHOLE
    assert TEXTS["opening"].startswith(chunks[0])


@pytest.mark.usefixtures("opening_first")
async def test_messages_hear_one_message_that_begins_with_the_opening(endpoint, dispatch):
    graph = graph_of(endpoint, dispatch)
    heard = [message async for message, _ in graph.astream(ASK, stream_mode="messages")]
    assert "".join(message.text for message in heard) == WHOLE
    assert len({message.id for message in heard}) == 1


async def test_an_opening_that_fails_is_left_out(run, endpoint, dispatch, caplog):
    graph = graph_of(endpoint, dispatch, options={"max_retries": 0})
    endpoint.faults = [Fault(Status(500), is_stage("opening"))]
    result = await run(graph)
    assert result["answer"] == BODY
    assert result["frame"]["opening"]["status"] == "failed"


async def test_an_opening_that_is_late_holds_up_nobody(chunks_of, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch)
    endpoint.faults = [Fault(Stall(), is_stage("opening"))]
    assert "".join(await chunks_of(graph)) == BODY
    (opening,) = [one for one in endpoint.requests if stage_of(one.request) == "opening"]
    endpoint.wait_for(lambda log: opening.outcome == "client_closed")


async def test_a_late_opening_is_timed_out_also_where_nobody_reads(run, endpoint):
    graph = graph_of(endpoint)
    endpoint.faults = [Fault(Stall(), is_stage("opening"))]
    result = await run(graph)
    assert result["answer"] == BODY
    assert result["frame"]["opening"]["status"] == "timed_out"
    assert result["usage"]["frame"]["calls"] == 1


def decides(route, endpoint):
    """A router that decides when the opening is there."""

    async def router(_question, _history):
        written = lambda log: [one for one in log if stage_of(one.request) == "opening" and one.outcome]  # noqa: E731
        await asyncio.to_thread(endpoint.wait_for, written)
        return RouteDecision(route, "as asked")

    return router


async def test_a_router_that_decides_for_a_direct_answer_drops_the_opening_unheard(endpoint):
    graph = graph_of(endpoint, options={"speculative": True}, router=decides("direct", endpoint))
    events = await events_of(graph)
    assert not [event for event in events if event["type"].startswith("sot.frame")]
    result = await graph.ainvoke(ASK)
    assert result["answer"] == "Rest."
    assert result["frame"] == {}
    assert result["usage"]["frame"]["calls"] == 1  # which is what it costs


class SlowlyClosedModel(PacedModel):
    """Takes a moment until a call that is cancelled has ended, as a connection does."""

    async def _astream(self, *args, **kwargs):
        try:
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            raise


def test_the_usage_counts_the_tokens_of_an_opening_that_a_router_ended():
    responder = SkeletonResponder(titles=TITLES, text=lambda ask: "Some words. " * 50)
    model = SlowlyClosedModel(
        lambda messages: responder(ChatRequest({"messages": convert_to_openai_messages(messages)})).text
    )

    async def router(_question, _history):
        await asyncio.sleep(1.0)
        return "direct"

    options = SotOptions(speculative=True, frame="opening", stream=True)
    usage = run_in_virtual_time(create_sot_graph(model, router=router, options=options).ainvoke(ASK))["usage"]
    assert usage["frame"]["input_tokens"] > 0
    assert usage["frame"]["output_tokens"] > 0


async def test_a_router_that_decides_for_the_skeleton_has_the_opening_shown(run, endpoint):
    graph = graph_of(endpoint, options={"speculative": True}, router=decides("skeleton", endpoint))
    events = await events_of(graph)
    reader = AnswerReader()
    assert "".join(map(reader.feed, events)) == WHOLE
    kinds = [event["type"] for event in events]
    assert kinds.index("sot.route") < kinds.index("sot.frame.start")
    endpoint.reset()
    assert (await run(graph))["answer"] == WHOLE
    assert stages(endpoint) == ["opening", "point", "point", "point", "skeleton"]


async def test_a_draft_that_answers_drops_the_opening_unheard(chunks_of, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch, router="draft")
    respond, short = endpoint.responder, "It is 12 degrees in Oslo, so take a coat with you. It may rain later."
    endpoint.responder = lambda request: Reply(short) if decides_itself(request) else respond(request)
    assert "".join(await chunks_of(graph)) == short


async def test_a_draft_that_is_a_skeleton_has_the_opening_shown(endpoint, dispatch):
    graph, read = graph_of(endpoint, dispatch, router="draft"), ""
    with endpoint.hold(4, is_stage("point")) as held:  # of three: no point is written before the opening is read
        async for text in astream_answer(graph, ASK):
            read += text
            if read.startswith(TEXTS["opening"]):
                held.release()
    assert read == WHOLE


async def test_where_no_skeleton_can_be_had_the_direct_answer_goes_on_after_the_opening(chunks_of, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch)
    respond = endpoint.responder
    endpoint.responder = lambda request: Reply("") if stage_of(request) == "skeleton" else respond(request)
    assert "".join(await chunks_of(graph)) == f"{TEXTS['opening']}\n\nRest."
    (direct,) = [one.request for one in endpoint.requests if stage_of(one.request) == "direct"]
    assert direct.messages[-2]["content"] == TEXTS["opening"]


async def test_failed_openings_are_retried_and_finished_ones_are_not(run, endpoint, dispatch):
    graph = graph_of(endpoint, dispatch, options={"max_retries": 0}, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    endpoint.faults = [Fault(Status(500), is_stage("opening"))]
    assert (await run(graph, ASK, config))["answer"] == BODY
    endpoint.faults = []
    endpoint.reset()
    assert (await asyncio.to_thread(retry_failed_points, graph, config))["answer"] == WHOLE
    assert stages(endpoint) == ["opening"]


async def test_a_resumed_run_asks_for_no_opening_again(endpoint, dispatch):
    options = {"max_retries": 0, "on_point_failure": "raise"}
    graph = graph_of(endpoint, dispatch, options=options, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    endpoint.faults = [Fault(Status(500), lambda request: "<point>2. " in request.last_user)]
    with pytest.raises(ExpansionError):
        await graph.ainvoke(ASK, config)
    endpoint.faults = []
    endpoint.reset()
    assert (await graph.ainvoke(None, config))["answer"] == WHOLE
    assert stages(endpoint) == ["point"]


async def test_where_the_draft_decides_a_resumed_run_asks_for_no_opening_again(endpoint):
    options = {"max_retries": 0, "on_point_failure": "raise"}
    graph = graph_of(endpoint, "pipelined", options=options, router="draft", checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    endpoint.faults = [Fault(Stall(), lambda request: "<point>2. " in request.last_user)]
    ended = asyncio.Event()

    async def follow():
        awaited = {"opening", 1, 3}
        async for event in graph.astream(ASK, config, stream_mode="custom"):
            if event["type"] in ("sot.point.end", "sot.frame.end"):
                awaited.discard(event.get("part", event.get("index")))
            if not awaited:
                ended.set()

    running = asyncio.create_task(follow())
    await ended.wait()
    for _ in range(200):  # until LangGraph has kept what is there
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    endpoint.faults = []
    endpoint.reset()
    assert (await graph.ainvoke(None, config))["answer"] == WHOLE
    assert stages(endpoint) == ["point"]


async def test_before_a_review_no_opening_is_written(endpoint):
    graph = graph_of(endpoint, options={"review_skeleton": True}, checkpointer=InMemorySaver())
    await graph.ainvoke(ASK, {"configurable": {"thread_id": "1"}})
    assert stages(endpoint) == ["skeleton"]


async def read_seconds(pieces):
    """When the first 40 characters, and when all of them, could be read: by the running loop's clock."""
    now = asyncio.get_running_loop().time
    begun, length, first = now(), 0, None
    async for piece in pieces:
        length += len(piece)
        if length >= 40 and first is None:
            first = now() - begun
    return first, now() - begun


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
def test_the_first_words_come_as_soon_as_a_direct_answers_and_the_last_no_later_than_without_an_opening(dispatch):
    """0.4 s to the first token, 60 tokens/s, by a clock that counts nothing but the model's time."""
    responder = SkeletonResponder(points=8, tokens_per_point=60)
    model = PacedModel(lambda messages: responder(ChatRequest({"messages": convert_to_openai_messages(messages)})).text)

    async def direct():
        return await read_seconds(chunk.text async for chunk in model.astream(ASK["question"]))

    async def graph(frame):
        options = SotOptions(frame=frame, dispatch=dispatch)
        return await read_seconds(astream_answer(create_sot_graph(model, options=options), ASK))

    (first_direct, _), (_, without), (first, whole) = map(
        run_in_virtual_time, (direct(), graph("none"), graph("opening"))
    )
    assert first_direct == pytest.approx(0.55)
    assert first <= 1.1 * first_direct
    assert whole <= without + 0.01
