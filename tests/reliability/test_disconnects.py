"""A web client goes away: the server cancels the request again and again, and nothing of the run goes on."""

import asyncio
import signal
import threading
from contextlib import aclosing, asynccontextmanager, closing, contextmanager

import anyio
import httpx
import pytest
import uvicorn
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from sse_starlette import EventSourceResponse
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from sot_graph import (
    SotConfigError,
    SotOptions,
    aretry_failed_points,
    astream_answer,
    cancelled_once,
    create_sot_graph,
    create_sot_tool,
    retry_failed_points,
    stream_answer,
)
from sot_graph.events import BREAKS_OFF
from sot_graph.testing import Fault, Reply, ScriptedChatModel, SkeletonResponder, Stall, ToolCall
from tests.support.chat_requests import one_point, point_number

ASK = {"messages": [HumanMessage("How do plants grow?")]}


@pytest.fixture
def graph(endpoint):
    endpoint.responder = SkeletonResponder(points=4)
    return create_sot_graph(endpoint.chat_model())


@pytest.fixture
def parent(graph):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", graph)
    builder.add_edge(START, "answer")
    return builder.compile()


async def drain(parts):
    async with aclosing(parts):
        async for _ in parts:
            pass


WAYS = {
    "ainvoke": lambda graph, parent: graph.ainvoke(ASK),
    "astream": lambda graph, parent: drain(graph.astream(ASK, stream_mode="messages")),
    "astream_answer": lambda graph, parent: drain(astream_answer(graph, ASK)),
    "astream_events": lambda graph, parent: drain(graph.astream_events(ASK, version="v2")),
    "astream_answer of a parent": lambda graph, parent: drain(astream_answer(parent, ASK)),
    "a parent's own stream": lambda graph, parent: drain(cancelled_once(parent.astream(ASK, stream_mode="messages"))),
}


@asynccontextmanager
async def points_held(endpoint):
    """All points are at the endpoint, and get no reply before the block ends. Then each has lost its client."""
    with endpoint.hold(5, one_point):
        yield lambda: endpoint.wait_for_async(lambda logged: sum(one_point(each.request) for each in logged) == 4)
        await endpoint.wait_for_async(lambda logged: all(each.outcome for each in logged))
    assert {each.outcome for each in endpoint.requests if one_point(each.request)} == {"client_closed"}


async def no_task_but(before):
    async with asyncio.timeout(5):
        while left := asyncio.all_tasks() - before:
            await asyncio.wait(left)


@pytest.mark.parametrize("cancel", ["again and again", "twice", "once"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_however_often_it_is_cancelled_no_call_goes_on_and_no_task_is_left(endpoint, graph, parent, way, cancel):
    before = asyncio.all_tasks()
    async with points_held(endpoint) as all_there:
        if cancel == "again and again":
            async with anyio.create_task_group() as group:
                group.start_soon(way, graph, parent)
                await all_there()
                group.cancel_scope.cancel()
        else:
            reading = asyncio.create_task(way(graph, parent))
            await all_there()
            reading.cancel()
            if cancel == "twice":
                await asyncio.sleep(0)
                reading.cancel()
            await asyncio.wait({reading})
    await no_task_but(before)


class Server(uvicorn.Server):
    """A real web server, in a thread."""

    def __init__(self, app):
        super().__init__(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self.run, daemon=True)

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self._listens.set()

    async def __aenter__(self):
        self._thread.start()
        assert await asyncio.to_thread(self._listens.wait, 20)
        return f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_):
        self.should_exit = True
        await asyncio.to_thread(self._thread.join, 20)


@pytest.fixture(autouse=True)
def runs_on(monkeypatch):
    """sse-starlette ends each stream of a process in which a server was told to exit, be it one of an earlier test."""
    monkeypatch.setattr(AppStatus, "should_exit", False)
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)


@pytest.mark.parametrize("kind", [StreamingResponse, EventSourceResponse])
@pytest.mark.parametrize("whose", ["graph", "parent"])
async def test_a_client_that_drops_its_connection_ends_the_model_calls(endpoint, graph, parent, kind, whose):
    streamed = {"graph": graph, "parent": parent}[whose]

    async def answer(request):
        return kind(astream_answer(streamed, ASK))

    async with (
        Server(Starlette(routes=[Route("/", answer)])) as url,
        points_held(endpoint) as all_there,
        httpx.AsyncClient() as client,
        client.stream("GET", url) as response,
    ):
        assert response.status_code == 200
        pieces = response.aiter_text()  # whose end closes the connection
        assert await anext(pieces)
        await all_there()


THREAD = {"configurable": {"thread_id": "1"}}


@contextmanager
def held_back(endpoint):
    """The third point stalls in here: so the run isn't over while the first point is read."""
    endpoint.faults = [Fault(Stall(), point_number(3))]
    yield
    endpoint.faults = []


def threaded(graph, endpoint, whose):
    saver = InMemorySaver()
    ours = create_sot_graph(endpoint.chat_model(), checkpointer=saver if whose == "graph" else None)
    if whose == "graph":
        return ours
    builder = StateGraph(MessagesState)
    builder.add_node("answer", ours)
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("whose", ["graph", "parent"])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("way", ["async", "sync"])
async def test_what_a_reader_has_read_who_left_is_kept_if_it_is_wanted(endpoint, graph, whose, kept, way):
    threads = threaded(graph, endpoint, whose)
    with held_back(endpoint):
        if way == "async":
            async with aclosing(astream_answer(threads, ASK, THREAD, keep_cut=kept)) as pieces:
                read = [await anext(pieces) for _ in range(3)]
        else:
            with closing(stream_answer(threads, ASK, THREAD, keep_cut=kept)) as pieces:
                read = [next(pieces) for _ in range(3)]
    messages = (await threads.aget_state(THREAD)).values["messages"]
    if not kept:
        assert [message.type for message in messages] == ["human"]
        return
    assert [message.type for message in messages] == ["human", "ai"]
    assert messages[-1].text == "".join(read).rstrip() + " … *(The answer breaks off here.)*"
    # The next question sees it, and has an answer of its own.
    await threads.ainvoke({"messages": [HumanMessage("Go on.")]}, THREAD)
    asked = [logged.request for logged in endpoint.requests if "Go on." in logged.request.text]
    assert len(asked) == 5
    assert all("breaks off here" in request.text for request in asked)
    messages = (await threads.aget_state(THREAD)).values["messages"]
    assert [message.type for message in messages] == ["human", "ai"] * 2


@pytest.mark.parametrize("way", ["async", "sync"])
async def test_a_retry_replaces_what_was_kept_of_a_cut_answer(endpoint, graph, way):
    threads = threaded(graph, endpoint, "graph")
    with held_back(endpoint):
        cut_after(threads, ASK, 3)
    retry = {"async": aretry_failed_points, "sync": retry_failed_points}[way]
    result = retry(threads, THREAD)
    result = await result if way == "async" else result
    messages = threads.get_state(THREAD).values["messages"]
    assert [message.type for message in messages] == ["human", "ai"]
    assert messages[-1].text == result["answer"]
    assert "breaks off" not in result["answer"]


def test_of_a_question_beside_the_messages_a_retry_keeps_one(endpoint, graph):
    threads = threaded(graph, endpoint, "graph")
    with held_back(endpoint):
        cut_after(threads, {"question": "How do plants grow?"}, 3)
    retry_failed_points(threads, THREAD)
    messages = threads.get_state(THREAD).values["messages"]
    assert [message.type for message in messages] == ["human", "ai"]
    points = [logged.request for logged in endpoint.requests if one_point(logged.request)]
    assert all(request.text.count("How do plants grow?") == 1 for request in points)


@pytest.mark.parametrize("options", [{"dispatch": "pipelined"}, {"frame": "opening"}], ids=str)
def test_a_cut_before_the_skeleton_was_kept_leaves_nothing_of_an_earlier_question_to_retry(endpoint, options):
    endpoint.responder = SkeletonResponder(points=4)
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(**options), checkpointer=InMemorySaver())
    graph.invoke({"question": "How do plants grow?"}, THREAD)
    endpoint.faults = [Fault(Stall(), lambda request: one_point(request) or "skeleton" in request.last_user)]
    if "frame" not in options:
        endpoint.faults = [Fault(Stall(after_tokens=4), one_point)]
    cut_after(graph, {"question": "And rocks?"}, 1)
    kept = graph.get_state(THREAD).values
    assert (kept["skeleton"], kept["answer"], kept["finish_reason"]) == ([], "", None)
    asked = len(endpoint.requests)
    with pytest.raises(SotConfigError, match="has no skeleton"):
        retry_failed_points(graph, THREAD)
    assert len(endpoint.requests) == asked


@pytest.mark.parametrize("options", [{"dispatch": "pipelined"}, {"frame": "opening"}, {}], ids=str)
def test_nor_does_one_whose_skeleton_is_there_and_not_kept_yet(endpoint, options):
    written = threading.Event()

    class Saver(InMemorySaver):
        def put_writes(self, config, writes, *args, **kwargs):
            super().put_writes(config, writes, *args, **kwargs)
            if any(channel == "skeleton" for channel, _ in writes):
                written.set()

    endpoint.responder = SkeletonResponder(points=4)
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(**options), checkpointer=Saver())
    graph.invoke({"question": "How do plants grow?"}, THREAD)
    written.clear()
    with closing(stream_answer(graph, {"question": "And rocks?"}, THREAD, keep_cut=True)) as chunks:
        next(chunks)
        assert written.wait(30)
        skeleton = graph.get_state(graph.get_state(THREAD).config).values["run_facts"]["question_text"] == "And rocks?"
    kept = graph.get_state(THREAD).values
    assert bool(kept["skeleton"]) == skeleton
    assert (kept["answer"], kept["finish_reason"], kept["expansions"], kept["frame"]) == ("", None, [], {})


@pytest.mark.parametrize("asked", [{"messages": [HumanMessage("And rocks?")]}, {"question": "And rocks?"}])
def test_beside_a_cut_answer_a_parent_keeps_no_earlier_result(endpoint, asked):
    class Chat(MessagesState):
        question: str
        sot: dict

    builder = StateGraph(Chat)
    builder.add_node("answer", create_sot_graph(endpoint.chat_model()))
    builder.add_edge(START, "answer")
    chat = builder.compile(checkpointer=InMemorySaver())
    chat.invoke(ASK, THREAD)
    assert chat.get_state(THREAD).values["sot"]["answer"]
    with held_back(endpoint):
        cut_after(chat, asked, 3)
    assert chat.get_state(THREAD).values["sot"] == {}


def cut_after(graph, given, pieces, config=THREAD):
    """What was read of an answer by a reader who leaves, and the thread's messages then."""
    with closing(stream_answer(graph, given, config, keep_cut=True)) as chunks:
        read = "".join(next(chunks) for _ in range(pieces))
    return read, graph.get_state(config).values["messages"]


def described(messages):
    return [(message.type, message.text.removesuffix(BREAKS_OFF)) for message in messages]


@pytest.mark.parametrize("before", [["Why?", "Because."], ["Hello!", "Hi!", "Why?"]])
async def test_with_what_was_read_the_question_is_kept_once(endpoint, before):
    graph = threaded(None, endpoint, "graph")
    history = [(AIMessage if place % 2 else HumanMessage)(text) for place, text in enumerate(before)]
    with held_back(endpoint):
        read, messages = cut_after(graph, {"question": "Why?", "messages": history}, 3)
    asked = before if before[-1] == "Why?" else [*before, "Why?"]
    assert [text for _, text in described(messages)] == [*asked, read]


async def test_of_a_resumed_run_the_question_is_kept_too(endpoint):
    options = SotOptions(review_skeleton=True)
    graph = create_sot_graph(endpoint.chat_model(), options=options, checkpointer=InMemorySaver())
    await graph.ainvoke({"question": "Why?"}, THREAD)
    with held_back(endpoint):
        read, messages = cut_after(graph, Command(resume=True), 2)
    assert described(messages) == [("human", "Why?"), ("ai", read)]


async def test_of_two_answers_the_one_that_was_being_read_is_kept(endpoint):
    builder = StateGraph(MessagesState)
    builder.add_sequence([(name, create_sot_graph(endpoint.chat_model())) for name in ("essay", "summary")])
    builder.add_edge(START, "essay")
    graph = builder.compile(checkpointer=InMemorySaver())
    with closing(stream_answer(graph, ASK, THREAD, keep_cut=True)) as chunks:
        read = ""
        while not read.partition("\n\n**1. ")[2].count("**2. "):
            read += next(chunks)
    essay, summary = graph.get_state(THREAD).values["messages"][1:]
    assert essay.text + "\n\n" + summary.text == read.rstrip() + BREAKS_OFF


async def test_what_was_read_of_another_nodes_answer_is_kept(endpoint):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(endpoint.chat_model()))
    model = ScriptedChatModel(lambda _: "Because it is so.")
    builder.add_node("chat", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_conditional_edges(START, lambda state: "chat", ["answer", "chat"])
    graph = builder.compile(checkpointer=InMemorySaver())
    read, messages = cut_after(graph, ASK, 2)
    assert described(messages) == [("human", ASK["messages"][0].text), ("ai", read.rstrip())]
    assert graph.get_state(THREAD).next == ()


async def test_what_was_read_of_a_tools_answer_leaves_no_call_open(endpoint):
    write = endpoint.responder
    calls = [ToolCall("look_up", {"word": "Why"}), ToolCall("write_long_answer", {"question": "Why?"})]
    endpoint.responder = lambda request: Reply(tool_calls=calls) if request.tools else write(request)

    def look_up(word: str) -> str:
        """Look a word up."""
        return "A question."

    tools = [look_up, create_sot_tool(create_sot_graph(endpoint.chat_model()))]
    agent = create_agent(endpoint.chat_model(), tools, checkpointer=InMemorySaver())
    with held_back(endpoint):
        read, messages = cut_after(agent, ASK, 3)
    assert [message.type for message in messages] == ["human", "ai", "tool", "tool", "ai"]
    assert [each.tool_call_id for each in messages[2:4]] == [call["id"] for call in messages[1].tool_calls]
    assert described(messages)[2:] == [("tool", "A question."), ("tool", "It was cut off."), ("ai", read.rstrip())]
    endpoint.responder = write
    result = await agent.ainvoke({"messages": [HumanMessage("Go on.")]}, THREAD)
    assert result["messages"][5].text == "Go on."
    assert result["messages"][-1].type == "ai"


@pytest.mark.parametrize("way", ["async", "sync"])
async def test_without_a_checkpointer_nothing_can_be_kept(graph, way):
    async def chunks():
        for chunk in stream_answer(graph, ASK, keep_cut=True):
            yield chunk

    with pytest.raises(SotConfigError, match="compile the graph with a checkpointer"):
        await anext(astream_answer(graph, ASK, keep_cut=True) if way == "async" else chunks())


class Broken(InMemorySaver):
    """Keeps a run, and nothing that is written from outside."""

    def put(self, config, checkpoint, metadata, new_versions):
        if metadata["source"] == "update":
            message = "The disk is full."
            raise OSError(message)
        return super().put(config, checkpoint, metadata, new_versions)


@pytest.mark.parametrize("way", ["async", "sync"])
async def test_that_an_answer_could_not_be_kept_is_logged(endpoint, warnings_of, way):
    graph = create_sot_graph(endpoint.chat_model(), checkpointer=Broken())
    if way == "async":
        async with aclosing(astream_answer(graph, ASK, THREAD, keep_cut=True)) as pieces:
            await anext(pieces)
    else:
        with closing(stream_answer(graph, ASK, THREAD, keep_cut=True)) as pieces:
            next(pieces)
    assert warnings_of() == ["The answer that was cut could not be kept on its thread."]
