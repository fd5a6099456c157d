"""Calls that break: on the way, in mid-stream, for good, or with nothing in the reply."""

import asyncio
import time

import pytest
from langchain_core.messages import AIMessage
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver

from sot_graph import ExpansionError, SkeletonError, SotConfigError, SotOptions, astream_answer, create_sot_graph
from sot_graph.testing import (
    CutOff,
    Empty,
    Fault,
    Garbage,
    HangUp,
    Refusal,
    Reply,
    Reset,
    ScriptedChatModel,
    SkeletonResponder,
    Stall,
    Status,
    answer_skeleton_of_thought,
)
from tests.support.chat_requests import one_point, point_number

ASK = {"question": "How do plants grow?"}


def tries_of(endpoint, number):
    return [logged for logged in endpoint.requests if point_number(number)(logged.request)]


@pytest.mark.parametrize("kind", [Status(500), Status(503), Reset(), HangUp()], ids=["500", "503", "reset", "hang-up"])
async def test_a_call_that_breaks_on_the_way_is_repeated(run, endpoint, kind):
    graph = create_sot_graph(endpoint.chat_model())
    whole = await run(graph, ASK)
    endpoint.reset()
    endpoint.faults = [Fault(kind, point_number(3), times=2)]
    result = await run(graph, ASK)
    assert result["answer"] == whole["answer"]  # no half text of a try that broke
    assert len(tries_of(endpoint, 3)) == 3
    assert result["usage"]["expansion"]["calls"] == 10


async def test_repeated_calls_wait_longer_each_time(endpoint):
    endpoint.faults = [Fault(Status(500), point_number(3), times=2)]
    await create_sot_graph(endpoint.chat_model()).ainvoke(ASK)
    first, second, third = tries_of(endpoint, 3)
    assert second.arrived_at - first.ended_at >= 0.25
    assert third.arrived_at - second.ended_at >= 0.5


async def test_a_server_that_wants_to_be_left_alone_for_a_day_is(run, endpoint):
    endpoint.faults = [Fault(Status(503, retry_after=86_400), point_number(3))]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert result["expansions"][2]["status"] == "failed"
    assert "HTTP 503" in result["expansions"][2]["error"]
    assert len(tries_of(endpoint, 3)) == 1


@pytest.mark.parametrize("after", [0, 20])
async def test_what_was_streamed_is_never_taken_back(endpoint, after):
    endpoint.faults = [Fault(HangUp(after_tokens=after), lambda r: point_number(2)(r) and r.stream, times=1)]
    graph = create_sot_graph(endpoint.chat_model())
    sent: dict[int, str] = {}
    answer = ""
    async for event in graph.astream(ASK, stream_mode="custom"):
        if event["type"] == "sot.point.delta":
            sent[event["index"]] = sent.get(event["index"], "") + event["text"]
        elif event["type"] == "sot.answer":
            answer = event["answer"]
    continued = [logged for logged in endpoint.requests if "broke off" in logged.request.last_user]
    assert len(tries_of(endpoint, 2)) + len(continued) == 2
    assert len(continued) == (1 if after == 20 else 0)
    for number in range(1, 9):
        assert f"**{number}. " in answer
        assert sent[number] in answer
    assert "breaks off" not in answer


async def test_a_continuation_is_shown_what_was_streamed_and_nothing_is_doubled(endpoint):
    """The second half, asked for alone, follows on the first to the letter."""
    whole = "one two three four five six seven eight nine ten"

    async def respond(request):
        if "broke off" in request.last_user:
            return Reply(whole.removeprefix(request.messages[-2]["content"]))
        return whole if point_number(2)(request) else SkeletonResponder(points=3)(request)

    endpoint.responder = respond
    endpoint.faults = [Fault(HangUp(after_tokens=6), lambda r: point_number(2)(r) and r.stream, times=1)]
    chunks = [text async for text in astream_answer(create_sot_graph(endpoint.chat_model()), ASK)]
    assert f"\n\n{whole}\n\n" in "".join(chunks)


async def test_a_streamed_point_whose_continuation_fails_too_keeps_its_text_and_is_marked(endpoint):
    endpoint.faults = [
        Fault(HangUp(after_tokens=20), lambda r: point_number(2)(r) and r.stream, times=1),
        Fault(Status(400), lambda r: "broke off" in r.last_user),
    ]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(on_point_failure="skip"))
    events = [event async for event in graph.astream(ASK, stream_mode=["custom", "values"])]
    expansion = events[-1][1]["expansions"][1]
    sent = "".join(
        e["text"] for mode, e in events if mode == "custom" and e["type"] == "sot.point.delta" and e["index"] == 2
    )
    assert expansion["status"] == "failed"
    assert expansion["text"] == sent != ""
    assert f"{sent} … *(This point breaks off here.)*" in events[-1][1]["answer"]


async def test_marked_by_default(run, endpoint):
    endpoint.faults = [Fault(Status(400, message="No."), point_number(3))]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert result["expansions"][2]["status"] == "failed"
    assert result["expansions"][2]["error"] == "No. (HTTP 400)"
    assert [expansion["status"] for expansion in result["expansions"]].count("ok") == 7
    title = result["skeleton"][2]["title"]
    assert f"**3. {title}**\n\n*(This point is missing: it could not be written.)*" in result["answer"]
    assert len(tries_of(endpoint, 3)) == 1


async def test_skipped_on_request(run, endpoint):
    endpoint.faults = [Fault(Status(400), point_number(3))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(on_point_failure="skip"))
    result = await run(graph, ASK)
    assert "**2. " in result["answer"]
    assert "**3. " not in result["answer"]
    assert "**4. " in result["answer"]


async def test_raised_on_request_after_all_siblings_have_finished(run, endpoint):
    """The others are held until the failing one has failed, and are written all the same."""
    endpoint.faults = [Fault(Status(400), point_number(3))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(on_point_failure="raise"))
    with endpoint.hold(8, lambda r: one_point(r) and not point_number(3)(r)) as held:
        task = asyncio.ensure_future(run(graph, ASK))
        await endpoint.wait_for_async(lambda log: any(one.outcome == "fault:status" for one in log))
        held.release()
        with pytest.raises(ExpansionError) as caught:
            await task
    raised_at = time.monotonic()
    assert [expansion["status"] for expansion in caught.value.expansions].count("ok") == 7
    assert [expansion["index"] for expansion in caught.value.failed] == [3]
    siblings = [logged for logged in endpoint.requests if one_point(logged.request)]
    assert len(siblings) == 8
    assert all(logged.ended_at is not None and logged.ended_at <= raised_at for logged in siblings)
    assert sorted(logged.outcome for logged in siblings) == ["fault:status"] + ["ok"] * 7


async def test_when_no_point_can_be_written_there_is_an_error_and_no_empty_answer(run, endpoint):
    endpoint.faults = [Fault(Status(400, message="No."), one_point)]
    with pytest.raises(ExpansionError, match=r"None of the 8 points.*No\.") as caught:
        await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert caught.value.usage["expansion"]["calls"] == 8
    # Who wants to show something all the same finds it there, as those have read it who listened.
    chunks = []

    async def read():
        async for text in astream_answer(create_sot_graph(endpoint.chat_model()), ASK):
            chunks.append(text)

    with pytest.raises(ExpansionError):
        await read()
    assert "".join(chunks) == caught.value.answer
    assert caught.value.answer.count("*(This point is missing: it could not be written.)*") == 8


@pytest.mark.parametrize(
    "kind", [Empty(), Reply("  \n "), Reply("**"), "title"], ids=["empty", "blank", "marks", "title"]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_point_that_says_nothing_is_asked_for_once_more_and_then_failed(run, endpoint, kind, stream):
    titles = ["Seed", "Soil", "Sun"]
    endpoint.responder = SkeletonResponder(titles=titles)
    endpoint.faults = [Fault(Reply("**2. Soil**\n\n") if kind == "title" else kind, point_number(2))]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(stream=stream))
    result = await run(graph, ASK)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "failed", "ok"]
    assert result["expansions"][1]["error"] == "the model wrote nothing for it, twice"
    assert len(tries_of(endpoint, 2)) == 2


async def test_a_point_that_says_something_the_second_time_is_whole(run, endpoint):
    endpoint.faults = [Fault(Empty(), point_number(2), times=1)]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert result["expansions"][1]["status"] == "ok"
    assert len(tries_of(endpoint, 2)) == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_a_point_that_the_model_declines_says_so(run, endpoint, stream):
    endpoint.faults = [Fault(Refusal(), point_number(2))]
    result = await run(create_sot_graph(endpoint.chat_model(), options=SotOptions(stream=stream)), ASK)
    assert result["expansions"][1]["error"].endswith(": the model declined")


def graph_without_a_skeleton(endpoint, **options):
    router = lambda question, history: "direct"  # noqa: E731
    return create_sot_graph(endpoint.chat_model(), router=router, options=SotOptions(**options))


@pytest.mark.parametrize("kind", [Empty(), Reply("**"), Refusal()], ids=["empty", "marks", "refused"])
@pytest.mark.parametrize("options", [{"stream": False}, {"stream": True}, {"speculative": "both"}], ids=str)
async def test_a_direct_answer_that_says_nothing_is_asked_for_once_more_and_then_an_error(run, endpoint, kind, options):
    answers_directly = lambda request: "skeleton" not in request.text  # noqa: E731
    endpoint.faults = [Fault(kind, answers_directly, times=1)]
    graph = graph_without_a_skeleton(endpoint, **options)
    result = await run(graph, ASK)
    assert result["answer"]
    assert result["usage"]["direct"]["calls"] == 2
    endpoint.faults = [Fault(kind, answers_directly)]
    with pytest.raises(SkeletonError, match="There is no answer: the model wrote nothing for it, twice"):
        await run(graph, ASK)


async def test_nothing_of_an_empty_direct_answer_is_read_before_the_other(endpoint):
    endpoint.faults = [Fault(Reply("** "), times=1)]
    graph = graph_without_a_skeleton(endpoint)
    text = "".join([text async for text in astream_answer(graph, ASK)])
    assert text
    assert "**" not in text


async def test_tokens_that_ran_out_before_the_first_word_are_told(run, endpoint):
    endpoint.faults = [Fault(Reply("", finish_reason="length"))]
    with pytest.raises(SkeletonError, match="its tokens ran out before the first word"):
        await run(graph_without_a_skeleton(endpoint), ASK)


async def test_a_reply_that_is_no_json_is_a_failure_that_says_so(run, endpoint):
    endpoint.faults = [Fault(Garbage(), point_number(2))]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert result["expansions"][1]["status"] == "failed"
    assert "JSON" in result["expansions"][1]["error"]


async def test_a_point_cut_off_by_max_tokens_keeps_its_text(run, endpoint):
    endpoint.faults = [Fault(CutOff(5), point_number(2))]
    result = await run(create_sot_graph(endpoint.chat_model()), ASK)
    assert result["expansions"][1]["status"] == "ok"
    assert result["expansions"][1]["text"]
    assert [expansion.get("truncated") for expansion in result["expansions"][:3]] == [None, True, None]
    assert len(tries_of(endpoint, 2)) == 1


async def test_all_texts_that_a_token_limit_cuts_off_are_told_in_one_warning(run, endpoint, warnings_of):
    endpoint.faults = [Fault(CutOff(5), point_number(2)), Fault(CutOff(5), point_number(3))]
    await run(create_sot_graph(endpoint.chat_model()), ASK)
    (warning,) = warnings_of()
    assert warning.startswith("Cut off at a token limit: point 2, point 3. Raise the model's max_tokens")


async def test_cut_texts_of_both_kinds_name_the_settings_of_both(run, endpoint, warnings_of):
    endpoint.faults = [Fault(CutOff(5), lambda request: one_point(request) or "conclusion" in request.last_user)]
    await run(create_sot_graph(endpoint.chat_model(), options=SotOptions(frame="intro+conclusion")), ASK)
    (warning,) = [each for each in warnings_of() if each.startswith("Cut off")]
    assert "the conclusion" in warning
    assert "SotPrompts.expansion_settings and frame_settings" in warning


async def test_a_direct_answer_that_a_token_limit_cuts_off_is_told(run, endpoint, warnings_of):
    endpoint.faults = [Fault(CutOff(5))]
    graph = create_sot_graph(endpoint.chat_model(), router=lambda question, history: "direct")
    await run(graph, ASK)
    assert "was cut off at a token limit" in warnings_of()[0]


@pytest.mark.parametrize("options", [SotOptions(), SotOptions(dispatch="pipelined"), SotOptions(frame="intro")])
async def test_an_answer_with_a_text_that_a_token_limit_cut_off_ends_with_length(run, endpoint, options):
    graph = create_sot_graph(endpoint.chat_model(), options=options)
    whole = await run(graph, ASK)
    endpoint.faults = [Fault(CutOff(5), point_number(2))]
    cut = await run(graph, ASK)
    for result, reason in ((whole, "stop"), (cut, "length")):
        assert result["finish_reason"] == reason
        assert result["messages"][-1].response_metadata["finish_reason"] == reason


@pytest.mark.parametrize("speculative", [False, "both"])
async def test_so_does_a_direct_answer(run, endpoint, speculative):
    graph = create_sot_graph(
        endpoint.chat_model(), router=lambda question, history: "direct", options=SotOptions(speculative=speculative)
    )
    assert (await run(graph, ASK))["finish_reason"] == "stop"
    endpoint.faults = [Fault(CutOff(5))]
    assert (await run(graph, ASK))["finish_reason"] == "length"


async def test_a_second_answer_of_a_thread_ends_as_it_does_itself(endpoint):
    endpoint.faults = [Fault(CutOff(5), point_number(2), times=1)]
    graph = create_sot_graph(endpoint.chat_model(), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    assert (await graph.ainvoke(ASK, config))["finish_reason"] == "length"
    reasons = [
        values["finish_reason"]
        async for values in graph.astream({"question": "And tides?"}, config, stream_mode="values")
        if "finish_reason" in values
    ]
    assert reasons[-2:] == [None, "stop"]


async def test_a_text_that_a_token_limit_cut_off_is_marked_in_its_event_and_kept_with_its_mark(endpoint):
    endpoint.faults = [Fault(CutOff(5), point_number(2), times=1)]
    graph = create_sot_graph(endpoint.chat_model())
    parts = [part async for part in graph.astream(ASK, stream_mode=["custom", "values"])]
    ends = {data["index"]: data for mode, data in parts if mode == "custom" and data["type"] == "sot.point.end"}
    assert [index for index, event in ends.items() if event.get("truncated")] == [2]
    again = await graph.ainvoke({**ASK, "given_expansions": parts[-1][1]["expansions"]})
    assert again["expansions"][1]["truncated"] is True


async def test_a_text_that_a_token_limit_cut_off_is_written_again_in_place_of_being_taken_from_the_cache(endpoint):
    endpoint.faults = [Fault(CutOff(5), point_number(2), times=1)]
    graph = create_sot_graph(endpoint.chat_model(), cache=InMemoryCache())
    cut = (await graph.ainvoke(ASK))["expansions"][1]
    whole = (await graph.ainvoke(ASK))["expansions"][1]
    assert cut["truncated"]
    assert "truncated" not in whole
    assert len(tries_of(endpoint, 2)) == 2


async def test_a_dead_endpoint_is_one_readable_error(run, endpoint):
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(max_retries=1))
    endpoint.stop()
    with pytest.raises(SkeletonError, match="could not be reached"):
        await run(graph, ASK)


async def test_a_direct_answer_that_fails_speaks_of_no_skeleton_and_says_where_to_look(run, endpoint):
    graph = graph_without_a_skeleton(endpoint, max_retries=0)
    endpoint.stop()
    with pytest.raises(SkeletonError, match=r"^There is no answer: the model could not be reached .* endpoint is up"):
        await run(graph, ASK)


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
@pytest.mark.parametrize("router", ["draft", lambda *_: "direct"], ids=["draft", "direct"])
async def test_an_answer_that_breaks_off_and_cannot_be_continued_says_so_whoever_began_it(endpoint, router, dispatch):
    endpoint.responder = lambda request: Reply("It is so because of this. And it is also so because of that, too.")
    goes_on = lambda request: "broke off" in request.last_user  # noqa: E731
    endpoint.faults = [Fault(Status(500), goes_on), Fault(HangUp(12))]
    options = SotOptions(max_retries=0, dispatch=dispatch, stream_max_delay=3600.0)
    graph = create_sot_graph(endpoint.chat_model(), router=router, options=options)
    shown = []

    async def read():
        async for text in astream_answer(graph, ASK):
            shown.append(text)

    with pytest.raises(SkeletonError, match=r"^The answer broke off, and the model could not go on with it: .*500"):
        await read()
    assert "".join(shown).startswith("It is so because of this. And")


@pytest.mark.parametrize("on_point_failure", ["mark", "skip"])
@pytest.mark.parametrize("then", [Status(500), Reply("", finish_reason="length")], ids=["fails", "again"])
async def test_a_point_without_a_text_is_not_cut_and_the_answer_ends_as_its_texts_do(
    run, endpoint, then, on_point_failure, warnings_of
):
    no_text = Reply("", finish_reason="length")
    endpoint.faults = [Fault(no_text, point_number(2), times=1), Fault(then, point_number(2))]
    options = SotOptions(max_retries=0, on_point_failure=on_point_failure)
    result = await run(create_sot_graph(endpoint.chat_model(), options=options), ASK)
    assert result["expansions"][1]["status"] == "failed"
    assert "truncated" not in result["expansions"][1]
    assert result["finish_reason"] == "stop"
    assert not any(warning.startswith("Cut off") for warning in warnings_of())


@pytest.mark.parametrize("make", [create_sot_graph, lambda model: create_sot_graph(model, router=lambda *_: "direct")])
async def test_a_base_url_that_leads_nowhere_is_told_how_it_mostly_ends(run, endpoint, make):
    endpoint.faults = [Fault(Status(404, message="Not Found"))]
    graph = make(endpoint.chat_model())
    with pytest.raises(SotConfigError, match="the base URL, which mostly ends in /v1"):
        await run(graph, ASK)
    endpoint.faults = [Fault(Status(404, message="The model `m` does not exist"))]
    with pytest.raises(SotConfigError, match=r"the model's name and the base URL\.(\n|$)"):
        await run(graph, ASK)


async def test_skipping_every_point_is_an_error_and_no_empty_answer(run, endpoint):
    endpoint.faults = [Fault(Stall(), one_point)]
    options = SotOptions(on_point_failure="skip", point_timeout=0.2)
    with pytest.raises(ExpansionError, match="None of the 8 points could be written: not finished") as caught:
        await run(create_sot_graph(endpoint.chat_model(), options=options), ASK)
    assert {expansion["status"] for expansion in caught.value.expansions} == {"timed_out"}


@pytest.mark.parametrize("skeleton_format", ["structured", "list"])
def test_a_finish_reason_of_any_shape_does_no_harm(skeleton_format):
    def respond(messages):
        reply = answer_skeleton_of_thought(["Seed", "Soil", "Sun"])(messages)
        return AIMessage(reply, response_metadata={"finish_reason": {"type": "stop"}})

    options = SotOptions(skeleton_format=skeleton_format)
    result = create_sot_graph(ScriptedChatModel(respond), options=options).invoke(ASK)
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok"] * 3
