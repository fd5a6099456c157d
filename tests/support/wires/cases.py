"""What is promised of every provider, as tests: a package's file says which model speaks to which wire."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar

import pytest

from sot_graph import SotConfigError, SotOptions, SotPrompts, astream_answer, create_sot_graph, stream_answer
from sot_graph.testing import ChatRequest, Reply
from tests.support.chat_requests import decides, one_point, point_number
from tests.support.wires.wire import THOUGHT, TITLES, Wire

ASK = {"question": "How do plants grow?"}
AT_ONCE = 12
SHORT = "They take light and water, and little else."
EARLIER = [("user", "Hello. " * 3000), ("assistant", "Hello!")]
"""More than any provider's minimum."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
class ProviderCases:
    """One package against its wire. What other packages warn of, and leave open, is theirs."""

    efforts: ClassVar[tuple[dict[str, Any], dict[str, Any], Callable[[Any], Any]]] = (
        {"reasoning_effort": "high"},
        {"reasoning_effort": "minimal"},
        lambda body: body.get("reasoning_effort"),
    )
    """Settings to think much and little, and where the request says so."""

    mark: ClassVar[str] = ""
    """What its provider wants to find where the part of a prompt ends that it is to keep."""

    def make_wire(self) -> Wire:
        """The server."""
        raise NotImplementedError

    def make_model(self, url: str) -> Any:
        """The package's model, which asks it."""
        raise NotImplementedError

    @pytest.fixture
    def wire(self) -> Iterator[Wire]:
        with self.make_wire() as wire:
            yield wire

    def graph(self, wire: Wire, **options: Any) -> Any:
        """A graph with the package's model."""
        return create_sot_graph(self.make_model(wire.url), options=SotOptions(min_points=2, **options))

    async def test_plain(self, wire: Wire) -> None:
        is_written(await self.graph(wire, skeleton_format="list", stream=False).ainvoke(ASK))
        assert len(wire.requests) == 4

    @pytest.fixture
    def swept(self) -> None:
        """Clients that earlier tests have left would close themselves in this test's loop, and log that they can't."""
        gc.collect()

    @pytest.mark.usefixtures("swept")
    async def test_structured(self, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
        is_written(await self.graph(wire, stream=False).ainvoke(ASK))
        assert len(wire.requests) == 4
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []

    async def test_shared_prompt(self, wire: Wire) -> None:
        """The skeleton's request is to the letter the beginning of every point's: a prompt cache can serve it."""
        is_written(await self.graph(wire, stream=False).ainvoke({"messages": [*EARLIER, ("user", ASK["question"])]}))
        (said, first), *points = [_said_and_rest(body) for body in wire.bodies]
        assert len(points) == 3
        assert "chema" not in json.dumps(first)
        assert not any(map(first.get, ("tools", "toolConfig", "response_format", "format")))
        for longer, rest in points:
            assert longer.startswith(said)
            assert rest == first
            assert longer.count(self.mark or "cache_control") == (1 if self.mark else 0)
        assert len(wire.requests[0].tools) == 0

    async def test_streamed(self, wire: Wire) -> None:
        graph = self.graph(wire, dispatch="pipelined", stream_max_delay=0)
        pieces = [piece async for piece in astream_answer(graph, ASK)]
        assert len(pieces) > 2 * len(TITLES)
        wire.requests.clear()
        assert "".join(pieces) == (await graph.ainvoke(ASK))["answer"]
        assert len(wire.requests) == 4

    def test_sync_and_async(self, wire: Wire) -> None:
        graph = self.graph(wire, stream=False)
        is_written(graph.invoke(ASK))
        is_written(asyncio.run(graph.ainvoke(ASK)))
        is_written(graph.invoke(ASK))
        is_written(asyncio.run(graph.ainvoke(ASK)))

        async def on_a_loop() -> list[Any]:
            return list(await asyncio.gather(*(graph.ainvoke(ASK) for _ in range(AT_ONCE // 2))))

        with ThreadPoolExecutor(AT_ONCE) as threads:
            from_threads = [threads.submit(graph.invoke, ASK) for _ in range(AT_ONCE // 2)]
            for result in [*asyncio.run(on_a_loop()), *(each.result(timeout=60) for each in from_threads)]:
                is_written(result)
        assert "".join(stream_answer(graph, ASK)) == graph.invoke(ASK)["answer"]
        assert len(wire.requests) == 4 * (4 + AT_ONCE + 2)

    async def test_thinking(self, wire: Wire) -> None:
        wire.thinks = True
        for options in ({"stream": False}, {"skeleton_format": "list"}, {"dispatch": "pipelined"}):
            graph = self.graph(wire, **options)
            streamed = "".join([piece async for piece in astream_answer(graph, ASK)])
            result = await graph.ainvoke(ASK)
            is_written(result)
            assert streamed == result["answer"]
            assert THOUGHT not in streamed

    async def test_thinking_by_stage(self, wire: Wire) -> None:
        much, little, told = self.efforts
        prompts = SotPrompts(skeleton_settings=much, expansion_settings=little)
        options = SotOptions(min_points=2, skeleton_format="list")
        graph = create_sot_graph(self.make_model(wire.url), options=options, prompts=prompts)
        is_written(await graph.ainvoke(ASK))
        asked = zip(wire.requests, wire.bodies, strict=True)
        efforts = {one_point(request): told(body) for request, body in asked}
        assert efforts[False]
        assert efforts[True]
        assert efforts[False] != efforts[True]

    async def test_tools(self, wire: Wire) -> None:
        for dispatch in ("send", "pipelined"):
            wire.requests.clear()
            is_written(await self.graph(wire, structured_mode="tools", dispatch=dispatch).ainvoke(ASK))
            assert sum(bool(request.tools) for request in wire.requests) == 1
            assert len(wire.requests) == 4

    async def test_draft_decides(self, wire: Wire) -> None:
        """A skeleton as a list and as JSON, and an answer in its place, by a model with tools bound."""
        write, model = wire.respond, self.make_model(wire.url).bind_tools([search])
        replies = {"1. Light\n2. Water\n3. Soil": True, '{"points":["Light","Water","Soil"]}': False, SHORT: True}
        for text, stream in replies.items():
            wire.requests.clear()
            wire.respond = lambda asked, text=text: (  # type: ignore[misc]
                Reply(text) if decides(asked) else write(ChatRequest({**asked.raw, "tools": []}))
            )
            graph = create_sot_graph(model, router="draft", options=SotOptions(min_points=2, stream=stream))
            result = await graph.ainvoke(ASK)
            assert all(request.tools for request in wire.requests)
            if text == SHORT:
                assert (result["answer"], len(wire.requests)) == (SHORT, 1)
            else:
                is_written(result)
                assert len(wire.requests) == 4

    async def test_busy(self, wire: Wire) -> None:
        second = point_number(2)
        wire.trouble = [("busy", second), ("busy", second)]
        is_written(await self.graph(wire, stream=False, max_retries=0).ainvoke(ASK))
        assert sum(map(second, wire.requests)) == 3
        if wire.busy_in_stream() is not None:
            wire.trouble = [("busy in the stream", second)]
            is_written(await self.graph(wire, stream=True).ainvoke(ASK))
            assert wire.trouble == []

    async def test_wrong_key(self, wire: Wire) -> None:
        wire.trouble = [("wrong key", lambda _: True)]
        with pytest.raises(SotConfigError):
            await self.graph(wire).ainvoke(ASK)
        assert len(wire.requests) == 1

    async def test_cut(self, wire: Wire) -> None:
        wire.trouble = [("cut", lambda request: is_first_of(request, 2))]
        is_written(await self.graph(wire, stream=True).ainvoke(ASK))
        assert len(wire.requests) == 5

    async def test_refused(self, wire: Wire) -> None:
        for stream in (True, False):
            wire.trouble = [("refused", point_number(2))]
            result = await self.graph(wire, stream=stream).ainvoke(ASK)
            point = result["expansions"][1]
            assert point["status"] == "failed"
            assert "filter" in point["error"] or "declined" in point["error"]
            # Azure's class gives nothing of a reply that isn't streamed.
            assert "breaks off" in result["answer"] if point["text"] else not stream

    async def test_usage(self, wire: Wire) -> None:
        for stream in (True, False):
            total = (await self.graph(wire, stream=stream).ainvoke(ASK))["usage"]["total"]
            assert total["calls"] == 4
            assert total["input_tokens"] == 4 * wire.input_tokens
            assert total["output_tokens"] == 4 * wire.output_tokens


async def is_repeated_by_the_graph_alone(graph: Callable[..., Any], wire: Wire) -> None:
    """Whether the package's client repeats no call behind the graph's back, synchronous or not."""
    second = point_number(2)
    made = graph(wire, rate_limit_patience=0, max_retries=0)
    for invoke in (made.ainvoke, partial(asyncio.to_thread, made.invoke)):
        wire.trouble, wire.requests = [("busy", second)] * 9, []
        result = await invoke(ASK)
        assert [point["status"] for point in result["expansions"]] == ["ok", "failed", "ok"]
        assert sum(map(second, wire.requests)) == 1
        assert result["usage"]["total"]["calls"] == len(wire.requests) == 4


def search(query: str) -> str:
    """Search the web for a query."""
    return query


def _said_and_rest(body: Any) -> tuple[str, Any]:
    """A request's turns as they stand on the wire, without their closing bracket, and everything else in it."""
    rest = {key: value for key, value in body.items() if key not in {"messages", "contents", "stream"}}
    return json.dumps(body.get("messages") or body["contents"])[:-1], rest


def is_first_of(request: ChatRequest, number: int) -> bool:
    """Whether it asks for a point's text from the beginning."""
    return one_point(request) and point_number(number)(request)


def is_written(result: Any) -> None:
    """A whole answer of the wire's three points."""
    assert [point["title"] for point in result["skeleton"]] == TITLES
    assert [(point["status"], point["error"]) for point in result["expansions"]] == [("ok", None)] * 3
