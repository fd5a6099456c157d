"""What a provider is told of the part of a prompt that a run's calls share, and JSON that is asked for in words."""

import json
from typing import Any

import httpx2
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from sot_graph import SotOptions, SotPrompts, create_sot_graph
from sot_graph.llm.prompt_cache import PromptCache
from sot_graph.testing import Fault, Physics, SimulatedEndpoint, SkeletonResponder, Status

LONG = [HumanMessage("Hello. " * 1200), AIMessage("Hello!"), HumanMessage("How do plants grow?")]
SHORT = [HumanMessage("How do plants grow?")]
TITLES = ["Light", "Water", "Soil"]
SONNET, GPT = "claude-sonnet-5", "gpt-5.6-sol"


@pytest.fixture
def endpoint():
    responder = SkeletonResponder(titles=TITLES, words_per_point=12)
    with SimulatedEndpoint(responder, physics=Physics.instant()) as running:
        yield running


def bodies(endpoint):
    """The skeleton's request, and the points'."""
    first, *points = [entry.request.raw for entry in endpoint.requests]
    return first, points


def marks(body):
    """The places of marked messages, and their marks."""
    return [
        (place, name)
        for place, message in enumerate(body["messages"])
        for block in (message["content"] if isinstance(message["content"], list) else [])
        for name in ("cache_control", "prompt_cache_breakpoint")
        if name in block
    ]


def is_shared(first, points):
    """Whether the skeleton's request is, to the letter, the beginning of every point's."""
    begins = json.dumps(first["messages"])[:-1]
    others = {key: value for key, value in first.items() if key not in {"messages", "stream", "stream_options"}}
    assert not others.keys() & {"tools", "response_format", "tool_choice"}
    return all(
        json.dumps(point["messages"]).startswith(begins) and all(point[key] == value for key, value in others.items())
        for point in points
    )


async def ask(endpoint, messages, *, model="simulated", prompts=None, bound=None, **options: Any):
    chat = endpoint.chat_model(model=model)
    chat = chat.bind(**bound) if bound else chat
    graph = create_sot_graph(chat, options=SotOptions(**options), prompts=prompts)
    return await graph.ainvoke({"messages": messages})


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
@pytest.mark.parametrize("model", ["simulated", SONNET, GPT])
async def test_a_long_prompt_asks_for_json_in_words_so_that_every_point_begins_with_it(endpoint, model, dispatch):
    result = await ask(endpoint, LONG, model=model, dispatch=dispatch)
    assert [point["title"] for point in result["skeleton"]] == TITLES
    first, points = bodies(endpoint)
    assert len(points) == 3
    assert is_shared(first, points)


async def test_a_short_prompt_that_nobody_keeps_is_asked_for_with_a_schema_as_ever(endpoint):
    await ask(endpoint, SHORT, model=SONNET)
    first, points = bodies(endpoint)
    assert first["response_format"]["type"] == "json_schema"
    assert [marks(body) for body in (first, *points)] == [[]] * 4


@pytest.mark.parametrize(("model", "mark"), [(SONNET, "cache_control"), (GPT, "prompt_cache_breakpoint")])
@pytest.mark.parametrize("skeleton_format", ["structured", "list"])
async def test_the_mark_is_on_the_skeletons_turn_and_never_on_a_points(endpoint, model, mark, skeleton_format):
    await ask(endpoint, LONG, model=model, skeleton_format=skeleton_format)
    first, points = bodies(endpoint)
    turn = len(first["messages"]) - 1
    assert [marks(body) for body in (first, *points)] == [[(turn, mark)]] * 4


async def test_prompt_cache_off_marks_nothing(endpoint):
    await ask(endpoint, LONG, model=SONNET, prompt_cache="off")
    first, points = bodies(endpoint)
    assert [marks(body) for body in (first, *points)] == [[]] * 4


async def test_behind_a_schema_nothing_is_marked_because_nobody_could_read_it(endpoint):
    await ask(endpoint, LONG, model=SONNET, structured_mode="json_schema")
    first, points = bodies(endpoint)
    assert [marks(body) for body in (first, *points)] == [[]] * 4


async def test_points_of_a_given_skeleton_have_no_mark_since_no_call_went_before_them(endpoint):
    graph = create_sot_graph(endpoint.chat_model(model=SONNET))
    await graph.ainvoke({"messages": LONG, "given_skeleton": TITLES})
    assert [marks(entry.request.raw) for entry in endpoint.requests] == [[]] * 3


async def test_the_callers_marks_stay_and_there_are_four_at_most(endpoint):
    def marked(count):
        blocks = [{"type": "text", "text": f"Rule {i}.", "cache_control": {"type": "ephemeral"}} for i in range(count)]
        return [SystemMessage(blocks), *LONG]

    for count, expected in ((2, 3), (4, 4)):
        endpoint.reset()
        await ask(endpoint, marked(count), model=SONNET)
        first, points = bodies(endpoint)
        assert {len(marks(body)) for body in (first, *points)} == {expected}
        assert is_shared(first, points)


async def test_where_the_provider_marks_requests_itself_there_is_no_mark_of_ours(endpoint):
    await ask(endpoint, LONG, model=SONNET, bound={"extra_body": {"cache_control": {"type": "ephemeral"}}})
    first, points = bodies(endpoint)
    assert [marks(body) for body in (first, *points)] == [[]] * 4


async def test_a_breakpoint_of_the_callers_in_a_system_message_reaches_the_wire(endpoint):
    block = {"type": "text", "text": "Be kind.", "prompt_cache_breakpoint": {"mode": "explicit"}}
    await ask(endpoint, [SystemMessage([block]), *SHORT], model=GPT, skeleton_format="list")
    first, points = bodies(endpoint)
    assert [marks(body) for body in (first, *points)] == [[(0, "prompt_cache_breakpoint")]] * 4


async def test_json_in_words_is_validated_and_asked_for_again_and_a_list_is_the_fallback(endpoint):
    replies = iter(['{"points":["Only one"]}', '{"points":["Light","Water","Soil"]}'])
    write = endpoint.responder
    endpoint.responder = lambda request: write(request) if "<point>" in request.last_user else next(replies)
    result = await ask(endpoint, SHORT, structured_mode="prompt")
    assert [point["title"] for point in result["skeleton"]] == TITLES
    first, again = [entry.request.raw for entry in endpoint.requests[:2]]
    assert again["messages"][: len(first["messages"])] == first["messages"]
    assert again["messages"][-2]["content"] == '{"points":["Only one"]}'
    assert "at least 3" in again["messages"][-1]["content"]
    endpoint.reset()
    replies = iter(["No.", "No.", "1. Light\n2. Water\n3. Soil"])
    result = await ask(endpoint, SHORT, structured_mode="prompt")
    assert [point["title"] for point in result["skeleton"]] == TITLES
    assert len(endpoint.requests) == 6


async def test_where_schemas_were_refused_json_is_asked_for_in_words(endpoint):
    endpoint.faults = [
        Fault(Status(400, message="response_format is not supported"), lambda r: bool(r.response_format))
    ]
    graph = create_sot_graph(endpoint.chat_model())
    await graph.ainvoke({"messages": SHORT})
    endpoint.reset()
    await graph.ainvoke({"messages": SHORT})
    first, points = bodies(endpoint)
    assert len(points) == 3
    assert is_shared(first, points)
    assert 'JSON only: {"points"' in first["messages"][-1]["content"]


async def test_a_skeleton_prompt_that_does_not_ask_for_json_keeps_its_schema(endpoint):
    prompts = SotPrompts(skeleton="<question>{question}</question> Write a skeleton, as you were told.")
    await ask(endpoint, LONG, prompts=prompts)
    assert bodies(endpoint)[0]["response_format"]


async def test_one_key_a_run_goes_to_openai_alone_and_a_thread_keeps_its_own():
    seen = []

    def answer(request):
        body = json.loads(request.content)
        seen.append(body)
        text = "1. Light\n2. Water\n3. Soil" if len(seen) % 4 == 1 else "Text."
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return httpx2.Response(
            200, json={"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        )

    def model(**settings):
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        return ChatOpenAI(model="gpt-4o", api_key="any", http_async_client=client, **settings)

    async def keys(chat, config=None, **options):
        seen.clear()
        graph = create_sot_graph(chat, options=SotOptions(skeleton_format="list", stream=False, **options))
        await graph.ainvoke({"messages": SHORT}, config)
        assert len(seen) == 4
        return {body.get("prompt_cache_key") for body in seen}

    official, thread = model(), {"configurable": {"thread_id": "a"}}
    first, second = await keys(official), await keys(official)
    assert len(first) == len(second) == 1
    assert first.isdisjoint(second)
    assert await keys(official, thread) == await keys(official, thread) != {None}
    assert await keys(official.bind(prompt_cache_key="mine")) == {"mine"}
    assert await keys(official, prompt_cache="off") == {None}
    assert await keys(model(base_url="http://gateway.example/v1")) == {None}


@pytest.mark.parametrize(
    ("kind", "name", "minimum", "mark"),
    [
        ("ChatAnthropic", "claude-sonnet-5", 1024, "cache_control"),
        ("ChatAnthropic", "claude-haiku-4-5", 4096, "cache_control"),
        ("ChatAnthropic", "claude-opus-5", 512, "cache_control"),
        ("ChatBedrockConverse", "us.anthropic.claude-sonnet-4-5-v1:0", 1024, "cachePoint"),
        ("ChatBedrockConverse", "meta.llama3-70b", 1024, None),
        ("ChatGoogleGenerativeAI", "models/gemini-2.5-flash", 2048, None),
        ("ChatGoogleGenerativeAI", "gemini-3-pro", 4096, None),
        ("ChatDeepSeek", "deepseek-chat", 64, None),
        ("ChatOpenAI", "gpt-5.5", 1024, None),
        ("ChatOpenAI", "gpt-6", 1024, "prompt_cache_breakpoint"),
        ("ChatOpenRouter", "anthropic/claude-sonnet-5", 1024, "cache_control"),
        ("ChatGroq", "llama-4", 1024, None),
    ],
)
def test_each_provider_has_its_own_rule(kind, name, minimum, mark):
    found = PromptCache.of(type(kind, (), {"model_name": name})())
    assert found.minimum == minimum
    assert (found.mark or {}).keys() == ({mark} if mark else set())


def test_a_block_of_its_own_marks_the_turn_on_bedrock():
    cache = PromptCache(mark={"cachePoint": {"type": "default"}}, has_own_block=True)
    marked = cache.marked([HumanMessage("a"), AIMessage("b")], "a")
    assert marked[0].content == [{"type": "text", "text": "a"}, {"cachePoint": {"type": "default"}}]
    assert marked[1].content == "b"
