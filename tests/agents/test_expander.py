"""Points written by something else than the model: callables, chains, agents. The graph's promises stay."""

import asyncio
import json
import threading
from contextvars import ContextVar
from dataclasses import dataclass

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel

from sot_graph import (
    ExpansionError,
    SotConfigError,
    SotOptions,
    SotPrompts,
    astream_answer,
    build_sot_graph,
    create_sot_graph,
    retry_failed_points,
    stream_answer,
)
from sot_graph.llm.call import ModelCall
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.testing import (
    Fault,
    Reply,
    ScriptedChatModel,
    SkeletonResponder,
    Status,
    ToolCall,
    answer_skeleton_of_thought,
)
from sot_graph.writing.cleaner import TextCleaner
from sot_graph.writing.expander import ExpanderInput, ExpanderSource
from sot_graph.writing.writer import GrowingText

ASK = {"question": "How do plants grow?"}
THREAD = {"configurable": {"thread_id": "1"}}
TITLES = ["Seed", "Soil", "Sun"]


def graph_of(expander, **kwargs):
    model = ScriptedChatModel(answer_skeleton_of_thought(TITLES, "By the model."))
    return create_sot_graph(model, expander=expander, **kwargs)


def about(given):
    return f"About {given['point']['title']}."


async def about_async(given):
    return about(given)


def about_plants(query: str) -> str:
    """Look up."""
    return f"All about {query}."


def about_in_pieces(given):
    yield "About "
    yield f"{given['point']['title']}."


async def about_in_pieces_async(given):
    for piece in about_in_pieces(given):
        yield piece


class Writer:
    def __call__(self, given):
        return about(given)


class AsyncWriter:
    async def __call__(self, given):
        return about(given)


class PiecesWriter:
    async def __call__(self, given):
        yield "About "
        yield f"{given['point']['title']}."


def title_in(messages):
    return messages[-1].text.split("<point>")[1].split("</point>")[0].partition(". ")[2]


def about_with_config(given, config: RunnableConfig):
    return about(given) if config["tags"] else ""


class Structured(BaseModel):
    text: str
    sources: list[str] = []


EXPANDERS = {
    "a function": about,
    "a coroutine function": about_async,
    "a function that returns an awaitable": lambda given: about_async({**given}),
    "an object": Writer(),
    "an object that is async": AsyncWriter(),
    "an object that yields": PiecesWriter(),
    "a generator": about_in_pieces,
    "an async generator": about_in_pieces_async,
    "a Runnable": RunnableLambda(about),
    "an async Runnable": RunnableLambda(about_async),
    "a chain with a model": (lambda given: given["messages"])
    | ScriptedChatModel(lambda messages: f"About {title_in(messages)}."),
    "a chain that ends in a parser": (lambda given: given["messages"])
    | ScriptedChatModel(lambda messages: f"About {title_in(messages)}.")
    | StrOutputParser(),
    "a message": lambda given: AIMessage(about(given)),
    "a dict": lambda given: {"text": about(given)},
    "an agent's state": lambda given: {"messages": [*given["messages"], AIMessage(about(given))]},
    "an object of Pydantic's": lambda given: Structured(text=about(given)),
    "a function that wants LangChain's config": about_with_config,
    "a structured response": lambda given: {"messages": [], "structured_response": Structured(text=about(given))},
}


# --- What may write ---


@pytest.mark.parametrize("kind", EXPANDERS)
async def test_anything_that_takes_a_point_may_write_it(run, kind):
    result = await run(graph_of(EXPANDERS[kind]))
    assert [expansion["text"] for expansion in result["expansions"]] == [f"About {title}." for title in TITLES]
    assert result["sources"] == []


@pytest.mark.parametrize("kind", EXPANDERS)
async def test_what_is_streamed_is_the_answer(kind):
    graph = graph_of(EXPANDERS[kind])
    text = "".join([text async for text in astream_answer(graph, ASK)])
    assert text == (await graph.ainvoke(ASK))["answer"]
    assert "".join(await asyncio.to_thread(lambda: list(stream_answer(graph, ASK)))) == text


async def test_an_expander_gets_the_question_the_skeleton_its_point_and_the_prompt():
    seen = []
    await graph_of(lambda given: seen.append(given) or "Text.").ainvoke(ASK)
    assert [sorted(given) for given in seen] == [["messages", "point", "question", "skeleton"]] * 3
    given = next(given for given in seen if given["point"]["index"] == 2)
    assert given["question"] == "How do plants grow?"
    assert [point["title"] for point in given["skeleton"]] == TITLES
    assert "<point>2. Soil</point>" in given["messages"][-1].text


async def test_the_model_writes_the_skeleton_and_no_point():
    model = ScriptedChatModel(answer_skeleton_of_thought(TITLES))
    await create_sot_graph(model, expander=about).ainvoke(ASK)
    assert len(model.calls) == 1


async def test_the_words_that_begin_a_small_models_points_are_for_models_alone():
    model = ScriptedChatModel(answer_skeleton_of_thought(TITLES))
    graph = create_sot_graph(model, expander=lambda given: "Plants need light.", prompts=SotPrompts.small())
    assert {one["text"] for one in (await graph.ainvoke(ASK))["expansions"]} == {"Plants need light."}


async def test_synchronous_expanders_run_all_together_however_many_points():
    """The event loop's own threads are few: on two cores, six."""
    titles = [f"Title {chr(65 + number)}" for number in range(10)]
    together = threading.Barrier(10, timeout=20)

    def write(given):
        together.wait()
        return "Text."

    graph = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought(titles)), expander=write)
    result = await graph.ainvoke(ASK)
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}


async def test_a_generators_pieces_flow_while_it_writes():
    go_on = asyncio.Event()

    async def write(given):
        yield f"First of {given['point']['title']}. "
        await go_on.wait()
        yield "Last."

    text = ""
    async for piece in astream_answer(graph_of(write), ASK):
        text += piece
        if "First of Seed." in text:
            go_on.set()
    assert "**1. Seed**\n\nFirst of Seed. Last.\n\n" in text


async def test_an_echo_of_the_title_is_taken_away_as_of_a_models_text():
    result = await graph_of(lambda given: f"**{given['point']['title']}**: Text.").ainvoke(ASK)
    assert {expansion["text"] for expansion in result["expansions"]} == {"Text."}


async def test_an_expander_may_be_a_graph_of_this_kind(run):
    inner = graph_of(about)
    graph = graph_of(RunnableLambda(lambda given: {"question": f"Why? ({given['point']['index']})"}) | inner)
    result = await run(graph)
    assert result["answer"].count("About Seed.") == 3
    text = "".join([text async for text in astream_answer(graph, ASK)])
    assert text == result["answer"]


# --- When something is wrong ---


def only_second(behave):
    return lambda given: behave(given) if given["point"]["index"] == 2 else about(given)


def raise_it(error):
    def behave(given):
        raise error

    return behave


NONSENSE = {
    "a number": (lambda given: 7, "the expander returned int (7); it must return a text"),
    "nothing": (lambda given: None, "the expander returned NoneType"),
    "a dict without a text": (lambda given: {"answer": 1}, "the expander returned dict"),
    "an agent's state without an answer": (lambda given: {"messages": [HumanMessage("?")]}, "returned dict"),
    "sources that are none": (lambda given: {"text": "T.", "sources": [7]}, "source 1 is 7; it must be a text"),
    "sources that are no list": (lambda given: {"text": "T.", "sources": "a"}, "the sources are str, not a list"),
    "an empty text": (lambda given: " ", "the expander wrote nothing for it, twice"),
    "the title alone": (lambda given: given["point"]["title"], "wrote nothing for it but its title or number, twice"),
    "an exception": (raise_it(KeyError("title")), "the expander raised KeyError: 'title'"),
    "StopIteration": (raise_it(StopIteration()), "the expander raised StopIteration()"),
    "an interrupt": (lambda given: interrupt("May I?"), "the expander asked for a person"),
}


@pytest.mark.parametrize("kind", NONSENSE)
async def test_nonsense_fails_its_own_point_with_a_clear_error_and_no_other(run, kind):
    behave, says = NONSENSE[kind]
    result = await run(graph_of(only_second(behave), checkpointer=InMemorySaver()), ASK, THREAD)
    first, second, third = result["expansions"]
    assert (first["status"], second["status"], third["status"]) == ("ok", "failed", "ok")
    assert says in second["error"]
    assert "*(This point is missing: it could not be written.)*" in result["answer"]


def never(given):
    threading.Event().wait()


async def never_async(given):
    await asyncio.Event().wait()


@pytest.mark.parametrize("behave", [never, never_async])
async def test_one_that_never_ends_is_timed_out_and_the_others_are_unharmed(run, behave):
    graph = graph_of(only_second(behave), options=SotOptions(point_timeout=0.5))
    result = await run(graph)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "timed_out", "ok"]
    assert "point_timeout" in result["expansions"][1]["error"]


async def test_a_generator_that_breaks_off_keeps_its_text_and_is_marked():
    tries = []

    async def write(given):
        yield "What there is."
        if given["point"]["index"] == 2:
            tries.append(1)
            raise ConnectionError

    graph = graph_of(write)
    text = "".join([text async for text in astream_answer(graph, ASK)])
    assert "What there is. … *(This point breaks off here.)*" in text
    assert text.count("breaks off") == 1
    assert len(tries) == 1  # what was shown is not taken back by another try


async def test_a_lost_connection_is_tried_again(monkeypatch):
    monkeypatch.setattr("sot_graph.llm.retry_policy.backoff_seconds", lambda attempt: 0.0)
    tries = []

    async def write(given):
        tries.append(given["point"]["index"])
        if tries.count(2) < 3 and given["point"]["index"] == 2:
            raise ConnectionError
        return about(given)

    events = [event async for event in graph_of(write).astream(ASK, stream_mode="custom")]
    assert sorted(tries) == [1, 2, 2, 2, 3]
    starts = [event["attempt"] for event in events if event["type"] == "sot.point.start" and event["index"] == 2]
    assert starts == [1, 2, 3]


async def test_raise_raises_after_all_siblings_have_finished():
    graph = graph_of(only_second(raise_it(KeyError("title"))), options=SotOptions(on_point_failure="raise"))
    with pytest.raises(ExpansionError) as caught:
        await graph.ainvoke(ASK)
    assert [expansion["status"] for expansion in caught.value.expansions] == ["ok", "failed", "ok"]


async def test_a_cancelled_run_cancels_its_expanders():
    begun, cancelled = asyncio.Semaphore(0), []

    async def write(given):
        begun.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(given["point"]["index"])
            raise

    running = asyncio.create_task(graph_of(write).ainvoke(ASK))
    for _ in range(3):
        await begun.acquire()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(cancelled) == [1, 2, 3]


async def test_max_concurrency_bounds_the_expanders():
    inside, most = 0, 0

    async def write(given):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        return about(given)

    await graph_of(write, options=SotOptions(max_concurrency=2)).ainvoke(ASK)
    assert most == 2


async def test_finished_points_are_not_written_again_after_a_resume(saver):
    written = []
    held = asyncio.Event()

    async def write(given):
        written.append(given["point"]["index"])
        if given["point"]["index"] == 2:
            await held.wait()
        return about(given)

    graph = graph_of(write, checkpointer=saver)
    running = asyncio.create_task(graph.ainvoke(ASK, THREAD))
    await saver.wait_for(points=2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    held.set()
    written.clear()
    result = await graph.ainvoke(None, THREAD)
    assert written == [2]
    assert [expansion["text"] for expansion in result["expansions"]] == [f"About {title}." for title in TITLES]


def test_failed_points_are_retried_with_their_sources():
    broken = [2]

    def write(given):
        if given["point"]["index"] in broken:
            raise KeyError
        return {"text": "See [1].", "sources": [f"{given['point']['title']}.md"]}

    graph = graph_of(write, checkpointer=InMemorySaver())
    first = graph.invoke(ASK, THREAD)
    assert "See [2].\n\n**Sources**\n\n1. Seed.md\n2. Sun.md" in first["answer"]
    broken.clear()
    healed = retry_failed_points(graph, THREAD)
    assert healed["answer"].endswith("See [3].\n\n**Sources**\n\n1. Seed.md\n2. Soil.md\n3. Sun.md")
    given = graph_of(about).invoke({**ASK, "given_expansions": healed["expansions"]})
    assert given["answer"] == healed["answer"]


async def test_what_an_expander_wrote_is_never_cached_and_the_skeleton_is():
    written = []
    model = ScriptedChatModel(answer_skeleton_of_thought(TITLES))
    graph = create_sot_graph(model, expander=lambda given: written.append(1) or "Text.", cache=InMemoryCache())
    await graph.ainvoke(ASK)
    await graph.ainvoke(ASK)
    assert len(model.calls) == 1
    assert len(written) == 6


@pytest.mark.parametrize(
    ("expander", "says"),
    [
        (7, "expander is int"),
        (Exception, "expander is the class Exception; pass an instance"),
        (lambda: "Text.", "can't be called"),
        (lambda given, other: "Text.", "can't be called"),
        (ScriptedChatModel(lambda messages: "Text."), "expander is a chat model"),
    ],
    ids=["a number", "a class", "no argument", "two arguments", "a chat model"],
)
def test_what_can_not_write_is_refused_when_the_graph_is_made(expander, says):
    model = ScriptedChatModel(answer_skeleton_of_thought())
    for make in (create_sot_graph, build_sot_graph):
        with pytest.raises(SotConfigError, match=says):
            make(model, expander=expander)


async def test_a_dataclass_with_slots_is_an_output(endpoint):
    @dataclass(slots=True)
    class Output:
        text: str
        sources: list

    graph = create_sot_graph(endpoint.chat_model(), expander=lambda given: Output("Text [1].", ["Sun"]))
    result = await graph.ainvoke(ASK)
    assert {one["text"] for one in result["expansions"]} == {"Text [1]."}
    assert [source["title"] for source in result["sources"]] == ["Sun"]


async def test_an_expander_that_is_asked_again_gets_what_it_got_first():
    seen = []

    def write(given):
        seen.append((len(given["messages"]), len(given["skeleton"]), given["point"]["title"]))
        given["messages"].append("mine")
        given["skeleton"].clear()
        given["point"]["title"] = "mine"
        if len(seen) == 1:
            raise ConnectionError
        return "A text."

    given = {**ASK, "given_skeleton": ["Seed"]}
    result = await graph_of(write, options=SotOptions(min_points=1)).ainvoke(given)
    assert result["expansions"][0]["text"] == "A text."
    assert seen[0] == seen[1]


# --- Agents ---


@pytest.fixture
def searched():
    return []


@pytest.fixture
def agent_graph(endpoint, searched):
    """A graph each of whose points is written by an agent that searches first."""
    write = SkeletonResponder(titles=TITLES, text=lambda ask: "By the model.")

    def respond(request):
        if not request.tools:
            return write(request)
        return _search_then_write(request)

    def search(query: str) -> str:
        """Search."""
        searched.append(query)
        return f"All about {query}."

    endpoint.responder = respond
    model = endpoint.chat_model()
    return lambda **kwargs: create_sot_graph(model, expander=create_agent(model, [search]), **kwargs)


def _search_then_write(request):
    title = request.last_user.split("<point>")[1].split("</point>")[0]
    if request.messages[-1]["role"] == "tool":
        return Reply(f"As I found: {request.messages[-1]['content']}")
    return Reply(tool_calls=[ToolCall("search", {"query": title})])


async def test_an_agent_writes_each_point_with_its_tools(run, agent_graph, searched, endpoint):
    result = await run(agent_graph())
    assert sorted(searched) == ["1. Seed", "2. Soil", "3. Sun"]
    assert result["expansions"][1]["text"] == "As I found: All about 2. Soil."
    assert len(endpoint.requests) == 1 + 3 * 2


async def test_every_call_of_an_agent_is_counted(run, agent_graph, endpoint):
    usage = (await run(agent_graph()))["usage"]
    assert usage["expansion"]["calls"] == 6
    assert usage["total"]["calls"] == len(endpoint.requests)
    asked = sum(logged.request.prompt_tokens for logged in endpoint.requests)
    assert usage["total"]["input_tokens"] == asked
    assert usage["expansion"]["output_tokens"] > 0


async def test_calls_that_failed_count_too(endpoint, agent_graph):
    endpoint.faults = [Fault(Status(400), lambda request: bool(request.tools))]
    with pytest.raises(ExpansionError):
        await agent_graph(options=SotOptions(on_point_failure="raise")).ainvoke(ASK)
    assert len(endpoint.requests) == 4


async def test_tool_calls_show_in_the_events_of_their_point(agent_graph):
    events = [event async for event in agent_graph().astream(ASK, stream_mode="custom")]
    json.dumps(events)
    for index, title in enumerate(TITLES, start=1):
        own = [event for event in events if event["type"] == "sot.point.tool" and event["index"] == index]
        assert [event["state"] for event in own] == ["start", "end"]
        assert {event["name"] for event in own} == {"search"}
        assert title in own[0]["input"]
        assert own[0]["call"] == own[1]["call"]
        kinds = [event["type"] for event in events if event.get("index") == index]
        assert kinds[:3] == ["sot.point.start", "sot.point.tool", "sot.point.tool"]


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
async def test_no_event_is_lost_where_synchronous_tools_run_in_many_threads(dispatch):
    """A tool in a thread is told of from that thread, at the same time as those of other points."""
    points, times = 16, 20
    look_up = tool(about_plants)

    async def expand(given, config: RunnableConfig):
        looks = (asyncio.to_thread(look_up.invoke, {"query": "Sun"}, config) for _ in range(times))
        return (await asyncio.gather(*looks))[0]

    titles = [f"Part {number} of a plant" for number in range(1, points + 1)]
    model = ScriptedChatModel(answer_skeleton_of_thought(titles, "By the model."))
    options = SotOptions(dispatch=dispatch, max_points=points)
    graph = create_sot_graph(model, expander=expand, options=options)
    events = [event async for event in graph.astream(ASK, stream_mode="custom")]
    assert [event["type"] for event in events].count("sot.point.tool") == points * times * 2


async def test_tool_calls_show_in_the_trace_below_their_point(agent_graph, traced):
    await agent_graph().ainvoke(ASK, {"callbacks": [traced]})
    tools = traced.paths("tool")
    assert len(tools) == 3
    assert sorted(next(name for name in path if name.startswith("expand ")) for path in tools) == [
        "expand 1: Seed",
        "expand 2: Soil",
        "expand 3: Sun",
    ]


def test_an_agent_works_synchronously_under_a_synchronous_saver(agent_graph, tmp_path):
    with SqliteSaver.from_conn_string(str(tmp_path / "threads.sqlite")) as saver:
        graph = agent_graph(checkpointer=saver)
        assert "".join(stream_answer(graph, ASK, THREAD)) == graph.get_state(THREAD).values["answer"]


async def test_an_agents_expander_works_inside_of_a_parent(agent_graph, searched):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", agent_graph())
    builder.add_edge(START, "answer")
    parent = builder.compile()
    given = {"messages": [HumanMessage("How do plants grow?", id="1")]}
    text = "".join([text async for text in astream_answer(parent, given)])
    assert text == (await parent.ainvoke(given))["messages"][-1].text
    assert len(searched) == 6


async def test_what_an_expander_does_to_its_input_stays_its_own():
    async def changes(given):
        given["point"]["title"] = given["point"]["title"].upper()
        given["skeleton"].clear()
        return "Text."

    result = await create_sot_graph(
        ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil", "Sun"])), expander=changes
    ).ainvoke({"question": "How do plants grow?"})
    assert [expansion["title"] for expansion in result["expansions"]] == ["Seed", "Soil", "Sun"]


@pytest.mark.parametrize("how", ["a task of its own", "a thread", "a stream"])
async def test_an_expander_that_is_cancelled_from_within_fails_its_own_point(how):
    async def awaits(given):
        if given["point"]["index"] == 2:
            inner = asyncio.ensure_future(asyncio.Event().wait())
            inner.cancel()
            await inner
        return "Text."

    def raises(given):
        if given["point"]["index"] == 2:
            raise SystemExit(3) if given["question"] else asyncio.CancelledError
        return "Text."

    async def streams(given):
        yield "Te"
        yield (await awaits(given))[2:]

    expander = {"a task of its own": awaits, "a thread": raises, "a stream": streams}[how]
    graph = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil", "Sun"])), expander=expander)
    result = await graph.ainvoke({"question": "How do plants grow?"})
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "failed", "ok"]


async def test_a_synchronous_generator_runs_in_one_thread_and_context(run, endpoint):
    place = ContextVar("place", default="nowhere")
    threads = []

    def write(given):
        place.set(given["point"]["title"])
        for _ in range(3):
            threads.append((given["point"]["index"], threading.get_ident()))
            yield f"{place.get()} "

    result = await run(create_sot_graph(endpoint.chat_model(), expander=write), {"question": "How do plants grow?"})
    assert all(one["text"] == " ".join([one["title"]] * 3) for one in result["expansions"])
    assert len(set(threads)) == len(result["expansions"])


@pytest.mark.parametrize("error", [ConnectionError("no database"), TimeoutError("no database")])
async def test_an_expanders_own_error_is_told_as_its_own(run, endpoint, error):
    def write(given):
        if given["point"]["index"] == 2:
            raise error
        return "Text."

    graph = create_sot_graph(endpoint.chat_model(), expander=write, options=SotOptions(max_retries=0))
    result = await run(graph, {"question": "How do plants grow?"})
    assert f"the expander raised {type(error).__name__}: no database" in result["expansions"][1]["error"]


async def test_an_error_that_came_from_a_model_is_no_cause_of_itself(make_run):
    error = ConnectionError("gone")
    error.status_code = 500
    error.__cause__ = cause = OSError("the wire")

    async def write(given):
        raise error

    call = ModelCall(LoopModel(ScriptedChatModel(lambda _: "x")), "expansion", make_run(max_retries=0), {}, {})
    given = ExpanderInput(question="?", skeleton=[], point={"index": 1, "title": "Sun", "depends_on": []}, messages=[])
    source = ExpanderSource(write, given, [HumanMessage("Write.")], call)
    with pytest.raises(ConnectionError, match="gone") as caught:
        await source.write(GrowingText(TextCleaner, lambda piece: None, longest_delay=0))
    assert caught.value is error
    assert error.__cause__ is cause


async def test_a_mistake_of_the_expanders_own_is_not_taken_for_an_empty_reply(endpoint):
    tries = []

    def expand(given):
        tries.append(given["point"]["index"])
        return ["", "Text."][given["point"]["index"]]

    graph = create_sot_graph(endpoint.chat_model(), expander=expand)
    result = await graph.ainvoke({"question": "How do plants grow?", "given_skeleton": ["Seed", "Soil"]})
    assert sorted(tries) == [1, 2]
    assert [each["status"] for each in result["expansions"]] == ["ok", "failed"]
    assert "IndexError" in result["expansions"][1]["error"]
