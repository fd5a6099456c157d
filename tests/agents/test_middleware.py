"""The middleware: tool turns untouched, long final answers by Skeleton-of-Thought, short ones direct."""

import asyncio
import subprocess
import sys
import threading
from contextlib import aclosing

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware, wrap_model_call
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from sot_graph import (
    ExpansionError,
    ModelRouter,
    RoutingError,
    SkeletonOfThoughtMiddleware,
    SotConfigError,
    SotOptions,
    SotPrompts,
    astream_answer,
    join_markdown,
    stream_answer,
)
from sot_graph.events import BREAKS_OFF
from sot_graph.testing import (
    CutOff,
    Fault,
    Reply,
    ScriptedChatModel,
    SkeletonResponder,
    Stall,
    Status,
    ToolCall,
    answer_skeleton_of_thought,
)
from tests.support.chat_requests import decides, one_point

LONG = {"messages": [HumanMessage("How do I start a garden in Oslo?", id="1")]}
SHORT = {"messages": [HumanMessage("How warm is it in Oslo?", id="1")]}
TITLES = ["Choosing a spot", "Preparing the soil", "Picking crops"]
THREAD = {"configurable": {"thread_id": "1"}}


def weather(city: str) -> str:
    """How the weather is."""
    return f"12 degrees in {city}"


def soil(city: str) -> str:
    """What the soil is like."""
    return f"clay in {city}"


def has_results(request):
    return any(message.get("role") == "tool" for message in request.messages)


def is_long(request):
    return "garden" in request.text


@pytest.fixture
def model(endpoint):
    """Looks at the weather, and for a garden at the soil; then it answers, in short or at length."""
    write = SkeletonResponder(titles=TITLES, words_per_point=12)

    def respond(request):
        if one_point(request):
            return write(request)
        if request.tools and not has_results(request):
            calls = [ToolCall("weather", {"city": "Oslo"}, id="w"), ToolCall("soil", {"city": "Oslo"}, id="s")]
            return Reply("Let me look.", tool_calls=calls if is_long(request) else calls[:1])
        if decides(request) and is_long(request):
            return Reply("\n".join(f"{number}. {title}" for number, title in enumerate(TITLES, 1)))
        return Reply("It is 12 degrees.")

    endpoint.responder = respond
    return endpoint.chat_model()


def to_skeleton(question, history):
    return "skeleton"


def agent_of(model, router=to_skeleton, tools=(weather, soil), middleware=(), checkpointer=None, prompt=None, **kwargs):
    return create_agent(
        model,
        list(tools),
        middleware=[SkeletonOfThoughtMiddleware(router, **kwargs), *middleware],
        system_prompt=prompt,
        checkpointer=checkpointer,
    )


async def test_the_turns_of_the_tools_are_the_agents_and_the_long_answer_is_written_by_points(run, model, endpoint):
    result = await run(agent_of(model), LONG)
    question, calls, *results, answer = result["messages"]
    plain = (await run(create_agent(model, [weather, soil]), LONG))["messages"][1]
    assert question.text == "How do I start a garden in Oslo?"
    assert (calls.text, calls.tool_calls) == (plain.text, plain.tool_calls)
    assert [message.text for message in results] == ["12 degrees in Oslo", "clay in Oslo"]
    assert [f"**{number}. {title}**" in answer.text for number, title in enumerate(TITLES, 1)] == [True] * 3
    assert [message.type for message in result["messages"]] == ["human", "ai", "tool", "tool", "ai"]


async def test_the_prompts_own_most_points_hold_for_the_agents_draft_too(run, model, endpoint):
    endpoint.responder = lambda request: (
        Reply("About it.") if one_point(request) else Reply("1. Choosing a spot\n2. Preparing the soil")
    )
    result = await run(agent_of(model, tools=(), prompts=SotPrompts(max_points=2)), LONG)
    assert result["messages"][-1].text.startswith("**1. Choosing a spot**")


async def test_nothing_is_asked_for_twice(run, model, endpoint):
    await run(agent_of(model), LONG)
    kinds = ["point" if one_point(one.request) else "call" for one in endpoint.requests]
    assert kinds == ["call", "call", "point", "point", "point"]  # the tools, the skeleton, the points


async def test_a_short_answer_is_the_models_own(run, model, endpoint):
    result = await run(agent_of(model), SHORT)
    assert result["messages"][-1].text == "It is 12 degrees."
    assert len(endpoint.requests) == 2


async def test_a_question_that_the_router_sends_direct_is_left_alone(run, model, endpoint):
    asked = []

    def router(question, history):
        asked.append(question)
        return "direct"

    await run(agent_of(model, router), LONG)
    assert not any(decides(one.request) for one in endpoint.requests)
    assert asked == ["How do I start a garden in Oslo?"]  # once a question, not once a call


async def test_points_know_the_system_prompt_the_conversation_and_what_the_tools_found(run, model, endpoint):
    given = {"messages": [HumanMessage("I live in Oslo."), AIMessage("Noted."), *LONG["messages"]]}
    await run(agent_of(model, prompt="You are a gardener."), given)
    points = [one.request for one in endpoint.requests if one_point(one.request)]
    assert len(points) == 3
    for request in points:
        assert request.system.startswith("You are a gardener.")
        for said in ("I live in Oslo.", "12 degrees in Oslo", "clay in Oslo", "How do I start a garden in Oslo?"):
            assert said in request.text
        assert not request.tools


async def test_the_points_are_in_flight_together(run, model, endpoint):
    with endpoint.hold(3, one_point) as held:
        await run(agent_of(model), LONG)
        assert held.complete


async def test_the_messages_usage_is_that_of_all_its_calls_and_no_call_counts_twice(run, model, endpoint):
    counter = UsageMetadataCallbackHandler()
    result = await run(agent_of(model), LONG, {"callbacks": [counter]})
    tools, answer = (message for message in result["messages"] if message.type == "ai")
    prompts = [one.request.prompt_tokens for one in endpoint.requests]
    assert tools.usage_metadata["input_tokens"] == prompts[0]
    assert answer.usage_metadata["input_tokens"] == sum(prompts[1:])
    (counted,) = counter.usage_metadata.values()
    assert counted["input_tokens"] == sum(prompts)
    assert counted["output_tokens"] == sum(one.tokens_sent for one in endpoint.requests)


async def test_the_message_says_which_points_failed(run, model, endpoint):
    endpoint.faults = [Fault(Status(400), lambda request: "<point>2. " in request.last_user)]
    message = (await run(agent_of(model), LONG))["messages"][-1]
    points = message.response_metadata["sot"]["points"]
    assert [(point["index"], point["status"]) for point in points] == [(1, "ok"), (2, "failed"), (3, "ok")]
    assert "400" in points[1]["error"]


async def test_model_settings_reach_every_call(model, endpoint):
    @wrap_model_call
    async def set_them(request, handler):
        return await handler(request.override(model_settings={"temperature": 0.3, "parallel_tool_calls": True}))

    agent = create_agent(model, [weather, soil], middleware=[set_them, SkeletonOfThoughtMiddleware(to_skeleton)])
    await agent.ainvoke(LONG)
    assert {one.request.raw["temperature"] for one in endpoint.requests} == {0.3}
    asked = ["parallel_tool_calls" in one.request.raw for one in endpoint.requests]
    assert asked == [True, True, False, False, False]


# --- Streaming ---


async def test_the_answer_is_read_through_the_agent(model):
    agent = agent_of(model, checkpointer=InMemorySaver())
    chunks = [text async for text in astream_answer(agent, LONG, THREAD)]
    assert len(chunks) > 3  # as it is written
    text = "".join(chunks)
    assert text == (await agent.aget_state(THREAD)).values["messages"][-1].text
    other = {"configurable": {"thread_id": "2"}}
    chunks = await asyncio.to_thread(lambda: list(stream_answer(agent, LONG, other)))
    assert len(chunks) > 3
    assert "".join(chunks) == text


async def test_what_was_read_through_the_agent_is_kept_by_a_reader_who_leaves(model):
    agent = agent_of(model, checkpointer=InMemorySaver())
    async with aclosing(astream_answer(agent, LONG, THREAD, keep_cut=True)) as chunks:
        read = [await anext(chunks), await anext(chunks)]
    state = await agent.aget_state(THREAD)
    assert state.values["messages"][-1].text == "".join(read).rstrip() + BREAKS_OFF
    assert not state.next


@pytest.mark.parametrize("modes", [["custom"], ["custom", "messages"]])
async def test_the_points_events_reach_whoever_streams_the_agent(model, modes):
    agent = agent_of(model)
    parts = [part async for part in agent.astream(LONG, stream_mode=modes, subgraphs=True)]
    told = [data["type"] for _, mode, data in parts if mode == "custom"]
    steps = {step.split(":")[0] for namespace, mode, _ in parts if mode == "custom" for step in namespace}
    assert steps == ({"model"} if modes == ["custom"] else set())  # as docs/agents.md says
    assert told[0] == "sot.skeleton"
    assert told[-1] == "sot.answer"
    assert told.count("sot.answer") == 1
    assert "sot.point.delta" in told


async def test_two_agents_that_one_node_calls_at_once_are_refused_and_not_mixed(model, endpoint):
    agents = [agent_of(model), agent_of(model)]

    async def both(state):
        one, other = await asyncio.gather(*(agent.ainvoke(state) for agent in agents))
        return {"messages": [one["messages"][-1], other["messages"][-1]]}

    builder = StateGraph(MessagesState)
    builder.add_node("both", both)
    builder.add_edge(START, "both")
    with endpoint.hold(6, one_point), pytest.raises(SotConfigError, match="several times at once"):
        _ = [text async for text in astream_answer(builder.compile(), LONG)]


async def test_a_model_that_routes_leaves_an_agent_that_streams_all_its_tool_calls(model):
    agent = agent_of(model, ModelRouter(ScriptedChatModel(lambda _: '{"kind":"A"}')))
    told = [message async for message, _ in agent.astream(LONG, stream_mode="messages")]
    assert {message.text for message in told if message.type == "tool"} == {"12 degrees in Oslo", "clay in Oslo"}


async def test_a_short_answer_is_read_through_the_agent_too(model):
    for router in (to_skeleton, lambda question, history: "direct"):
        text = "".join([text async for text in astream_answer(agent_of(model, router), SHORT)])
        assert text == "It is 12 degrees."


@pytest.mark.parametrize("world", ["stream", "astream"])
async def test_the_agents_own_message_stream_has_the_answer_in_reading_order_and_nothing_else(model, world):
    agent = agent_of(model, checkpointer=InMemorySaver())
    if world == "astream":
        parts = [part async for part in agent.astream(LONG, THREAD, stream_mode="messages")]
    else:
        parts = await asyncio.to_thread(lambda: list(agent.stream(LONG, THREAD, stream_mode="messages")))
    messages = (await agent.aget_state(THREAD)).values["messages"]
    tools, answer = (message for message in messages if message.type == "ai")
    chunks = [chunk for chunk, _ in parts if isinstance(chunk, AIMessageChunk)]
    assert {chunk.id for chunk in chunks} == {tools.id, answer.id}
    assert "".join(chunk.text for chunk in chunks if chunk.id == answer.id) == answer.text
    assert sum(bool(chunk.text) for chunk in chunks if chunk.id == answer.id) > 3
    assert "".join(chunk.text for chunk in chunks if chunk.id == tools.id) == "Let me look."
    called = [call["name"] for chunk in chunks for call in chunk.tool_call_chunks if call["name"]]
    assert called == ["weather", "soil"]


@pytest.mark.parametrize("join", [join_markdown, lambda question, skeleton, expansions: "All in one piece."])
async def test_who_reads_the_subgraphs_too_gets_no_text_twice(model, join):
    agent = agent_of(model, checkpointer=InMemorySaver(), join=join)
    parts = agent.astream(LONG, THREAD, stream_mode=["messages", "values"], subgraphs=True)
    texts, within = {}, set()
    async for _, mode, data in parts:
        if mode == "messages":
            message, _ = data
            texts[message.id] = texts.get(message.id, "") + message.text
        else:
            within |= {message.id for message in data.get("messages", [])}
    messages = (await agent.aget_state(THREAD)).values["messages"]
    assert texts == {message.id: message.text for message in messages if message.type != "human"}
    assert within == {message.id for message in messages}


async def test_events_of_a_joins_own_do_not_disturb_the_answer(model):
    def join(question, skeleton, expansions):
        for event in ({"progress": 1}, {"type": "mine", "text": "Not the answer."}, "joined"):
            get_stream_writer()(event)
        return join_markdown(question, skeleton, expansions)

    agent = agent_of(model, join=join, checkpointer=InMemorySaver())
    parts = [data async for data, _ in agent.astream(LONG, THREAD, stream_mode="messages")]
    answer = (await agent.aget_state(THREAD)).values["messages"][-1]
    assert "".join(chunk.text for chunk in parts if chunk.id == answer.id) == answer.text


async def test_the_first_point_streams_while_the_others_are_held(model, endpoint):
    with endpoint.hold(2, lambda request: one_point(request) and "1. " not in request.last_user) as held:
        text = ""
        async for chunk, _ in agent_of(model).astream(LONG, stream_mode="messages"):
            text += chunk.text if isinstance(chunk, AIMessageChunk) else ""
            if "**2. " in text:
                held.release()
    assert text.count("**") == 6


async def test_an_answer_that_turns_out_long_without_a_skeleton_is_streamed_as_it_is(endpoint):
    words = "word " * 600
    endpoint.responder = lambda request: Reply(words)
    agent = agent_of(endpoint.chat_model(), tools=())
    chunks = [chunk.text async for chunk, _ in agent.astream(LONG, stream_mode="messages")]
    assert "".join(chunks) == words
    assert len(chunks) > 100


# --- What is left as the agent has it ---


class Report(BaseModel):
    """A report."""

    summary: str


async def test_structured_output_stays_the_agents(run, endpoint):
    endpoint.responder = lambda request: Reply('{"summary": "All is well."}')
    agent = create_agent(
        endpoint.chat_model(model="gpt-4o-mini"),
        middleware=[SkeletonOfThoughtMiddleware(to_skeleton)],
        response_format=Report,
    )
    result = await run(agent, LONG)
    assert result["structured_response"] == Report(summary="All is well.")
    assert not any(decides(one.request) for one in endpoint.requests)


async def test_a_forced_tool_call_is_left_alone(model, endpoint):
    @wrap_model_call
    async def force(request, handler):
        return await handler(request.override(tool_choice=None if len(request.messages) > 1 else "any"))

    agent = create_agent(model, [weather, soil], middleware=[force, SkeletonOfThoughtMiddleware(to_skeleton)])
    await agent.ainvoke(LONG, {"recursion_limit": 12})
    assert [decides(one.request) for one in endpoint.requests][:2] == [False, True]


async def test_a_list_that_says_it_all_is_an_answer_and_no_skeleton(run, endpoint):
    steps = "\n".join(f"{number}. {'Do this carefully, and then do that as well, ' * 3}" for number in (1, 2, 3))
    endpoint.responder = lambda request: Reply(steps)
    result = await run(agent_of(endpoint.chat_model(), tools=()), LONG)
    assert result["messages"][-1].text == steps
    assert len(endpoint.requests) == 1


async def test_other_middleware_works_around_it(model, endpoint):
    endpoint.faults = [Fault(Status(500), decides, times=1)]
    agent = create_agent(
        endpoint.chat_model(max_retries=0),
        [weather, soil],
        middleware=[ModelRetryMiddleware(max_retries=1, initial_delay=0), SkeletonOfThoughtMiddleware(to_skeleton)],
    )
    result = await agent.ainvoke(LONG)
    assert "**1. Choosing a spot**" in result["messages"][-1].text


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_with_a_text_that_a_token_limit_cut_off_ends_with_length(run, model, endpoint, streamed):
    async def reason():
        if not streamed:
            return (await run(agent_of(model), LONG))["messages"][-1].response_metadata["finish_reason"]
        pieces = [piece async for piece, _ in agent_of(model).astream(LONG, stream_mode="messages")]
        return next(found for piece in reversed(pieces) if (found := piece.response_metadata.get("finish_reason")))

    assert await reason() == "stop"
    endpoint.faults = [Fault(CutOff(3), lambda request: "<point>2. " in request.last_user)]
    assert await reason() == "length"


async def test_a_point_that_fails_is_marked_in_the_agents_answer(run, model, endpoint):
    endpoint.faults = [Fault(Status(400), lambda request: "<point>2. " in request.last_user)]
    result = await run(agent_of(model), LONG)
    assert "*(This point is missing: it could not be written.)*" in result["messages"][-1].text


MISSING = "*(This point is missing: it could not be written.)*"
LATE = "*(This point is missing: it was not finished in time.)*"


def marked(mark):
    return "\n\n".join(f"**{number}. {title}**\n\n{mark}" for number, title in enumerate(TITLES, 1))


NOTHING = {
    "failed": ([Fault(Status(400), one_point)], {}, marked(MISSING)),
    "late": ([Fault(Stall(), one_point)], {"point_timeout": 0.3}, marked(LATE)),
    "over": ([Fault(Stall(), one_point)], {"deadline": 2.0}, marked(LATE)),
}


@pytest.mark.parametrize(("faults", "options", "answer"), NOTHING.values(), ids=NOTHING)
async def test_an_answer_of_which_no_point_is_there_is_a_message_that_says_so(
    run, model, endpoint, faults, options, answer
):
    endpoint.faults = faults
    agent = agent_of(model, options=SotOptions(**options))
    result = await run(agent, LONG)
    assert result["messages"][-1].text == answer
    assert [message.type for message in result["messages"]] == ["human", "ai", "tool", "tool", "ai"]
    read = "".join([text async for text in astream_answer(agent, LONG)])
    assert read == answer
    chunks = [chunk async for chunk, _ in agent.astream(LONG, stream_mode="messages")]
    assert "".join(chunk.text for chunk in chunks if chunk.type == "AIMessageChunk") == "Let me look." + answer


async def test_what_the_points_that_failed_have_cost_is_in_the_messages_usage(run, model, endpoint):
    endpoint.faults = [Fault(Reply(""), one_point)]
    result = await run(agent_of(model), LONG)
    usage = result["messages"][-1].usage_metadata
    assert result["messages"][-1].text == marked(MISSING)
    # The skeleton's call and two for each point.
    assert len(endpoint.requests) == 2 + 2 * len(TITLES)
    assert result["messages"][-1].response_metadata["sot"]["usage"]["expansion"]["calls"] == 2 * len(TITLES)
    assert usage["input_tokens"] > result["messages"][-1].response_metadata["sot"]["usage"]["total"]["input_tokens"] > 0


@pytest.mark.parametrize("on_point_failure", ["raise", "skip"])
async def test_where_that_is_wanted_no_point_is_an_error_that_other_middleware_takes(
    run, model, endpoint, on_point_failure
):
    endpoint.faults = [Fault(Status(400), one_point, times=len(TITLES))]
    ours = SkeletonOfThoughtMiddleware(to_skeleton, options=SotOptions(on_point_failure=on_point_failure))
    with pytest.raises(ExpansionError, match=r"could (not )?be written"):
        await run(create_agent(model, [weather, soil], middleware=[ours]), LONG)
    endpoint.faults = [Fault(Status(400), one_point, times=len(TITLES))]
    again = ModelRetryMiddleware(max_retries=1, initial_delay=0)
    result = await run(create_agent(model, [weather, soil], middleware=[again, ours]), LONG)
    assert "**1. Choosing a spot**" in result["messages"][-1].text
    assert "missing" not in result["messages"][-1].text


async def test_a_router_that_is_late_does_not_hold_up_the_agent(run, model):
    go_on = threading.Event()

    def slow(question, history):
        go_on.wait(60)
        return "skeleton"

    try:
        result = await run(agent_of(model, router=slow, options=SotOptions(router_timeout=0.1)), LONG)
        assert not go_on.is_set()
    finally:
        go_on.set()
    assert result["messages"][-1].text == "It is 12 degrees."


async def test_a_router_that_fails_is_an_error_where_that_is_wanted(run, model):
    def broken(question, history):
        raise ValueError("no weights")

    with pytest.raises(RoutingError, match="no weights"):
        await run(agent_of(model, router=broken, options=SotOptions(on_router_failure="raise")), LONG)
    result = await run(agent_of(model, router=broken), LONG)
    assert result["messages"][-1].text == "It is 12 degrees."


def test_the_same_middleware_twice_is_refused_by_langchain(model):
    ours = SkeletonOfThoughtMiddleware(to_skeleton)
    for middleware in ([ours, ours], [ours, SkeletonOfThoughtMiddleware()]):
        with pytest.raises(AssertionError, match="duplicate middleware"):
            create_agent(model, [weather], middleware=middleware)


@pytest.mark.parametrize("outer", ["skeleton", "direct"])
@pytest.mark.parametrize("question", [LONG, SHORT], ids=["long", "short"])
async def test_of_two_around_each_other_the_outer_one_decides(run, model, endpoint, outer, question):
    class Inner(SkeletonOfThoughtMiddleware):
        pass

    def plain(**options):
        return agent_of(model, router=lambda question, history: outer, **options)

    both = plain(middleware=[Inner(to_skeleton)])
    expected = [message.text for message in (await run(plain(), question))["messages"]]
    calls = len(endpoint.requests)
    endpoint.reset()
    assert [message.text for message in (await run(both, question))["messages"]] == expected
    assert len(endpoint.requests) == calls
    events = [data async for _, data in both.astream(question, stream_mode="custom", subgraphs=True)]
    assert sum(event["type"] == "sot.answer" for event in events) == 1
    assert "".join([text async for text in astream_answer(both, question)]) == expected[-1]


async def test_a_frame_stands_around_the_agents_answer(run, model, endpoint):
    agent = agent_of(model, options=SotOptions(frame="intro+conclusion"))
    answer = (await run(agent, LONG))["messages"][-1].text
    assert not answer.startswith("**1. ")
    assert "\n\n**1. Choosing a spot**\n\n" in answer
    assert len(endpoint.requests) == 2 + len(TITLES) + 2
    assert "".join([text async for text in astream_answer(agent, LONG)]) == answer


async def test_an_agent_that_is_cut_off_pays_for_no_finished_point_again(model, endpoint, saver, cut_off):
    agent = agent_of(model, checkpointer=saver)
    await cut_off(agent, LONG, THREAD, is_held=lambda request: "<point>2. " in request.last_user, kept=2)
    result = await agent.ainvoke(None, THREAD)
    assert [one_point(one.request) for one in endpoint.requests] == [False, True]  # it decides again, then point 2
    assert result["messages"][-1].text.count("**") == 6


async def test_two_questions_of_one_thread_are_two_answers(run, model):
    agent = agent_of(model, checkpointer=InMemorySaver())
    await run(agent, LONG, THREAD)
    again = await run(agent, {"messages": [HumanMessage("And a garden in Rome?")]}, THREAD)
    answers = [message for message in again["messages"] if message.text.startswith("**1. ")]
    assert len(answers) == 2
    assert len({message.id for message in answers}) == 2


@pytest.mark.parametrize("mode", ["values", "messages"])
async def test_every_call_hangs_under_the_agents_model_in_one_trace(model, traced, mode):
    async for _ in agent_of(model).astream(LONG, {"callbacks": [traced]}, stream_mode=mode):
        pass
    calls = traced.paths("llm")
    points = [path for path in calls if path[-2].startswith("expand ")]
    assert len(points) == 3
    assert all(path[-4:-2] == ["model", "write the answer"] for path in points)
    assert [path[-2] for path in calls if path[-1] == "decide"] == ["skeleton of thought"] * 2
    assert sum(run.parent_run_id is None for run in traced.runs.values()) == 1


# --- Models, and what is wrong ---


async def test_a_model_without_tools_serves_an_agent_without_tools(run):
    def respond(messages):
        told = messages[-1].text
        if "Decide how to go on" in told:
            return "\n".join(f"{number}. {title}" for number, title in enumerate(TITLES, 1))
        return write(messages)

    write = answer_skeleton_of_thought(TITLES, "About {title}.")
    result = await run(agent_of(ScriptedChatModel(respond), tools=()), LONG)
    assert result["messages"][-1].text.startswith("**1. Choosing a spot**\n\nAbout Choosing a spot.")


class Unstreamed(BaseChatModel):
    """A model that has only `_generate`. It thinks before it answers."""

    _llm_type = "unstreamed"

    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=tools)

    def _generate(self, messages, stop=None, run_manager=None, tools=(), **kwargs):
        message = self._reply(messages, tools)
        message.usage_metadata = {"input_tokens": 7, "output_tokens": 1, "total_tokens": 8}
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _reply(self, messages, tools):
        if "one point" in messages[-1].text:
            return AIMessage("About it.")
        if tools and not any(message.type == "tool" for message in messages):
            return AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Oslo"}, "id": "w"}])
        thought = {"type": "thinking", "thinking": "Hm. " * 500, "signature": "s"}
        is_long = any("garden" in message.text for message in messages)
        text = "\n".join(f"{number}. {title}" for number, title in enumerate(TITLES, 1)) if is_long else "12 degrees."
        return AIMessage([thought, {"type": "text", "text": text}])


@pytest.mark.parametrize("mode", ["values", "messages"])
@pytest.mark.parametrize("world", ["stream", "astream"])
async def test_a_model_that_does_not_stream_serves_whoever_streams(mode, world):
    agent = agent_of(Unstreamed(), checkpointer=InMemorySaver())
    if world == "astream":
        parts = [part async for part in agent.astream(LONG, THREAD, stream_mode=[mode])]
    else:
        parts = await asyncio.to_thread(lambda: list(agent.stream(LONG, THREAD, stream_mode=[mode])))
    answer = (await agent.aget_state(THREAD)).values["messages"][-1]
    assert answer.text.startswith("**1. Choosing a spot**\n\nAbout it.")
    assert answer.usage_metadata["total_tokens"] == (1 + len(TITLES)) * 8
    if mode == "messages":
        assert "".join(data[0].text for _, data in parts if data[0].id == answer.id) == answer.text


async def test_what_a_model_thinks_before_a_short_answer_stays_in_its_message(run):
    message = (await run(agent_of(Unstreamed()), SHORT))["messages"][-1]
    assert [block["type"] for block in message.content] == ["thinking", "text"]
    assert message.text == "12 degrees."


async def test_a_model_that_takes_no_tools_under_an_agent_with_tools_is_a_clear_error(run):
    model = ScriptedChatModel(lambda messages: "Hello.")
    with pytest.raises(SotConfigError, match=r"agent has tools, and its model \(ScriptedChatModel\) takes none"):
        await run(agent_of(model), LONG)


def test_a_review_is_refused_when_it_is_made():
    with pytest.raises(SotConfigError, match="create_sot_tool"):
        SkeletonOfThoughtMiddleware(options=SotOptions(review_skeleton=True))


def test_without_langchain_the_error_says_what_to_install():
    code = (
        "import builtins, sys\n"
        "there = builtins.__import__\n"
        "def missing(name, *rest, **kwargs):\n"
        "    if name.split('.')[0] == 'langchain': raise ModuleNotFoundError(name)\n"
        "    return there(name, *rest, **kwargs)\n"
        "builtins.__import__ = missing\n"
        "import sot_graph\n"
        "sot_graph.create_sot_tool\n"
        "try:\n    sot_graph.SkeletonOfThoughtMiddleware\n"
        "except ImportError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "pip install 'sot-graph[agents]'" in ran.stdout
