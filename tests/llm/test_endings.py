"""How a reply ends, whichever provider's word it is, and what becomes of one that is half."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk

from sot_graph import SkeletonError, SotOptions, astream_answer, create_sot_graph
from sot_graph.llm.call import BrokenStreamError, ModelCall
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.llm.reply import Reply, StreamedReply, UnfinishedReplyError
from sot_graph.llm.structured_output import to_completion
from sot_graph.llm.thoughts import ThoughtFilter
from sot_graph.testing import (
    Physics,
    Reply as Scripted,
    ScriptedChatModel,
    SimulatedEndpoint,
    SkeletonResponder,
    ToolCall,
    answer_skeleton_of_thought,
)
from tests.support.chat_requests import point_number

ASK = {"question": "How do plants grow?"}
WORDS: dict[str, list[dict[str, Any]]] = {
    "stop": [
        {"finish_reason": "stop"},
        {"finish_reason": "STOP"},
        {"stop_reason": "end_turn"},
        {"stopReason": "tool_use"},
        {"done_reason": "stop"},
        {"status": "completed"},
        {"finish_reason": "eos"},
    ],
    "length": [
        {"finish_reason": "length"},
        {"finish_reason": "MAX_TOKENS"},
        {"finish_reason": "model_length"},
        {"stop_reason": "max_tokens"},
        {"stopReason": "max_tokens"},
        {"done_reason": "length"},
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    ],
    "filtered": [
        {"finish_reason": "content_filter"},
        {"finish_reason": "SAFETY"},
        {"finish_reason": "RECITATION"},
        {"stopReason": "guardrail_intervened"},
        {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
        {"prompt_feedback": {"block_reason": "SAFETY"}},
    ],
    "refused": [{"stop_reason": "refusal"}],
    "broken": [{"finish_reason": "error"}, {"status": "failed"}, {"finish_reason": "insufficient_system_resource"}],
}


@pytest.mark.parametrize(
    ("ending", "metadata"), [(ending, word) for ending, words in WORDS.items() for word in words], ids=str
)
def test_each_providers_word_has_one_meaning(ending: str, metadata: dict[str, Any]):
    assert Reply.of(AIMessage("x", response_metadata=metadata)).ending == ending


def test_a_provider_that_says_nothing_is_told_apart():
    assert Reply.of(AIMessage("x")).ending is None
    assert Reply.of(AIMessage("x", additional_kwargs={"refusal": "no"})).ending == "refused"


def test_a_refusal_of_openais_responses_is_a_block_of_the_content():
    content = [{"type": "refusal", "refusal": "I can't help with that."}]
    assert Reply.of(AIMessage(content)).ending == "refused"
    assert Reply.of(AIMessage([{"type": "non_standard", "value": content[0]}])).ending == "refused"
    streamed = StreamedReply(ThoughtFilter(), with_tools=False, most_chars=1000)
    streamed.add(AIMessageChunk(content))
    streamed.finish()
    assert streamed.reply().ending == "refused"
    assert to_completion(streamed.reply()).choices[0].message.refusal == content[0]["refusal"]


@pytest.fixture
def endpoint():
    with SimulatedEndpoint(physics=Physics.instant()) as running:
        yield running


TITLES = ["Light", "Water", "Soil"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("ending", ["content_filter", "refusal"])
async def test_a_point_that_a_filter_ends_keeps_its_text_and_is_marked(endpoint, stream: bool, ending: str):
    answer = SkeletonResponder(titles=TITLES)

    def respond(request):
        reply = answer(request)
        if not point_number(2)(request):
            return reply
        return replace(reply, finish_reason=ending) if ending == "content_filter" else replace(reply, refusal="No.")

    endpoint.responder = respond
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(min_points=2, stream=stream))
    result = await graph.ainvoke(ASK)
    point = result["expansions"][1]
    if ending == "content_filter" or not stream:
        assert point["status"] == "failed"
        assert point["text"]
        assert "breaks off" in result["answer"]
        assert sum(point_number(2)(entry.request) for entry in endpoint.requests) == 1


async def test_a_direct_answer_that_a_filter_ends_is_marked(endpoint):
    endpoint.responder = lambda _: Scripted("Plants grow by", finish_reason="content_filter")
    graph = create_sot_graph(endpoint.chat_model(), router=lambda *_: "direct")
    streamed = "".join([text async for text in astream_answer(graph, ASK)])
    assert streamed == (await graph.ainvoke(ASK))["answer"]
    assert streamed.startswith("Plants grow by … *(")


@pytest.mark.parametrize("ending", ["length", "content_filter"])
async def test_half_a_title_is_no_point(endpoint, ending: str):
    def respond(request):
        if "numbered list" in request.text:
            return Scripted("1. Light\n2. Water\n3. Eat gr", finish_reason=ending)
        return SkeletonResponder(titles=TITLES)(request)

    endpoint.responder = respond
    options = SotOptions(min_points=2, skeleton_format="list")
    result = await create_sot_graph(endpoint.chat_model(), options=options).ainvoke(ASK)
    assert "Eat gr" not in [point["title"] for point in result["skeleton"]]


class JustEnds(ScriptedChatModel):
    """Streams its text, and no end."""

    def _chunks_of(self, message):
        for character in str(message.text):
            yield ChatGenerationChunk(message=AIMessageChunk(character))


async def test_a_stream_that_just_ends_is_broken_where_the_model_says_how_its_replies_end(make_run):
    model = LoopModel(JustEnds(lambda _: "Plants grow by"))
    call = ModelCall(model, "direct", make_run(), {}, {})
    assert (await call.ask([HumanMessage("x")], on_text=lambda _: None)).text == "Plants grow by"
    model.learn("direct", "stop", thinks_unopened=False)
    with pytest.raises(BrokenStreamError) as caught:
        await call.ask([HumanMessage("x")], on_text=lambda _: None)
    assert caught.value.text == "Plants grow by"
    assert isinstance(caught.value.__cause__, UnfinishedReplyError)


@pytest.mark.parametrize(
    ("cut", "on_text"),
    [("<think>On and on", lambda _: None), ("x" * 2000, lambda _: None), ("x" * 2000, None)],
    ids=["thought", "streamed", "whole"],
)
async def test_what_the_graph_cuts_says_nothing_of_how_the_model_ends_its_replies(make_run, cut: str, on_text: Any):
    model = LoopModel(JustEnds(lambda messages: str(messages[-1].text)))
    call = ModelCall(model, "direct", make_run(max_reply_chars=1000), {}, {})
    assert (await call.ask([HumanMessage(cut)], on_text=on_text)).ending == "length"
    assert (await call.ask([HumanMessage("Plants grow by")], on_text=lambda _: None)).text == "Plants grow by"


class ThinksApart(ScriptedChatModel):
    """Streams two pieces of a thought that are no text; then its connection breaks."""

    def _chunks_of(self, message):
        for _ in range(2):
            yield ChatGenerationChunk(message=AIMessageChunk("", additional_kwargs={"reasoning_content": "Hm."}))
        raise ConnectionError


@pytest.mark.parametrize(
    ("model", "on_text", "tokens"),
    [
        (GenericFakeChatModel(messages=iter([AIMessage("By the light.")])), None, 4),
        (GenericFakeChatModel(messages=iter([AIMessage("By the light.")])), lambda _: None, 4),
        (ThinksApart(lambda _: ""), lambda _: None, 2),
    ],
)
async def test_tokens_that_nobody_tells_are_estimated_streamed_or_not(make_run, model: Any, on_text: Any, tokens: int):
    run = make_run(max_retries=0)
    with suppress(ConnectionError):
        await ModelCall(LoopModel(model), "direct", run, {}, {}).ask([HumanMessage("Say why.")], on_text=on_text)
    used = run.meter.usage["direct"]
    assert (used["input_tokens"], used["output_tokens"], used["estimated"]) == (2, tokens, True)


async def test_a_reply_that_the_provider_calls_an_error_is_asked_for_again(endpoint):
    tries: list[int] = []

    def respond(_request):
        tries.append(1)
        return Scripted("Plants gr", finish_reason="error") if len(tries) == 1 else Scripted("Plants grow.")

    endpoint.responder = respond
    graph = create_sot_graph(
        endpoint.chat_model(), router=lambda *_: "direct", options=SotOptions(stream=False, max_retries=1)
    )
    assert (await graph.ainvoke(ASK))["answer"] == "Plants grow."


async def test_a_tools_call_that_goes_wrong_leads_to_a_list_from_then_on(endpoint):
    answer = SkeletonResponder(titles=TITLES)
    endpoint.responder = lambda request: (
        Scripted("", finish_reason="MALFORMED_FUNCTION_CALL") if request.tools else answer(request)
    )
    options = SotOptions(min_points=2, structured_mode="tools", max_retries=0)
    graph = create_sot_graph(endpoint.chat_model(), options=options)
    results = [await graph.ainvoke(ASK) for _ in range(2)]
    assert [[point["title"] for point in result["skeleton"]] for result in results] == [TITLES, TITLES]
    assert [result["usage"]["skeleton"]["calls"] for result in results] == [2, 1]


async def test_a_reply_that_never_ends_well_is_not_told_as_an_endpoint_that_is_not_there(endpoint):
    endpoint.responder = lambda _: Scripted("1. A", finish_reason="pause_turn")
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(max_retries=0))
    with pytest.raises(SkeletonError, match=r"^No skeleton: the model's reply ended too soon \(pause_turn\)\."):
        await graph.ainvoke(ASK)


async def test_text_before_a_tools_call_is_no_part_of_the_skeleton(endpoint):
    answer = SkeletonResponder(titles=TITLES)

    def respond(request):
        reply = answer(request)
        return replace(reply, text="1. First I call it.\n2. Then I wait.\n") if request.tools else reply

    endpoint.responder = respond
    for dispatch in ("send", "pipelined"):
        options = SotOptions(min_points=2, structured_mode="tools", dispatch=dispatch)
        result = await create_sot_graph(endpoint.chat_model(), options=options).ainvoke(ASK)
        assert [point["title"] for point in result["skeleton"]] == TITLES


async def test_points_as_a_json_string_cost_no_second_call(endpoint):
    answer = SkeletonResponder(titles=TITLES)
    endpoint.responder = lambda request: (
        Scripted(
            tool_calls=[ToolCall(request.tools[0]["function"]["name"], '{"points": "[\\"Light\\", \\"Water\\"]"}')]
        )
        if request.tools
        else answer(request)
    )
    options = SotOptions(min_points=2, structured_mode="tools")
    result = await create_sot_graph(endpoint.chat_model(), options=options).ainvoke(ASK)
    assert [point["title"] for point in result["skeleton"]] == ["Light", "Water"]
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize("mode", ["json_schema", "tools", "md_json"])
async def test_no_empty_message_of_the_models_is_ever_sent(endpoint, mode: str):
    endpoint.responder = lambda _: Scripted("")
    options = SotOptions(structured_mode=mode, max_reasks=2)
    with pytest.raises(SkeletonError):
        await create_sot_graph(endpoint.chat_model(), options=options).ainvoke(ASK)
    messages = [message for entry in endpoint.requests for message in entry.request.messages]
    assert all(message.get("content") or message.get("tool_calls") for message in messages)


async def test_a_hit_of_the_models_own_cache_is_no_call():
    model = ScriptedChatModel(answer_skeleton_of_thought(TITLES), cache=InMemoryCache())
    graph = create_sot_graph(model, options=SotOptions(min_points=2, stream=False))
    first, second = [(await graph.ainvoke(ASK))["usage"]["total"] for _ in range(2)]
    assert (first["calls"], first["cache_hits"]) == (4, 0)
    assert (second["calls"], second["cache_hits"]) == (0, 4)
    assert second["output_tokens"] == 0


@pytest.mark.parametrize("odd", [12.5, "twelve", -3, 2.0**70, True])
@pytest.mark.parametrize("stream", [True, False])
async def test_odd_counts_of_tokens_cost_no_answer(endpoint, odd: Any, stream: bool):
    usage = {"prompt_tokens": odd, "completion_tokens": 4, "total_tokens": odd, "prompt_tokens_details": odd}
    answer = SkeletonResponder(titles=TITLES)
    endpoint.responder = lambda request: replace(answer(request), usage=usage)
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(min_points=2, stream=stream))
    result = await graph.ainvoke(ASK)
    assert [point["status"] for point in result["expansions"]] == ["ok"] * 3
    assert result["usage"]["total"]["output_tokens"] == 16
    assert result["usage"]["total"]["input_tokens"] > 0
    assert result["usage"]["total"]["estimated"]


class SaysNothing(ScriptedChatModel):
    """Streams one empty piece, and no end."""

    def _chunks_of(self, message):
        yield ChatGenerationChunk(message=AIMessageChunk(""))


async def test_an_empty_stream_that_just_ends_may_be_asked_for_again(make_run):
    model = LoopModel(SaysNothing(lambda _: ""))
    model.learn("direct", "stop", thinks_unopened=False)
    call = ModelCall(model, "direct", make_run(max_retries=0), {}, {})
    with pytest.raises(UnfinishedReplyError):
        await call.ask([HumanMessage("x")], on_text=lambda _: None)
