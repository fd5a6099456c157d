"""Only questions that gain take the skeleton path."""

import asyncio
import json
import re
from contextlib import aclosing

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.tracers import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from langsmith import Client

from sot_graph import (
    CascadeRouter,
    ModelRouter,
    RouteDecision,
    RoutingError,
    SotConfigError,
    SotOptions,
    astream_answer,
    create_sot_graph,
)
from sot_graph.testing import Fault, ScriptedChatModel, SkeletonResponder, Stall, Status

ASK = {"question": "How do plants grow?"}


def is_routing(request):
    return "Which letter?" in request.last_user


def routed(letter):
    """An endpoint's responder whose router's reply is this letter."""
    write = SkeletonResponder(points=3, words_per_point=8)
    return lambda request: json.dumps({"kind": letter}) if is_routing(request) else write(request)


async def says_direct_later(question, history):
    return "direct"


@pytest.mark.parametrize(
    ("router", "route"),
    [
        (lambda question, history: "skeleton", "skeleton"),
        (lambda question, history: "direct", "direct"),
        (says_direct_later, "direct"),
        (lambda question, history: RouteDecision("skeleton", "many points", 0.9), "skeleton"),
    ],
)
async def test_any_callable_routes(run, endpoint, router, route):
    result = await run(create_sot_graph(endpoint.chat_model(), router=router))
    assert result["route"] == route
    assert (result["usage"]["direct"]["calls"] == 1) is (route == "direct")
    assert bool(result["skeleton"]) is (route == "skeleton")


async def test_the_reason_and_the_confidence_are_in_the_result_and_in_an_event(run, endpoint):
    decision = RouteDecision("direct", "a sum, not a list", 0.93)
    graph = create_sot_graph(endpoint.chat_model(), router=lambda question, history: decision)
    assert (await run(graph))["route_reason"] == "a sum, not a list (confidence 0.93)"
    events = [event async for event in graph.astream(ASK, stream_mode="custom")]
    del events[0]["id"]
    assert events[0] == {"type": "sot.route", "route": "direct", "reason": "a sum, not a list", "confidence": 0.93}


async def test_a_router_sees_the_question_and_the_history(endpoint):
    seen = []
    graph = create_sot_graph(
        endpoint.chat_model(), router=lambda question, history: seen.append((question, history)) or "direct"
    )
    await graph.ainvoke({"messages": [("user", "Hello"), ("assistant", "Hi"), ("user", "Why?")]})
    question, history = seen[0]
    assert question == "Why?"
    assert [turn["content"] for turn in history] == ["Hello", "Hi"]


@pytest.mark.parametrize(("letter", "route"), [("A", "skeleton"), ("B", "direct"), ("C", "direct")])
async def test_the_models_letter_decides(run, endpoint, letter, route):
    endpoint.responder = routed(letter)
    result = await run(create_sot_graph(endpoint.chat_model(), router=ModelRouter()))
    assert result["route"] == route
    assert f"({letter})" in result["route_reason"]
    assert result["usage"]["route"]["calls"] == 1
    assert result["usage"]["route"]["output_tokens"] > 0
    routing = [logged for logged in endpoint.requests if is_routing(logged.request)]
    assert len(routing) == 1
    assert routing[0].request.max_tokens == 16


async def test_a_cheaper_model_can_route(endpoint):
    small = ScriptedChatModel(lambda messages: "C")
    result = await create_sot_graph(endpoint.chat_model(), router=ModelRouter(small)).ainvoke(ASK)
    assert result["route"] == "direct"
    assert len(small.calls) == 1
    assert len(endpoint.requests) == 1


def raises(question, history):
    message = "no luck"
    raise RuntimeError(message)


def loses_its_database(question, history):
    raise ConnectionError("redis:6379 refused")


async def never(question, history):
    await asyncio.Event().wait()


async def exits(question, history):
    raise SystemExit(2)


def exits_in_a_thread(question, history):
    raise SystemExit(2)


BAD_ROUTERS = {
    "an exit": (exits, "it raised SystemExit(2)"),
    "an exit in a thread": (exits_in_a_thread, "it raised SystemExit(2)"),
    "nonsense": (lambda question, history: 42, "returned 42"),
    "an empty label": (lambda question, history: "", "returned ''"),
    "an exception": (raises, "the router failed: RuntimeError: no luck"),
    "a lost connection": (loses_its_database, "the router failed: ConnectionError: redis:6379 refused"),
    "nothing in a list": (lambda _question, history: history[5], "the router failed: IndexError: list index"),
    "the end of an iterator": (lambda _question, _history: next(iter(())), "StopIteration"),
    "a decision that is none": (lambda question, history: RouteDecision("maybe", "hm"), "route must be"),
    "no end": (never, "did not decide within 0.05 s"),
}


@pytest.mark.parametrize("case", BAD_ROUTERS)
async def test_a_router_that_fails_means_a_direct_answer_with_a_reason_and_one_warning(run, endpoint, caplog, case):
    router, reason = BAD_ROUTERS[case]
    graph = create_sot_graph(endpoint.chat_model(), router=router, options=SotOptions(router_timeout=0.05))
    if case != "no end":
        graph = create_sot_graph(endpoint.chat_model(), router=router)
    result = await run(graph)
    assert result["route"] == "direct"
    assert reason in result["route_reason"]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("case", BAD_ROUTERS)
async def test_a_router_that_fails_is_an_error_where_that_is_wished(endpoint, case):
    router, reason = BAD_ROUTERS[case]
    timeout = 0.05 if case == "no end" else 10.0
    options = SotOptions(on_router_failure="raise", router_timeout=timeout)
    with pytest.raises(RoutingError, match=re.escape(reason)):
        await create_sot_graph(endpoint.chat_model(), router=router, options=options).ainvoke(ASK)
    assert endpoint.requests == []


async def test_a_router_that_takes_no_cancellation_is_left_to_itself(endpoint, caplog):
    released, ended = asyncio.Event(), asyncio.Event()

    async def stubborn(question, history):
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        ended.set()
        return "skeleton"

    graph = create_sot_graph(endpoint.chat_model(), router=stubborn, options=SotOptions(router_timeout=0.05))
    result = await graph.ainvoke(ASK)
    assert result["route"] == "direct"
    assert not ended.is_set()
    assert "The router goes on 0.2 s after it was cancelled." in caplog.text
    released.set()
    await ended.wait()


@pytest.mark.parametrize("fault", [Status(400), Status(401)])
async def test_a_routers_model_that_fails_never_fails_the_run(run, endpoint, fault):
    endpoint.faults = [Fault(fault, is_routing)]
    result = await run(create_sot_graph(endpoint.chat_model(), router=ModelRouter()))
    assert result["route"] == "direct"
    assert "the router failed" in result["route_reason"]


def test_what_is_no_router_is_refused_when_the_graph_is_made(endpoint):
    with pytest.raises(SotConfigError, match="router"):
        create_sot_graph(endpoint.chat_model(), router="learned")


async def test_a_given_skeleton_is_not_routed(run, endpoint):
    graph = create_sot_graph(endpoint.chat_model(), router=raises)
    result = await run(graph, {**ASK, "given_skeleton": ["Sun", "Soil"]})
    assert len(result["expansions"]) == 2


async def test_a_direct_answer_streams_and_nothing_of_an_earlier_turn_shows(endpoint):
    graph = create_sot_graph(
        endpoint.chat_model(),
        router=lambda question, history: "direct" if "short" in question else "skeleton",
        checkpointer=InMemorySaver(),
    )
    config = {"configurable": {"thread_id": "1"}}
    await graph.ainvoke(ASK, config)
    chunks = [text async for text in astream_answer(graph, {"question": "In short, why?"}, config)]
    values = (await graph.aget_state(config)).values
    assert "".join(chunks) == values["answer"]
    assert len(chunks) > 1
    assert values["skeleton"] == values["expansions"] == []
    assert values["usage"]["expansion"]["calls"] == 0


async def test_speculation_drafts_while_the_router_decides(endpoint):
    """The router's reply is held until the draft has been requested: neither waits for the other."""
    endpoint.responder = routed("A")
    graph = create_sot_graph(endpoint.chat_model(), router=ModelRouter(), options=SotOptions(speculative=True))
    with endpoint.hold(2, lambda request: "<point>" not in request.last_user) as held:
        result = await graph.ainvoke(ASK)
        assert held.complete
    assert result["route"] == "skeleton"
    assert result["usage"]["total"]["calls"] == 5
    assert len(endpoint.requests) == 5


async def test_a_draft_that_is_not_wanted_is_cancelled_and_counted(run, endpoint):
    endpoint.responder = routed("C")
    endpoint.faults = [Fault(Stall(), lambda request: "Do not answer yet" in request.last_user)]
    graph = create_sot_graph(endpoint.chat_model(), router=ModelRouter(), options=SotOptions(speculative=True))
    with endpoint.hold(2, lambda request: is_routing(request) or "Do not answer yet" in request.last_user):
        result = await run(graph)
    assert result["route"] == "direct"
    assert result["usage"]["skeleton"]["calls"] == 1
    await endpoint.wait_for_async(lambda log: all(logged.outcome for logged in log))
    assert sorted(logged.outcome for logged in endpoint.requests) == ["client_closed", "ok", "ok"]


@pytest.mark.parametrize(("letter", "route"), [("A", "skeleton"), ("C", "direct")])
async def test_both_ways_can_be_begun_while_the_router_decides(run, endpoint, letter, route):
    endpoint.responder = routed(letter)
    graph = create_sot_graph(endpoint.chat_model(), router=ModelRouter(), options=SotOptions(speculative="both"))
    with endpoint.hold(3, lambda request: "<point>" not in request.last_user) as held:
        result = await run(graph)
        assert held.complete
    assert result["route"] == route
    assert [message.text for message in result["messages"]] == [ASK["question"], result["answer"]]
    assert result["usage"]["direct"]["calls"] == result["usage"]["skeleton"]["calls"] == 1
    assert result["messages"][-1].usage_metadata["input_tokens"] == result["usage"]["total"]["input_tokens"]
    assert len(endpoint.requests) == result["usage"]["total"]["calls"]


async def test_a_direct_answer_begun_early_is_shown_only_when_it_is_chosen(endpoint):
    """The router's reply is held back until the whole direct answer has been written."""
    endpoint.responder = routed("C")
    graph = create_sot_graph(endpoint.chat_model(), router=ModelRouter(), options=SotOptions(speculative="both"))
    seen = []
    with endpoint.hold(2, is_routing) as held:
        async with aclosing(graph.astream(ASK, stream_mode="custom")) as events:
            reading = asyncio.ensure_future(anext(events))
            await endpoint.wait_for_async(lambda log: sum(logged.outcome == "ok" for logged in log) == 2)
            assert not reading.done()
            held.release()
            seen.append(await reading)
            seen += [event async for event in events]
    assert [event["type"] for event in seen[:2]] == ["sot.route", "sot.answer.delta"]
    written = "".join(event["text"] for event in seen if event["type"] == "sot.answer.delta")
    assert written == seen[-1]["answer"]


async def test_a_review_comes_after_the_router(endpoint):
    endpoint.responder = routed("A")
    graph = create_sot_graph(
        endpoint.chat_model(),
        router=ModelRouter(),
        options=SotOptions(review_skeleton=True),
        checkpointer=InMemorySaver(),
    )
    config = {"configurable": {"thread_id": "1"}}
    stopped = await graph.ainvoke(ASK, config)
    assert len(stopped["__interrupt__"][0].value["points"]) == 3
    result = await graph.ainvoke(Command(resume=True), config)
    assert result["answer"]


async def test_a_cascade_asks_the_second_only_where_the_first_is_unsure(endpoint):
    endpoint.responder = routed("A")
    first = lambda question, history: RouteDecision("direct", "short", 0.95 if "sum" in question else 0.55)  # noqa: E731
    cascade = CascadeRouter(first, ModelRouter(), threshold=0.8)
    graph = create_sot_graph(endpoint.chat_model(), router=cascade)
    assert (await graph.ainvoke({"question": "What is the sum?"}))["route"] == "direct"
    assert (await graph.ainvoke({"question": "How do plants grow?"}))["route"] == "skeleton"
    assert (cascade.decided, cascade.asked) == (2, 1)


@pytest.mark.parametrize(("question", "node"), [("Give me a list", "long"), ("What is 2 + 2?", "short")])
async def test_a_router_is_a_parents_edge(run, question, node):
    router = ModelRouter(ScriptedChatModel(lambda messages: "A" if "list" in messages[-1].text else "C"))
    builder = StateGraph(MessagesState)
    builder.add_node("long", lambda state: {"messages": ["long"]})
    builder.add_node("short", lambda state: {"messages": ["short"]})
    builder.add_conditional_edges(START, router.as_edge({"skeleton": "long", "direct": "short"}), ["long", "short"])
    result = await run(builder.compile(), {"messages": [HumanMessage(question)]})
    assert result["messages"][-1].text == node


def test_an_edge_needs_both_targets():
    with pytest.raises(SotConfigError, match="direct"):
        ModelRouter().as_edge({"skeleton": "long"})


def test_the_graph_with_a_router_is_drawn_with_every_edge(endpoint, snapshot):
    graph = create_sot_graph(endpoint.chat_model(), router=ModelRouter())
    assert graph.get_graph().draw_mermaid(with_styles=False) == snapshot
    reviewed = create_sot_graph(endpoint.chat_model(), router=ModelRouter(), options=SotOptions(review_skeleton=True))
    assert reviewed.get_graph().draw_mermaid(with_styles=False) == snapshot


class RecordingClient(Client):
    """LangSmith's own client, which keeps what it would send."""

    def __init__(self):
        super().__init__(api_key="none", api_url="http://127.0.0.1:9", auto_batch_tracing=False)
        self.metadata = {}

    def create_run(self, name, inputs, run_type, **kwargs):
        self._keep(kwargs)

    def update_run(self, run_id, **kwargs):
        self._keep({"id": run_id, **kwargs})

    def _keep(self, run):
        kept = self.metadata.setdefault(str(run.get("id")), {})
        kept.update((run.get("extra") or {}).get("metadata") or {})


async def test_the_decision_is_in_the_traces_metadata(run, endpoint):
    client = RecordingClient()
    graph = create_sot_graph(
        endpoint.chat_model(), router=lambda question, history: RouteDecision("direct", "no list", 0.9)
    )
    tracer = LangChainTracer(client=client)
    await run(graph, ASK, {"callbacks": [tracer]})
    tracer.wait_for_futures()
    noted = [metadata for metadata in client.metadata.values() if "sot_route_confidence" in metadata]
    assert [(metadata["sot_route"], metadata["sot_route_confidence"]) for metadata in noted] == [("direct", 0.9)]


async def test_the_models_key_is_in_no_error_of_a_router(run, endpoint):
    key = "abcd-efgh-ijkl-mnop"

    def router(question, history):
        raise ValueError(f"Denied: {key}")

    options = SotOptions(on_router_failure="raise")
    with pytest.raises(RoutingError) as caught:
        await run(
            create_sot_graph(endpoint.chat_model(api_key=key), router=router, options=options), {"question": "Why?"}
        )
    assert key not in str(caught.value)
    assert "Denied" in str(caught.value.__cause__)
    assert key not in str(caught.value.__cause__)


class BegunCalls(BaseCallbackHandler):
    """Counts what a trace shows of a model's calls."""

    run_inline = True
    number = 0

    def on_chat_model_start(self, *_, **__):
        self.number += 1


@pytest.mark.parametrize("turns", [0, 2, 5, 10, 20])  # of the loop: a call may be cancelled before it has left
async def test_calls_that_nobody_waits_for_are_counted_as_a_trace_shows_them(endpoint, turns):
    async def router(_question, _history):
        for _ in range(turns):
            await asyncio.sleep(0)
        return "direct"

    endpoint.responder = routed("C")
    graph = create_sot_graph(
        endpoint.chat_model(), router=router, options=SotOptions(speculative=True, frame="opening")
    )
    begun = BegunCalls()
    result = await graph.ainvoke(ASK, {"callbacks": [begun]})
    assert result["usage"]["total"]["calls"] == begun.number == 3
