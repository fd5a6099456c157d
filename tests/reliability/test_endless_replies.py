"""Replies that are too long: none of them fills the memory, and what there is of them is kept and marked."""

import gzip
import json
import logging
import tracemalloc
from contextvars import copy_context
from functools import partial

import pytest
from aiohttp import web
from langchain_core.messages import AIMessageChunk

from sot_graph import ExpansionError, SotOptions, create_sot_graph
from sot_graph.llm.openai_client import BoundedToolCall, beginning_of, reply_char_limit
from sot_graph.llm.reply import StreamedReply
from sot_graph.llm.thoughts import ThoughtFilter
from sot_graph.testing import (
    Physics,
    ScriptedChatModel,
    SimulatedEndpoint,
    SkeletonResponder,
    answer_skeleton_of_thought,
)

ASK = {"question": "How do plants grow?"}
TITLES = ["Light", "Water", "Soil"]
MOST = 400


def long_for(*stages):
    """Writes far too much for these."""
    return lambda ask: "word " * 1000 if ask.stage in stages else f"About {ask.title or 'it'}."


@pytest.mark.parametrize("stream", [True, False])
async def test_a_point_is_closed_at_its_bound_and_kept_as_one_that_was_cut(stream, caplog):
    responder = SkeletonResponder(titles=TITLES, text=long_for("point"))
    with SimulatedEndpoint(responder, physics=Physics.instant()) as endpoint:
        graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(max_reply_chars=MOST, stream=stream))
        with caplog.at_level(logging.WARNING, "sot_graph"):
            result = await graph.ainvoke(ASK)
    assert result["finish_reason"] == "length"
    for point in result["expansions"]:
        assert (point["status"], point["truncated"]) == ("ok", True)
        assert MOST - 8 <= len(point["text"]) <= MOST
    assert any("max_reply_chars" in record.message for record in caplog.records)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("route", ["direct", "skeleton"])
async def test_so_are_a_direct_answer_and_an_introduction(stream, route):
    responder = SkeletonResponder(titles=TITLES, text=long_for("answer", "introduction"))
    with SimulatedEndpoint(responder, physics=Physics.instant()) as endpoint:
        options = SotOptions(max_reply_chars=MOST, stream=stream, frame="intro")
        graph = create_sot_graph(endpoint.chat_model(), options=options, router=lambda _question, _history: route)
        result = await graph.ainvoke(ASK)
    text = result["answer"] if route == "direct" else result["frame"]["introduction"]["text"]
    assert MOST - 8 <= len(text) <= MOST
    assert result["finish_reason"] == "length"


@pytest.mark.parametrize("skeleton_format", ["structured", "list"])
@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
async def test_a_skeleton_that_never_ends_gives_the_titles_that_fit(skeleton_format, dispatch):
    titles = [f"Title{number} word{number}" for number in range(200)]
    with SimulatedEndpoint(SkeletonResponder(titles=titles, words_per_point=5), physics=Physics.instant()) as endpoint:
        options = SotOptions(max_reply_chars=MOST, skeleton_format=skeleton_format, dispatch=dispatch)
        result = await create_sot_graph(endpoint.chat_model(), options=options).ainvoke(ASK)
    assert [point["title"] for point in result["skeleton"]] == titles[:10]


async def test_a_model_of_any_package_is_bound_in_the_same_way():
    model = ScriptedChatModel(answer_skeleton_of_thought(TITLES, "word " * 1000))
    for stream in (True, False):
        options = SotOptions(max_reply_chars=MOST, stream=stream)
        result = await create_sot_graph(model, options=options).ainvoke(ASK)
        assert {len(point["text"]) for point in result["expansions"]} <= set(range(MOST - 8, MOST + 1))


class Bomb(SimulatedEndpoint):
    """Packs replies of points, which are enormous."""

    packed = b""

    def application(self):
        @web.middleware
        async def pack(request, handler):
            response = await handler(request)
            if self.requests[-1].request.stream or "<point>" not in self.requests[-1].request.last_user:
                return response
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            return web.Response(body=self.packed, headers=headers)

        app = super().application()
        app.middlewares.append(pack)
        return app


def bomb(megabytes):
    """A reply that is a thousandth of its size on the wire."""
    head, tail = json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "word "}, "finish_reason": "stop"}],
        }
    ).split('word "')
    packer = gzip.compress
    return packer((head + "word " * (megabytes * 200_000) + '"' + tail).encode())


async def test_a_packed_reply_of_a_hundred_megabytes_takes_a_few():
    Bomb.packed = bomb(100)
    assert len(Bomb.packed) < 1_000_000
    with Bomb(SkeletonResponder(titles=TITLES), physics=Physics.instant()) as endpoint:
        options = SotOptions(max_reply_chars=10_000, stream=False, max_concurrency=1)
        graph = create_sot_graph(endpoint.chat_model(), options=options)
        tracemalloc.start()
        try:
            result = await graph.ainvoke({**ASK, "given_skeleton": TITLES[:1]})
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert most < 20_000_000
    point = result["expansions"][0]
    assert (point["status"], point["truncated"]) == ("ok", True)
    assert point["text"].startswith("word word")
    assert 9_990 <= len(point["text"]) <= 10_000


class EndlessLine(SimulatedEndpoint):
    """Streams one event that never ends, packed."""

    packed = b""

    def application(self):
        async def answer(_request):
            return web.Response(
                body=self.packed, headers={"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
            )

        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        return app


async def test_a_packed_stream_of_one_endless_line_is_left_where_its_bound_is():
    EndlessLine.packed = gzip.compress(b"data: " + b"a" * 100_000_000, compresslevel=1)
    with EndlessLine(physics=Physics.instant()) as endpoint:
        options = SotOptions(max_reply_chars=10_000, stream=True, max_retries=0)
        graph = create_sot_graph(endpoint.chat_model(), options=options)
        tracemalloc.start()
        try:
            with pytest.raises(ExpansionError):
                await graph.ainvoke({**ASK, "given_skeleton": TITLES[:1]})
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert most < 20_000_000


async def test_a_packed_reply_of_ordinary_size_is_read_as_it_is():
    Bomb.packed = gzip.compress(
        json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": "Packed."}, "finish_reason": "stop"}
                ],
            }
        ).encode()
    )
    with Bomb(SkeletonResponder(titles=TITLES), physics=Physics.instant()) as endpoint:
        result = await create_sot_graph(endpoint.chat_model(), options=SotOptions(stream=False)).ainvoke(ASK)
    assert [(point["status"], point["text"]) for point in result["expansions"]] == [("ok", "Packed.")] * 3


@pytest.mark.parametrize("end", ['"content": "half of \\u00', '"content": "half of ', '"content": "half of \\'])
def test_half_a_reply_gives_the_text_that_it_has(end):
    body = ('{"choices": [{"index": 0, "message": {"role": "assistant", ' + end).encode() + b"\xc3"
    choice = beginning_of(body)["choices"][0]
    assert choice["message"]["content"].startswith("half of")
    assert choice["finish_reason"] == "length"


def test_what_is_no_json_gives_nothing():
    assert beginning_of(b"<html>") is None


def told_of(arguments, size, *, is_offered=True, most=MOST):
    """What LangChain is told of a call that comes in pieces of this size."""
    context = copy_context()
    context.run(reply_char_limit.set, most)
    call, told = context.run(partial(BoundedToolCall, is_offered=is_offered)), []
    for start in range(0, len(arguments), size):
        named = {"id": "1", "name": "skeleton"} if start == 0 else {}
        part = {"index": 0, **named, "function": {"arguments": arguments[start : start + size]}}
        for piece in call.pieces({"choices": [{"delta": {"tool_calls": [part]}}]}):
            told += piece["choices"][0]["delta"].get("tool_calls", [])
    return told


@pytest.mark.parametrize("size", [1, 30, 5_000])
def test_of_a_call_what_is_json_is_told_in_small_pieces_and_the_rest_is_dropped(size):
    arguments = json.dumps({"points": [{"title": f"Title {number}"} for number in range(1000)]})
    told = told_of(arguments, size)
    assert "".join(one["function"]["arguments"] for one in told) == arguments
    assert [one for one in told if "id" in one] == told[:1]
    assert max(len(one["function"]["arguments"]) for one in told) <= 200
    for garbage in ("a" * 5_000, '{"' + "a" * 5_000, "[" * 5_000):  # LangChain takes half a second for each
        assert sum(len(one["function"]["arguments"]) for one in told_of(garbage, size)) <= 600
    assert told_of(arguments, size, is_offered=False) == []


def test_an_agents_own_calls_pass_as_they_are():
    assert told_of("a" * 5_000, 5_000, most=None)[0]["function"]["arguments"] == "a" * 5_000


def test_chunks_without_a_text_fill_a_reply_too():
    reply = StreamedReply(ThoughtFilter(), with_tools=False, most_chars=3)
    for number in range(4):
        assert reply.is_full is False, number
        reply.add(AIMessageChunk(""))
    assert reply.is_full
