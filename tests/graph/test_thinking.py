"""Models that think in their replies' text: the thought stands in nothing that comes of it, whatever the stage."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from sot_graph import ModelRouter, SkeletonError, SotOptions, astream_answer, create_sot_graph
from sot_graph.llm.thoughts import ThoughtFilter
from sot_graph.testing import Fault, Reply, ScriptedChatModel, SkeletonResponder, Status, answer_skeleton_of_thought
from sot_graph.writing.cleaner import TextCleaner
from sot_graph.writing.writer import GrowingText
from tests.support.chat_requests import point_number

ASK = {"question": "How do plants grow?"}
TITLES = ["Light", "Water", "Soil", "Air"]
THOUGHTS = {
    "tags": "<think>\nOkay.\n1. A thing.\n2. Another thing.\n3. A third.\n</think>\n\n",
    "closing tag": "Okay, the user asks.\n1. A thing.\n2. Another thing.\n</think>\n\n",
    "channels": "<|channel|>analysis<|message|>1. A thing.<|end|><|start|>assistant<|channel|>final<|message|>",
    "long": f"<think>{'Hm, let me see. ' * 300}</think>",
    "empty": "<think>\n\n</think>\n\n",
}
FORMS = {
    "structured": SotOptions(min_points=2, frame="intro+conclusion"),
    "list": SotOptions(min_points=2, skeleton_format="list"),
    "pipelined": SotOptions(min_points=2, dispatch="pipelined"),
    "pipelined list": SotOptions(min_points=2, dispatch="pipelined", skeleton_format="list"),
}


class ByCharacter(ScriptedChatModel):
    """Streams single characters."""

    def _chunks_of(self, message: AIMessage) -> Iterator[ChatGenerationChunk]:
        for character in str(message.text):
            yield ChatGenerationChunk(message=AIMessageChunk(character))
        yield ChatGenerationChunk(message=AIMessageChunk("", response_metadata={"finish_reason": "stop"}))


def thinking(thought):
    answer = SkeletonResponder(titles=TITLES)

    def respond(request):
        reply = answer(request)
        return replace(reply, text=thought + reply.text) if reply.text else reply

    return respond


def by_character(thought):
    answer = answer_skeleton_of_thought(TITLES)
    return ByCharacter(lambda messages: thought + answer(messages))


async def told(graph):
    return "".join([text async for text in astream_answer(graph, ASK)])


@pytest.mark.parametrize("thought", THOUGHTS.values(), ids=THOUGHTS)
@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
async def test_points_and_titles_are_those_of_a_model_that_does_not_think(run, endpoint, thought, options):
    endpoint.responder = thinking(thought)
    result = await run(create_sot_graph(endpoint.chat_model(), options=options))
    requests = len(endpoint.requests)
    endpoint.responder = SkeletonResponder(titles=TITLES)
    expected = await run(create_sot_graph(endpoint.chat_model(), options=options))
    assert [point["title"] for point in result["skeleton"]] == TITLES
    assert result["answer"] == expected["answer"]
    assert requests == len(endpoint.requests) - requests


@pytest.mark.parametrize("thought", THOUGHTS.values(), ids=THOUGHTS)
@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
async def test_the_same_holds_while_it_streams(endpoint, thought, options):
    endpoint.responder = thinking(thought)
    answer = await told(create_sot_graph(endpoint.chat_model(), options=options))
    assert await told(create_sot_graph(by_character(thought), options=options))
    endpoint.responder = SkeletonResponder(titles=TITLES)
    assert answer == await told(create_sot_graph(endpoint.chat_model(), options=options))


@pytest.mark.parametrize("thought", THOUGHTS.values(), ids=THOUGHTS)
@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
async def test_the_same_holds_in_single_characters(thought, options):
    answer = await told(create_sot_graph(by_character(thought), options=options))
    assert answer == await told(create_sot_graph(by_character(""), options=options))


@pytest.mark.parametrize("thought", THOUGHTS.values(), ids=THOUGHTS)
async def test_a_direct_answer_begins_with_its_text(endpoint, thought):
    endpoint.responder = lambda _: thought + "Because of light."
    for model in (endpoint.chat_model(), ByCharacter(lambda _: thought + "Because of light.")):
        graph = create_sot_graph(model, router=lambda *_: "direct")
        assert await told(graph) == "Because of light."
        assert (await graph.ainvoke(ASK))["answer"] == "Because of light."


async def test_a_router_reads_what_follows_the_thought(endpoint):
    endpoint.responder = lambda request: "<think>Hm.</think>" + ('{"kind":"C"}' if request.max_tokens else "Yes.")
    result = await create_sot_graph(endpoint.chat_model(), router=ModelRouter()).ainvoke(ASK)
    assert result["answer"] == "Yes."
    assert "(C)" in result["route_reason"]


def sorts(reply, *, kept_apart=False):
    """A model that thinks before each reply; the endpoint cuts it off at the request's limit."""
    thought = f"<think>{'Hm, let me see. ' * 40}</think>"

    def respond(request):
        if "Which letter?" not in request.last_user:
            return f"{thought}Yes."
        if kept_apart and request.max_tokens:
            return Reply("", finish_reason="length")
        return thought + reply

    return respond


@pytest.mark.parametrize("kept_apart", [False, True])
async def test_a_router_gives_a_model_that_thinks_room_to_and_remembers_it(run, endpoint, kept_apart):
    endpoint.responder = sorts('{"kind":"C"}', kept_apart=kept_apart)
    graph = create_sot_graph(endpoint.chat_model(), router=ModelRouter())
    results = [await run(graph), await run(graph)]
    assert all("(C)" in result["route_reason"] for result in results)
    assert [result["usage"]["route"]["calls"] for result in results] == [2, 1]


async def test_a_router_asks_a_model_that_only_talks_for_its_letter_at_length_but_once(run, endpoint):
    endpoint.responder = sorts("Well, that depends.")
    graph = create_sot_graph(endpoint.chat_model(), router=ModelRouter())
    results = [await run(graph), await run(graph)]
    assert all("in place of a letter" in result["route_reason"] for result in results)
    assert [result["usage"]["route"]["calls"] for result in results] == [2, 1]


async def test_a_router_gives_it_room_after_a_question_that_was_declined(run, endpoint):
    sort = sorts('{"kind":"C"}')
    declined = Reply("I can't", finish_reason="content_filter")
    endpoint.responder = lambda request: declined if "poison" in request.text else sort(request)
    graph = create_sot_graph(endpoint.chat_model(), router=ModelRouter())
    poison = await run(graph, {"question": "How does a poison work?"})
    assert "in place of a letter" in poison["route_reason"]
    results = [await run(graph), await run(graph)]
    assert all("(C)" in result["route_reason"] for result in results)
    assert [result["usage"]["route"]["calls"] for result in (poison, *results)] == [1, 2, 1]


async def test_a_router_asks_without_its_limit_where_the_provider_refuses_that(run, endpoint):
    said = "`max_tokens` must be greater than `thinking.budget_tokens`"
    endpoint.responder = lambda request: '{"kind":"C"}' if "Which letter?" in request.last_user else "Yes."
    endpoint.faults = [Fault(Status(400, message=said), lambda request: request.max_tokens is not None)]
    graph = create_sot_graph(endpoint.chat_model(), router=ModelRouter())
    results = [await run(graph), await run(graph)]
    assert all("(C)" in result["route_reason"] for result in results)
    assert [result["usage"]["route"]["calls"] for result in results] == [2, 1]


async def test_the_first_token_is_the_first_of_the_text(make_run):
    piece_of = iter(["<think>", "Hm.", "</think>", "Because", " of light."])
    moments = iter(range(100))
    draft = GrowingText(TextCleaner, lambda _: None, longest_delay=0, now=lambda: next(moments))
    thoughts = ThoughtFilter()
    begun = [draft.write(thoughts.feed(piece)) or draft.first_text_at for piece in piece_of]
    assert begun == [None, None, None, 0, 0]


@pytest.mark.parametrize("thought", ["<think>1. Hm.\n2. So", "<|channel|>analysis<|message|>Hm."])
async def test_a_thought_without_an_end_is_asked_for_once_more_and_then_failed(run, endpoint, thought):
    answer = SkeletonResponder(titles=TITLES)

    def respond(request):
        return Reply(thought, finish_reason="length") if point_number(2)(request) else answer(request)

    endpoint.responder = respond
    result = await run(create_sot_graph(endpoint.chat_model(), options=SotOptions(min_points=2)))
    point = result["expansions"][1]
    assert (point["status"], point["text"]) == ("failed", "")
    assert "tokens ran out" in point["error"]
    assert sum(point_number(2)(entry.request) for entry in endpoint.requests) == 2


async def test_where_a_server_takes_the_text_for_thoughts_the_error_says_what_to_do(run, endpoint):
    usage = {"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 60}
    answer = SkeletonResponder(titles=TITLES)
    endpoint.responder = lambda request: Reply("", usage=usage) if point_number(2)(request) else answer(request)
    result = await run(create_sot_graph(endpoint.chat_model(), options=SotOptions(min_points=2)))
    assert "its tokens went into thoughts (then turn its thinking off)" in result["expansions"][1]["error"]


async def test_where_only_thoughts_come_the_error_says_so(run, endpoint):
    endpoint.responder = lambda _: Reply("<think>Hm", finish_reason="length")
    with pytest.raises(SkeletonError, match="tokens ran out"):
        await run(create_sot_graph(endpoint.chat_model()))


@pytest.mark.parametrize("name", ["deepseek-r1:8b", "Qwen/QwQ-32B", "Qwen3-4B-Thinking-2507", "Phi-4-reasoning"])
async def test_a_model_whose_name_says_that_it_thinks_shows_no_thought_in_its_first_reply(endpoint, name):
    endpoint.responder = lambda _: "Roots come first.\n</think>\n\nBecause of light."
    graph = create_sot_graph(endpoint.chat_model(model=name), router=lambda *_: "direct")
    assert [await told(graph), await told(graph)] == ["Because of light."] * 2


async def test_a_reply_of_one_that_keeps_its_thoughts_apart_is_live_from_the_second_on(endpoint):
    endpoint.responder = lambda _: "Because of light, water and air."
    graph = create_sot_graph(
        endpoint.chat_model(model="grok-4-reasoning"),
        router=lambda *_: "direct",
        options=SotOptions(stream_max_delay=0),
    )
    chunks = [[text async for text in astream_answer(graph, ASK)] for _ in range(2)]
    assert [len(each) > 1 for each in chunks] == [False, True]


async def test_a_model_that_thinks_for_the_skeleton_alone_shows_no_thought_whatever_its_points_did():
    answer = answer_skeleton_of_thought(TITLES)
    model = ByCharacter(
        lambda messages: ("" if "<point>" in str(messages[-1].content) else THOUGHTS["closing tag"]) + answer(messages)
    )
    graph = create_sot_graph(model, options=FORMS["pipelined list"])
    told_titles = [[point["title"] for point in (await graph.ainvoke(ASK))["skeleton"]] for _ in range(2)]
    assert told_titles == [TITLES] * 2


@pytest.mark.parametrize("form", [None, "pipelined", "pipelined list"])
async def test_a_model_that_closes_what_it_never_opened_is_known_from_its_skeleton(endpoint, form):
    thought = "First I look at the roots.\n</think>\n"  # none of the words by which a thought is known
    endpoint.responder = thinking(thought)
    options = SotOptions(min_points=2) if form is None else FORMS[form]
    answer = await told(create_sot_graph(endpoint.chat_model(), options=options))
    assert "roots" not in answer
    assert "think" not in answer


async def test_thoughts_that_the_provider_counts_are_told_apart(run, endpoint):
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 50,
        "total_tokens": 60,
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    answer = SkeletonResponder(titles=TITLES)
    endpoint.responder = lambda request: replace(answer(request), usage=usage)
    result = await run(create_sot_graph(endpoint.chat_model(), options=SotOptions(min_points=2)))
    assert result["usage"]["skeleton"]["reasoning_tokens"] == 40
    assert result["usage"]["total"]["reasoning_tokens"] == 200
    assert result["usage"]["total"]["output_tokens"] == 250
    assert result["messages"][-1].usage_metadata["output_token_details"]["reasoning"] == 200
