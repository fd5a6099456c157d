"""The scripted model and the rendezvous."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from sot_graph import ModelRouter, create_sot_graph
from sot_graph.errors import SotConfigError
from sot_graph.testing import (
    ChatRequest,
    Rendezvous,
    RendezvousError,
    ScriptedChatModel,
    SkeletonResponder,
    answer_skeleton_of_thought,
    split_tokens,
)


def shout(messages: list[BaseMessage]) -> str:
    return str(messages[-1].text).upper()


@pytest.mark.parametrize("given", [None, 3])
def test_a_responder_that_returns_no_answer_is_told_so(given):
    with pytest.raises(SotConfigError, match=r"ScriptedChatModel returned .*a text or an AIMessage"):
        ScriptedChatModel(lambda messages: given).invoke("Why?")


def test_a_responders_text_may_be_a_template():
    responder = SkeletonResponder(titles=["Seed", "Soil"], text="{number}: about {title}.")
    request = ChatRequest({"messages": [{"role": "user", "content": "<point>2. Soil</point>"}]})
    assert responder(request).text == "2: about Soil."


async def test_it_answers_by_what_is_asked_in_all_four_ways():
    model = ScriptedChatModel(shout)
    text = "Why is it so?"
    streamed = [part.text for part in model.stream(text)]
    astreamed = [part.text async for part in model.astream(text)]

    assert model.invoke(text).text == (await model.ainvoke(text)).text == "WHY IS IT SO?"
    assert [part for part in streamed if part] == split_tokens("WHY IS IT SO?")
    assert [part for part in astreamed if part] == split_tokens("WHY IS IT SO?")


def test_usage_follows_the_token_rule_whole_and_streamed():
    model = ScriptedChatModel(lambda _: '{"points":["a"]}')
    total: AIMessageChunk | None = None
    for part in model.stream("Plan this, please."):
        total = part if total is None else total + part

    assert total is not None
    for message in (model.invoke("Plan this, please."), total):
        assert message.usage_metadata == {"input_tokens": 5, "output_tokens": 4, "total_tokens": 9}
        assert message.response_metadata["finish_reason"] == "stop"


def test_chunks_may_hold_several_tokens():
    model = ScriptedChatModel(lambda _: "one two three", chunk=2)

    assert [part.text for part in model.stream("?") if part.text] == ["one two ", "three"]


def test_the_delay_comes_before_the_answer():
    start = time.monotonic()
    ScriptedChatModel(shout, delay=0.02).invoke("?")

    assert time.monotonic() - start >= 0.02


async def test_an_exception_is_raised_in_all_four_ways():
    model = ScriptedChatModel(lambda _: LookupError("not here"))
    with pytest.raises(LookupError, match="not here"):
        model.invoke("?")
    with pytest.raises(LookupError):
        await model.ainvoke("?")
    with pytest.raises(LookupError):
        list(model.stream("?"))
    with pytest.raises(LookupError):
        [part async for part in model.astream("?")]


async def test_a_responder_may_be_a_coroutine_even_in_a_call_that_is_not_async():
    async def answer(messages: list[BaseMessage]) -> str:
        await asyncio.sleep(0)
        return shout(messages)

    model = ScriptedChatModel(answer)

    assert (await asyncio.to_thread(model.invoke, "a")).text == (await model.ainvoke("a")).text == "A"
    assert model.invoke("in a running loop").text == "IN A RUNNING LOOP"


def test_a_message_with_tool_calls_survives_a_stream():
    call = {"name": "plan", "args": {"points": ["a"]}, "id": "1", "type": "tool_call"}
    model = ScriptedChatModel(lambda _: AIMessage("", tool_calls=[call]))
    total: AIMessageChunk | None = None
    for part in model.stream("?"):
        total = part if total is None else total + part

    assert total is not None
    assert total.tool_calls == model.invoke("?").tool_calls == [call]


def test_an_answer_that_is_given_twice_is_two_messages():
    answer = AIMessage("Always this.")
    model = ScriptedChatModel(lambda _: answer)
    first = model.invoke("a")
    first.response_metadata["mine"] = True

    assert "mine" not in model.invoke("a").response_metadata
    assert answer.usage_metadata is None


def test_calls_are_recorded_with_what_was_bound():
    model = ScriptedChatModel(shout)
    model.bind(response_format={"type": "json_object"}).invoke("a", stop=["!"])
    [call] = model.calls

    assert call.messages[0].text == "a"
    assert (call.stop, call.kwargs) == (["!"], {"response_format": {"type": "json_object"}})


def test_the_scripted_answers_have_one_for_a_model_router():
    model = ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil", "Sun"]))
    result = create_sot_graph(model, router=ModelRouter()).invoke({"question": "How do plants grow?"})
    assert result["route"] == "skeleton"
    assert result["route_reason"] == "the model sees a list of independent points (A)"


def test_it_has_no_tool_support():
    assert ScriptedChatModel.bind_tools is BaseChatModel.bind_tools


def test_it_stops_at_a_stop_string():
    assert ScriptedChatModel(lambda _: "one two three").invoke("?", stop=[" three", " two"]).text == "one"


def test_the_default_responder_answers_any_stage():
    model = ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil"], "{number}: about {title}."))

    assert model.invoke("Write the skeleton as a numbered list.").text == "1. Seed\n2. Soil"
    assert model.invoke('A skeleton, as JSON: {"points": ["title"]}').text == '{"points":["Seed","Soil"]}'
    assert model.invoke("Write this point: 2. Soil").text == "2: about Soil."
    answers = ScriptedChatModel(answer_skeleton_of_thought(points=3, words_per_point=4))
    assert len(answers.invoke("Why?").text.split()) == 12


async def until_waiting(meeting: Rendezvous) -> None:
    while not meeting.waiting:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)


def test_a_rendezvous_works_across_threads_and_loops():
    meeting = Rendezvous(3, timeout=30)
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(asyncio.run, meeting.arrive()) for _ in range(3)]:
            done.result()

    assert meeting.complete
    asyncio.run(meeting.arrive())


def test_a_rendezvous_inside_a_sync_model_proves_that_threads_overlap():
    meeting = Rendezvous(2, timeout=30)

    async def answer(_messages: list[BaseMessage]) -> str:
        await meeting.arrive()
        return "together"

    model = ScriptedChatModel(answer)
    with ThreadPoolExecutor(2) as pool:
        assert [answer.text for answer in pool.map(model.invoke, "ab")] == ["together", "together"]
    assert len(model.calls) == 2


async def test_those_who_come_one_after_the_other_get_an_error_and_so_do_later_ones():
    meeting = Rendezvous(2, timeout=0.01)
    with pytest.raises(RendezvousError, match="1 of 2") as error:
        await meeting.arrive()
    with pytest.raises(RendezvousError):
        await meeting.arrive()

    assert (error.value.expected, error.value.arrived, meeting.complete) == (2, 1, False)


async def test_one_who_leaves_does_not_count():
    meeting = Rendezvous(2, timeout=30)
    leaver = asyncio.create_task(meeting.arrive())
    await until_waiting(meeting)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver

    assert meeting.waiting == 0
    await asyncio.gather(meeting.arrive(), meeting.arrive())
    assert meeting.complete


async def test_a_released_rendezvous_lets_everybody_pass():
    meeting = Rendezvous(2, timeout=30)
    waiter = asyncio.create_task(meeting.arrive())
    await until_waiting(meeting)
    threading.Thread(target=meeting.release).start()
    await waiter
    await meeting.arrive()

    assert not meeting.complete


def test_a_rendezvous_of_nobody_is_refused():
    with pytest.raises(SotConfigError):
        Rendezvous(0)
