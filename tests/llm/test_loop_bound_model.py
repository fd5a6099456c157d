"""Where coroutines run, and which HTTP client a model uses there."""

import asyncio
import gc
import threading
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

import aiohttp
import pytest
from langchain_core.messages import HumanMessage

from sot_graph import create_sot_graph, join_plain
from sot_graph.concurrency.background_loop import run_sync
from sot_graph.llm.loop_bound_model import LoopModel, _open_clients, _OpenClient
from sot_graph.testing import Physics, ScriptedChatModel, SimulatedEndpoint, answer_skeleton_of_thought
from tests.support.http_errors import openai_http

PLACE: ContextVar[str] = ContextVar("place", default="nowhere")
ASK = [HumanMessage("Why is the sky blue?")]


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    with SimulatedEndpoint(lambda _: "Because.", physics=Physics.instant()) as running:
        yield running


@contextmanager
def resource_warnings() -> Iterator[list[str]]:
    """What is left open within. Garbage of earlier tests (clients of LangChain's own close nothing) goes first."""
    gc.collect()
    left_open: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield left_open
        gc.collect()
    left_open += [str(warning.message) for warning in caught if warning.category is ResourceWarning]


async def where() -> tuple[str, str]:
    await asyncio.sleep(0)
    return PLACE.get(), threading.current_thread().name


def test_a_coroutine_runs_on_the_librarys_own_thread_and_its_result_comes_back():
    assert run_sync(where()) == ("nowhere", "sot_graph-loop")


def test_context_variables_come_along_and_changes_stay_inside():
    async def change() -> str:
        before = PLACE.get()
        PLACE.set("inside")
        return before

    token = PLACE.set("outside")
    try:
        assert run_sync(change()) == "outside"
        assert PLACE.get() == "outside"
    finally:
        PLACE.reset(token)


def test_each_caller_brings_its_own_context():
    def call(name: str) -> str:
        PLACE.set(name)
        return run_sync(where())[0]

    names = [f"caller {number}" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda name: copy_context().run(call, name), names)) == names


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), ZeroDivisionError()])
def test_an_exception_comes_out_as_it_is(error: Exception):
    async def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        run_sync(fail())
    assert caught.value is error


def test_many_threads_run_their_coroutines_side_by_side():
    barrier = asyncio.Barrier(20)

    async def meet() -> int:
        async with asyncio.timeout(30):
            return await barrier.wait()

    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(lambda _: run_sync(meet()), range(20))) == list(range(20))


def test_a_nested_call_from_the_librarys_loop_ends_and_sees_the_context():
    async def outer() -> tuple[str, str]:
        PLACE.set("outer")
        return run_sync(where())

    assert run_sync(outer()) == ("outer", "sot_graph-loop-1")


def test_calls_nested_twice_end():
    async def middle() -> tuple[str, str]:
        return run_sync(where())

    async def outer() -> tuple[str, str]:
        return run_sync(middle())

    assert run_sync(outer())[1] == "sot_graph-loop-2"


def test_a_nested_calls_exception_comes_out_as_it_is():
    async def fail() -> None:
        raise ZeroDivisionError

    async def outer() -> None:
        run_sync(fail())

    with pytest.raises(ZeroDivisionError):
        run_sync(outer())


@pytest.mark.timeout(60)
def test_a_join_may_invoke_a_graph_of_its_own():
    model = ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil", "Sun"], "About {title}."))
    inner = create_sot_graph(model)

    def join(question: str, skeleton: Any, expansions: Any) -> str:
        return str(inner.invoke({"question": question})["answer"]) + "\n" + join_plain(question, skeleton, expansions)

    answer = create_sot_graph(model, join=join).invoke({"question": "How do plants grow?"})["answer"]
    assert answer.startswith("**1. Seed**")
    assert answer.endswith("3. Sun: About Sun.")


async def ask(model: LoopModel) -> str:
    reply = await (await model.for_running_loop()).ainvoke(ASK)
    return str(reply.text)


def test_one_model_serves_several_event_loops_in_a_row(endpoint: SimulatedEndpoint):
    model = LoopModel(endpoint.chat_model())
    with resource_warnings() as left_open:
        for _ in range(5):
            assert asyncio.run(ask(model)) == "Because."
    assert left_open == []
    assert len(endpoint.requests) == 5


def test_one_model_serves_many_threads_each_with_a_loop_of_its_own(endpoint: SimulatedEndpoint):
    model = LoopModel(endpoint.chat_model())
    with resource_warnings() as left_open, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: asyncio.run(ask(model)), range(40)))
    assert answers == ["Because."] * 40
    assert left_open == []


def test_one_model_serves_many_threads_by_the_librarys_loop(endpoint: SimulatedEndpoint):
    model = LoopModel(endpoint.chat_model())
    with endpoint.hold(20) as hold, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: run_sync(ask(model)), range(20)))
    assert answers == ["Because."] * 20
    assert hold.complete


def open_on(loop: asyncio.AbstractEventLoop) -> list[Any]:
    return [each for each in _open_clients if each.loop is loop]


@pytest.mark.parametrize("when", ["while its loop runs", "between its runs", "never"])
def test_the_connections_of_a_forgotten_model_are_closed_to_the_last(endpoint: SimulatedEndpoint, when: str):
    """Garbage may be collected at any moment, also as its loop ends, which waits for nothing that it doesn't know."""
    loop = asyncio.new_event_loop()

    async def ask_five_times() -> None:
        model = LoopModel(endpoint.chat_model())
        with endpoint.hold(5):
            await asyncio.gather(*(ask(model) for _ in range(5)))
        assert len(open_on(loop)) == 1
        if when == "while its loop runs":
            del model
            gc.collect()

    with resource_warnings() as left_open:
        loop.run_until_complete(ask_five_times())
        if when == "between its runs":
            gc.collect()
        loop.run_until_complete(loop.shutdown_asyncgens())
        assert not open_on(loop)
        loop.close()
    assert left_open == []


@pytest.mark.parametrize("model_lives", [True, False])
def test_a_loop_that_shuts_nothing_down_is_not_kept_for_ever(
    endpoint: SimulatedEndpoint, caplog: pytest.LogCaptureFixture, model_lives: bool
):
    loop = asyncio.new_event_loop()
    model = LoopModel(endpoint.chat_model())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.run_until_complete(ask(model))
        if not model_lives:
            del model
            gc.collect()
        assert len(open_on(loop)) == 1
        loop.close()
        asyncio.run(ask(LoopModel(endpoint.chat_model())))
        gc.collect()
    assert not open_on(loop)
    kept = weakref.ref(loop)
    del loop
    gc.collect()
    assert kept() is None
    assert caplog.text == ""  # as aiohttp says of a session that nobody closed


def test_a_model_that_has_served_many_loops_keeps_no_client_of_theirs(endpoint: SimulatedEndpoint):
    def kept() -> set[int]:
        gc.collect()
        return {id(each) for each in gc.get_objects() if isinstance(each, (_OpenClient, aiohttp.ClientSession))}

    model, before = LoopModel(endpoint.chat_model()), kept()
    for _ in range(3):
        asyncio.run(ask(model))
    assert kept() <= before
    assert len(model._copies) == 0


async def test_a_loop_gets_one_copy_and_the_callers_model_stays_untouched(endpoint: SimulatedEndpoint):
    chat = endpoint.chat_model(max_retries=4)
    model = LoopModel(chat)
    copy: Any = await model.for_running_loop()
    assert await model.for_running_loop() is copy
    assert copy is not chat
    assert copy.root_async_client.max_retries == 0
    assert chat.root_async_client.max_retries == 4


async def test_what_is_bound_to_a_model_stays_bound(endpoint: SimulatedEndpoint):
    bound = endpoint.chat_model().bind(max_tokens=1).with_config(tags=["mine"])
    model = LoopModel(bound)
    copy: Any = await model.for_running_loop()
    assert copy.config["tags"] == ["mine"]
    await copy.ainvoke(ASK)
    assert endpoint.requests[0].request.max_tokens == 1


async def test_a_callers_own_http_client_is_kept(endpoint: SimulatedEndpoint):
    async with openai_http.AsyncClient(headers={"x-mine": "yes"}) as client:
        model = LoopModel(endpoint.chat_model(http_async_client=client))
        await ask(model)
    assert endpoint.requests[0].request.headers["x-mine"] == "yes"


async def test_a_model_of_another_kind_is_used_as_it_is():
    model = ScriptedChatModel(lambda _: "x")
    assert await LoopModel(model).for_running_loop() is model
