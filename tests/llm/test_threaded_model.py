"""Models whose asynchronous client belongs to another event loop, or is not what the caller has set up."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from sot_graph import SotOptions, astream_answer, create_sot_graph, stream_answer
from sot_graph.llm.call import ModelCall
from sot_graph.llm.loop_bound_model import LoopModel, in_threads, overrides_sync_only
from sot_graph.testing import (
    Physics,
    ScriptedChatModel,
    SimulatedEndpoint,
    SkeletonResponder,
    answer_skeleton_of_thought,
)

ASK = {"question": "How do plants grow?"}


class AsyncClient:
    """Works on the loop that used it first, as those of real packages do."""

    def __init__(self) -> None:
        self.loop: Any = None

    async def ask(self) -> None:
        await asyncio.sleep(0)
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("<Event> is bound to a different event loop")


class LoopBound(ScriptedChatModel):
    """As a package's class for a provider."""

    client: Any = None

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        await self.client.ask()
        return await super()._agenerate(messages, stop, run_manager, **kwargs)

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        await self.client.ask()
        async for piece in super()._astream(messages, stop, run_manager, **kwargs):
            yield piece


def loop_bound(client: Any = None) -> LoopBound:
    return LoopBound(answer_skeleton_of_thought(points=3), client=client or AsyncClient())


@pytest.mark.parametrize("stream", [True, False])
def test_one_graph_serves_synchronous_and_asynchronous_callers_in_any_order(stream: bool):
    model = loop_bound()
    graph = create_sot_graph(model, options=SotOptions(min_points=2, stream=stream))

    async def on_a_loop() -> list[Any]:
        return list(await asyncio.gather(*(graph.ainvoke(ASK) for _ in range(6))))

    results = [graph.invoke(ASK), asyncio.run(graph.ainvoke(ASK)), graph.invoke(ASK), asyncio.run(graph.ainvoke(ASK))]
    with ThreadPoolExecutor(6) as pool:
        threads = [pool.submit(graph.invoke, ASK) for _ in range(6)]
        results += [*asyncio.run(on_a_loop()), *(each.result() for each in threads)]
    assert {result["answer"] for result in results} == {results[0]["answer"]}
    assert len(model.calls) == len(results) * 4


@pytest.mark.parametrize("wrap", ["fallbacks", "retry", "binding"])
def test_so_does_one_of_a_model_that_is_wrapped(wrap: str):
    def failing(_messages: Any) -> str:
        raise ValueError("down")

    inner = loop_bound()
    model: Any = inner.with_retry() if wrap == "retry" else inner.bind(stop=["END"])
    if wrap == "fallbacks":
        model = LoopBound(failing, client=AsyncClient()).with_fallbacks([inner])
    graph = create_sot_graph(model, options=SotOptions(min_points=2, stream=False))
    results = [graph.invoke(ASK), asyncio.run(graph.ainvoke(ASK)), graph.invoke(ASK), asyncio.run(graph.ainvoke(ASK))]
    assert {result["answer"] for result in results} == {results[0]["answer"]}
    assert len(inner.calls) == 16


@pytest.mark.parametrize("wrap", ["not", "retry", "fallbacks", "binding", "chain"])
def test_a_client_that_nothing_in_the_model_tells_of_is_found_out_by_its_error(wrap: str):
    inner: Any = loop_bound(SimpleNamespace(ask=AsyncClient().ask))
    wrapped = {
        "not": inner,
        "retry": inner.with_retry(stop_after_attempt=1),
        "fallbacks": inner.with_fallbacks([inner]),
        "binding": inner.bind(stop=["END"]),
        "chain": RunnableLambda(lambda messages: messages) | inner | RunnableLambda(lambda message: message),
    }
    graph = create_sot_graph(wrapped[wrap], options=SotOptions(min_points=2))
    results = [asyncio.run(graph.ainvoke(ASK)), graph.invoke(ASK), asyncio.run(graph.ainvoke(ASK))]
    assert [result["route"] for result in results] == ["skeleton"] * 3
    assert {result["answer"] for result in results} == {results[0]["answer"]}


async def test_a_client_that_was_used_on_another_loop_before_is_found_out_by_one_call(make_run):
    client = AsyncClient()
    client.loop = object()
    model = LoopModel(loop_bound(client))
    model._copies[asyncio.get_running_loop()] = model.model  # as if this loop had been the first
    call = ModelCall(model, "direct", make_run(max_retries=0), {}, {})
    assert (await call.ask([HumanMessage("Why?")])).text
    assert (await call.ask([HumanMessage("Why?")], on_text=lambda _: None)).text


async def test_a_class_that_overrides_the_synchronous_call_alone_has_it_called():
    class Counting(ChatOpenAI):
        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
            seen.append(threading.current_thread().name)
            return super()._generate(messages, stop, run_manager, **kwargs)

    seen: list[str] = []
    with SimulatedEndpoint(SkeletonResponder(points=3), physics=Physics.instant()) as endpoint:
        model = Counting(model="m", base_url=endpoint.base_url, api_key="any")
        graph = create_sot_graph(model, options=SotOptions(min_points=2, stream=False))
        await graph.ainvoke(ASK)
        await asyncio.to_thread(graph.invoke, ASK)
    assert len(seen) == 8
    assert overrides_sync_only(Counting)
    assert not overrides_sync_only(ChatOpenAI)


def test_in_threads_it_is_still_the_callers_model():
    model = loop_bound()
    copy = in_threads(model)
    assert (copy.lc_id(), copy.get_name(), copy._llm_type) == (model.lc_id(), model.get_name(), model._llm_type)
    assert copy._calls is model._calls


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    with SimulatedEndpoint(SkeletonResponder(points=3), physics=Physics.instant()) as running:
        yield running


def by_all_ways(graph: Any) -> None:
    async def streamed() -> str:
        return "".join([piece async for piece in astream_answer(graph, ASK)])

    answer = graph.invoke(ASK)["answer"]
    assert asyncio.run(graph.ainvoke(ASK))["answer"] == answer
    assert "".join(stream_answer(graph, ASK)) == answer
    assert asyncio.run(streamed()) == answer


def test_the_callers_own_http_client_carries_every_call(endpoint: SimulatedEndpoint):
    with httpx2.Client(headers={"X-Mine": "yes"}) as http:
        graph = create_sot_graph(endpoint.chat_model(http_client=http), options=SotOptions(min_points=2))
        by_all_ways(graph)
    assert [entry.request.headers.get("x-mine") for entry in endpoint.requests] == ["yes"] * 16


def test_of_two_http_clients_each_carries_what_is_its(endpoint: SimulatedEndpoint):
    async def asynchronously() -> None:
        await graph.ainvoke(ASK)
        await http_async.aclose()

    http_async = httpx2.AsyncClient(headers={"X-Mine": "async"})
    with httpx2.Client(headers={"X-Mine": "sync"}) as http:
        model = endpoint.chat_model(http_client=http, http_async_client=http_async)
        graph = create_sot_graph(model, options=SotOptions(min_points=2))
        graph.invoke(ASK)
        asyncio.run(asynchronously())
    told = [entry.request.headers.get("x-mine") for entry in endpoint.requests]
    assert told == ["sync"] * 4 + ["async"] * 4
