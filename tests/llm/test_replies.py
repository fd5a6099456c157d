"""Requests and replies go through the graph's copy of a client: what comes out is what the caller's own model gives."""

import asyncio
import json
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI

from sot_graph import SotOptions, create_sot_graph
from sot_graph.llm.call import ModelCall
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.llm.openai_client import reply_char_limit
from sot_graph.testing import Physics, Reply, SimulatedEndpoint, SkeletonResponder, ToolCall
from tests.support.http_errors import openai_http

ASK = [HumanMessage("Why is the sky blue?")]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "Answer", "schema": {"type": "object", "properties": {}}, "strict": True},
}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
REPLIES = {
    "text": Reply("Because of Rayleigh scattering.", cached_tokens=3),
    "nothing": Reply(""),
    "cut off": Reply("Because of", finish_reason="length"),
    "filtered": Reply("", finish_reason="content_filter"),
    "refused": Reply(refusal="I won't say."),
    "tools": Reply(tool_calls=[ToolCall("look_up", {"what": "sky"}), ToolCall("look_up", {"what": "blue"})]),
    "text and a tool": Reply("Let me see.", tool_calls=[ToolCall("look_up", {"what": "sky"})]),
    "usage of another provider": Reply(
        "Because.", usage={"prompt_tokens": 5, "completion_tokens": None, "total_tokens": 9, "cost": 0.1}
    ),
}


class Typed(ChatOpenAI):
    """As packages for other providers are: it reads a field of theirs from the reply."""

    def _create_chat_result(self, response: Any, generation_info: Any = None) -> Any:
        result = super()._create_chat_result(response, generation_info)
        result.generations[0].message.additional_kwargs["read"] = response.choices[0].message.content
        return result


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    with SimulatedEndpoint(physics=Physics.instant()) as running:
        yield running


@pytest.fixture
def model(endpoint: SimulatedEndpoint) -> ChatOpenAI:
    return endpoint.chat_model()


def told(message: AIMessage) -> dict[str, Any]:
    """What of a message is the model's, and not made up for this one call."""
    extra = {name: value for name, value in message.additional_kwargs.items() if value is not None}
    metadata = message.response_metadata
    return {
        "content": message.content,
        "tool_calls": [(call["name"], call["args"]) for call in message.tool_calls],
        "usage": message.usage_metadata,
        "finish_reason": metadata.get("finish_reason"),
        "model_name": metadata.get("model_name"),
        "extra": {name: value for name, value in extra.items() if name not in {"tool_calls", "parsed"}},
    }


async def streamed(runnable: Any) -> AIMessage:
    gathered = None
    async for chunk in runnable.astream(ASK):
        gathered = chunk if gathered is None else gathered + chunk
    assert gathered is not None
    return gathered


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
async def test_a_reply_says_what_it_says_to_the_callers_own_model(endpoint, model, reply):
    endpoint.responder = lambda _: reply
    loop_model = LoopModel(model)
    here = await loop_model.for_running_loop()
    assert told(await here.ainvoke(ASK)) == told(await model.ainvoke(ASK))


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
async def test_so_does_a_streamed_one(endpoint, model, reply):
    endpoint.responder = lambda _: reply
    loop_model = LoopModel(model)
    here = await loop_model.for_running_loop()
    expected = told(await streamed(model.bind(tools=[TOOL])))
    if reply.refusal:  # of which LangChain tells nothing where it is streamed
        expected["finish_reason"] = "refusal"
    assert told(await streamed(here.bind(tools=[TOOL]))) == expected


@pytest.mark.parametrize("name", ["text", "nothing", "refused"])
async def test_so_does_one_to_a_schema(endpoint, model, name):
    endpoint.responder = lambda _: REPLIES[name]
    loop_model = LoopModel(model)
    here = await loop_model.for_running_loop()
    expected = told(await model.bind(response_format=SCHEMA).ainvoke(ASK))
    assert told(await here.bind(response_format=SCHEMA).ainvoke(ASK)) == expected
    whole = told(await streamed(here.bind(response_format=SCHEMA)))
    assert (whole["content"], whole["extra"]) == (expected["content"], expected["extra"])
    assert whole["usage"] == expected["usage"]


@pytest.mark.parametrize("name", ["cut off", "filtered"])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_one_to_a_schema_that_has_no_whole_json_is_a_reply_like_any_other(
    endpoint, model, make_run, name, is_streamed
):
    endpoint.responder = lambda _: REPLIES[name]
    task = make_run()
    call = ModelCall(LoopModel(model), "skeleton", task, {}, {"response_format": SCHEMA})
    pieces: list[str] = []
    reply = await call.ask(ASK, on_text=pieces.append if is_streamed else None)
    assert (reply.text, reply.ending) == (REPLIES[name].text, "length" if name == "cut off" else "filtered")
    assert task.meter.usage["skeleton"]["calls"] == len(endpoint.requests) == 1


async def test_a_class_of_another_package_gets_the_objects_that_it_reads(endpoint):
    endpoint.responder = lambda _: "Because."
    model = Typed(model="simulated", base_url=endpoint.base_url, api_key="any")
    loop_model = LoopModel(model)
    here = await loop_model.for_running_loop()
    assert (await here.ainvoke(ASK)).additional_kwargs["read"] == "Because."
    assert (await streamed(here)).content == "Because."
    assert (await here.bind(response_format=SCHEMA).ainvoke(ASK)).content == "Because."


@pytest.mark.parametrize("mode", ["json_schema", "tools"])
async def test_a_class_of_another_package_is_pipelined_by_one_call_for_the_skeleton(endpoint, mode):
    endpoint.responder = SkeletonResponder(titles=["Light", "Water"])
    model = Typed(model="simulated", base_url=endpoint.base_url, api_key="any")
    options = SotOptions(min_points=2, dispatch="pipelined", structured_mode=mode, stream=True)
    result = await create_sot_graph(model, options=options).ainvoke({"question": "How do plants grow?"})
    assert [point["title"] for point in result["skeleton"]] == ["Light", "Water"]
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize("kind", [ChatOpenAI, Typed])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("headers", [False, True])
async def test_odd_counts_of_tokens_make_no_message_impossible(endpoint, kind, stream, headers):
    usage = {"prompt_tokens": 12.5, "completion_tokens": "many", "total_tokens": -1}
    endpoint.responder = lambda _: Reply("Because.", usage=usage)
    settings = {"stream_usage": True, "include_response_headers": headers}
    loop_model = LoopModel(kind(model="simulated", base_url=endpoint.base_url, api_key="any", **settings))
    here = await loop_model.for_running_loop()
    message = await streamed(here) if stream else await here.ainvoke(ASK)
    assert message.content == "Because."


@pytest.mark.parametrize("kind", [ChatOpenAI, Typed])
async def test_a_reply_whose_headers_are_wanted_has_them(endpoint, kind):
    endpoint.responder = lambda _: "Because."
    model = kind(model="simulated", base_url=endpoint.base_url, api_key="any", include_response_headers=True)
    loop_model = LoopModel(model)
    here = await loop_model.for_running_loop()
    message = await here.ainvoke(ASK)
    assert message.response_metadata["headers"]["content-type"].startswith("application/json")
    message = await streamed(here)
    assert message.response_metadata["headers"]["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("headers", [False, True])
async def test_a_streamed_call_of_a_tool_is_bounded(endpoint, headers):
    endpoint.responder = lambda _: Reply(tool_calls=[ToolCall("look_up", "a" * 5_000)])
    loop_model = LoopModel(endpoint.chat_model(include_response_headers=headers))
    here = (await loop_model.for_running_loop()).bind(tools=[TOOL])
    context = copy_context()
    context.run(reply_char_limit.set, 10_000)
    message = await asyncio.create_task(streamed(here), context=context)
    assert sum(len(call["args"]) for call in message.invalid_tool_calls) <= 600


async def test_a_copy_goes_by_the_name_of_the_callers_model(model):
    loop_model = LoopModel(model)
    here = await loop_model.for_running_loop()
    assert (here.lc_id(), here.get_name(), here._llm_type) == (model.lc_id(), model.get_name(), model._llm_type)
    assert isinstance(here, ChatOpenAI)


@pytest.mark.parametrize(
    "odd", ['{"choices": [null]}', '{"choices": null}', '{"choices": [{}]}', '{"a": 1}', "[]", "3"]
)
async def test_what_is_no_completion_is_an_error_of_langchains_as_ever(odd):
    def answer(request: openai_http.Request) -> openai_http.Response:
        return openai_http.Response(200, text=odd, headers={"Content-Type": "application/json"})

    async with openai_http.AsyncClient(transport=openai_http.MockTransport(answer)) as http:
        model = ChatOpenAI(model="m", base_url="http://localhost/v1", api_key="any", http_async_client=http)
        loop_model = LoopModel(model)
        here = await loop_model.for_running_loop()
        for each in (model, here):
            with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
                await each.ainvoke(ASK)


async def test_every_request_is_the_one_that_the_callers_model_sends(endpoint, model):
    endpoint.responder = lambda _: "{}"
    loop_model = LoopModel(model)
    here = await loop_model.for_running_loop()
    asked = {"temperature": 0.3, "extra_body": {"top_k": 5}, "extra_headers": {"X-Team": "a"}}
    for runnable in (here, model):  # the last two: asked for a reply to a schema
        await runnable.ainvoke(ASK, **asked)
        await streamed(runnable.bind(**asked))
        await runnable.ainvoke(ASK, response_format=SCHEMA, **asked)
        await streamed(runnable.bind(response_format=SCHEMA, **asked))
    ours, theirs = endpoint.requests[:4], endpoint.requests[4:]
    assert [logged.request.raw for logged in ours] == [logged.request.raw for logged in theirs]
    assert all(logged.request.headers["x-team"] == "a" for logged in ours)


async def test_pieces_without_a_delta_as_azures_content_filter_sends_them_are_passed_over():
    pieces = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Be"}}]},
        {"choices": [{"index": 0, "content_filter_offsets": {"check_offset": 44}}]},
        {"choices": [{"index": 0, "delta": {"content": "cause."}, "finish_reason": "stop"}]},
    ]
    body = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"

    def answer(request: openai_http.Request) -> openai_http.Response:
        return openai_http.Response(200, text=body, headers={"Content-Type": "text/event-stream"})

    async with openai_http.AsyncClient(transport=openai_http.MockTransport(answer)) as http:
        model = ChatOpenAI(model="m", base_url="http://localhost/v1", api_key="any", http_async_client=http)
        loop_model = LoopModel(model)
        here = await loop_model.for_running_loop()
        assert (await streamed(here)).content == (await streamed(model)).content == "Because."


async def test_the_client_that_a_model_is_given_can_all_that_the_openai_clients_own_can(endpoint, model):
    endpoint.responder = lambda _: "Because."
    loop_model = LoopModel(model)
    here: Any = await loop_model.for_running_loop()
    message: Any = {"role": "user", "content": "Why?"}
    whole = await here.async_client.create(model="m", messages=[message])
    assert whole["choices"][0]["message"]["content"] == "Because."
    raw = await here.async_client.with_raw_response.create(model="m", messages=[message], stream=True)
    assert [piece async for piece in raw.parse()]
    assert here.async_client.parse is not None
