"""What is hidden stays hidden, in names, metadata and errors too; and no key is ever anywhere."""

import json
import logging
import re
from contextlib import nullcontext
from typing import Literal

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langsmith import Client
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, SecretStr

from sot_graph import ModelRouter, RoutingError, SotConfigError, SotOptions, create_sot_graph
from sot_graph.observability.redaction import secrets_of
from sot_graph.testing import (
    Fault,
    Physics,
    ScriptedChatModel,
    SkeletonResponder,
    Status,
    answer_skeleton_of_thought,
)
from tests.support.strict_endpoint import StrictEndpoint

KEY = "canary-key-of-the-model"
QUESTION = "Why does the zebrafinch canaryquestion sing at dawn?"
ASK = {"question": QUESTION}
TITLES = ["Zebrafinch canarytitle alpha", "Zebrafinch canarytitle beta", "Zebrafinch canarytitle gamma"]
SECRET = re.compile(rb"canaryquestion|canarytitle|zebrafinch|canarytext", re.IGNORECASE)

HIDING = {
    "inputs": {"hide_inputs": True},
    "outputs": {"hide_outputs": True},
    "both": {"hide_inputs": True, "hide_outputs": True},
    "by functions": {"hide_inputs": lambda _: {}, "hide_outputs": lambda _: {}},
    "by an anonymizer": {"anonymizer": lambda data: {}},
}


def quoting(request):
    """A provider whose errors quote the prompt and the key that it got."""
    return f"Refused: {json.dumps(request.last_user)} with the key {KEY} (Bearer {KEY})"


@pytest.fixture
def endpoint():
    responder = SkeletonResponder(titles=TITLES, text=lambda ask: "A canarytext of some words.")
    with StrictEndpoint(responder, api_keys=[KEY], physics=Physics.instant()) as running:
        yield running


def model_of(endpoint):
    return ChatOpenAI(model="simulated", base_url=endpoint.base_url, api_key=KEY, max_retries=0, stream_usage=True)


def fails_by_quoting(monkeypatch, endpoint, match):
    """The endpoint's 400 quotes what it got."""
    from sot_graph.testing import simulated_endpoint

    original = simulated_endpoint.error_body

    def body(message, **kwargs):
        last = endpoint.requests[-1].request
        return original(f"{message} {quoting(last)}", **kwargs)

    monkeypatch.setattr(simulated_endpoint, "error_body", body)
    endpoint.faults = [Fault(Status(400), match)]


def of_the_second_point(request):
    return "<point>" in request.last_user and "2." in request.last_user


@pytest.mark.parametrize("hidden", HIDING)
async def test_hidden_content_is_nowhere_in_what_is_sent(hidden, run, endpoint, recorder, monkeypatch):
    fails_by_quoting(monkeypatch, endpoint, of_the_second_point)
    both = {"hide_inputs": True, "hide_outputs": True} if hidden in {"inputs", "outputs"} else {}
    tracer = LangChainTracer(client=recorder.client(**{**both, **HIDING[hidden]}))
    graph = create_sot_graph(model_of(endpoint), router=lambda question, history: "skeleton")
    result = await run(graph, ASK, {"callbacks": [tracer]})
    assert SECRET.search(json.dumps(result, default=str).encode())
    root = recorder.root()
    assert [each.name for each in root.children] == [
        "route",
        "draft_skeleton",
        "expand 1",
        "expand 2",
        "expand 3",
        "join",
    ]
    assert root.find("write 2").error
    assert not SECRET.findall(recorder.traffic)
    assert KEY.encode() not in recorder.traffic


@pytest.mark.parametrize("hidden", ["inputs", "outputs"])
async def test_one_of_the_two_hidden_is_enough_to_keep_titles_out_of_names_and_metadata(
    hidden, run, endpoint, recorder
):
    tracer = LangChainTracer(client=recorder.client(**HIDING[hidden]))
    await run(create_sot_graph(model_of(endpoint)), ASK, {"callbacks": [tracer]})
    for each in recorder.root().walk():
        assert not SECRET.search(json.dumps([each.name, each.tags, each.metadata, each.error]).encode()), each.name


@pytest.mark.parametrize(("hidden", "canary"), [("inputs", b"canaryquestion"), ("outputs", b"canarytext")])
async def test_what_goes_in_is_in_no_output_and_what_comes_out_in_no_input(hidden, canary, run, endpoint, recorder):
    tracer = LangChainTracer(client=recorder.client(**HIDING[hidden]))
    result = await run(create_sot_graph(model_of(endpoint)), ASK, {"callbacks": [tracer]})
    assert canary.decode() in json.dumps(result, default=str)
    assert canary not in recorder.traffic


class Strict(BaseModel):
    kind: Literal["no such thing"]


class KeyedModel(ScriptedChatModel):
    api_key: SecretStr = SecretStr(KEY)


def refuse_by_pydantic(given):
    """An error that nobody can change: it quotes what it was made of for ever."""
    Strict(kind=f"{given['question']} {given['point']['title']} {KEY}")


def refuse_in_words(*quoted):
    def refuse(given):
        raise ValueError(f"no: {' '.join(quote(given) for quote in quoted)} {KEY}")

    return refuse


def cause_in_words(given):
    try:
        refuse_in_words(lambda given: given["question"])(given)
    except ValueError as error:
        raise FileNotFoundError(2, "No such file", f"/data/{given['point']['title']}.txt") from error


@tool
def look_up(question: str) -> str:
    """Finds nothing, and says for what."""
    raise LookupError(f"nothing on {question}, {KEY}")


EXPANDERS = {
    "the question": refuse_in_words(lambda given: given["question"]),
    "its beginning": refuse_in_words(lambda given: given["question"][:25]),
    "one word of it": refuse_in_words(lambda given: "canaryquestion"),
    "the title": refuse_in_words(lambda given: given["point"]["title"]),
    "the prompt": refuse_in_words(lambda given: str(given["messages"])),
    "by Pydantic": refuse_by_pydantic,
    "in its cause": cause_in_words,
    "in a tool": RunnableLambda(lambda given: {"question": given["question"]}) | look_up,
}


def second_by(expander):
    """The second point is the expander's, the others are written."""
    quoting = RunnableLambda(expander) if callable(expander) else expander
    return RunnableLambda(lambda given: quoting if given["point"]["index"] == 2 else "A canarytext of some words.")


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
@pytest.mark.parametrize("quoting", EXPANDERS)
async def test_what_an_expanders_error_quotes_is_hidden(quoting, dispatch, run_whole, recorder, caplog):
    caplog.set_level(logging.DEBUG, "sot_graph")
    model = KeyedModel(answer_skeleton_of_thought(TITLES))
    tracer = LangChainTracer(client=recorder.client(hide_inputs=True, hide_outputs=True))
    expander = second_by(EXPANDERS[quoting])
    graph = create_sot_graph(model, expander=expander, options=SotOptions(dispatch=dispatch))
    result = await run_whole(graph, ASK, {"callbacks": [tracer]})
    assert [expansion["status"] for expansion in result["expansions"]] == ["ok", "failed", "ok"]
    assert any(each.error for each in recorder.root().find("expand 2").children)
    assert not SECRET.findall(recorder.traffic)
    assert KEY.encode() not in recorder.traffic
    told = caplog.text + json.dumps([expansion["error"] for expansion in result["expansions"]])
    assert KEY not in told
    assert not SECRET.search(told.encode())
    assert "Error" in told


async def test_an_expanders_error_is_whole_where_nothing_is_hidden_but_for_the_key(run, recorder, config):
    model = KeyedModel(answer_skeleton_of_thought(TITLES))
    expander = second_by(EXPANDERS["the question"])
    result = await run(create_sot_graph(model, expander=expander), ASK, config)
    assert result["expansions"][1]["error"] == f"the expander raised ValueError: no: {QUESTION} ***"
    assert QUESTION in recorder.root().find("expand 2: " + TITLES[1]).error
    assert KEY.encode() not in recorder.traffic


def refuse(*given):
    raise ValueError(f"no: {given}")


def refuse_as_the_library_does(*given):
    raise RoutingError(f"no: {given}")


@pytest.mark.parametrize(
    ("settings", "fails"),
    [
        ({"router": refuse}, False),
        ({"router": refuse, "options": SotOptions(on_router_failure="raise")}, True),
        ({"router": refuse_as_the_library_does, "options": SotOptions(on_router_failure="raise")}, True),
        ({"router": lambda *given: given, "options": SotOptions(on_router_failure="raise")}, True),
        ({"join": refuse}, True),
    ],
    ids=["a router that is passed over", "a router", "a RoutingError", "no route", "a join"],
)
async def test_what_the_error_of_a_callable_quotes_is_hidden(settings, fails, run_whole, recorder):
    """The route's reason is an output."""
    for hidden in (HIDING["inputs"], HIDING["both"]):
        model = ScriptedChatModel(answer_skeleton_of_thought(["One thing", "Another", "And more"], "Words."))
        tracer = LangChainTracer(client=recorder.client(**hidden))
        with (
            pytest.raises(Exception, match=r"\*\*\*|router failed: ValueError|the trace hides which")
            if fails
            else nullcontext()
        ):
            await run_whole(create_sot_graph(model, **settings), ASK, {"callbacks": [tracer]})
    assert not SECRET.findall(recorder.traffic)


async def test_a_models_error_that_quotes_one_word_is_hidden(run, recorder):
    write = answer_skeleton_of_thought(TITLES)

    def quoting(messages):
        text = messages[-1].text
        return ValueError("refused: canaryquestion") if "<point>" in text and "2." in text else write(messages)

    tracer = LangChainTracer(client=recorder.client(hide_inputs=True))
    result = await run(create_sot_graph(ScriptedChatModel(quoting)), ASK, {"callbacks": [tracer]})
    assert [expansion["error"] for expansion in result["expansions"]] == [None, "ValueError", None]
    assert b"canaryquestion" not in recorder.traffic


@pytest.mark.parametrize("status", [400, 404])
async def test_a_provider_that_refuses_schemas_is_remembered_where_its_words_are_hidden(
    status, run, endpoint, recorder, caplog
):
    message = f"No endpoints support response_format: {QUESTION}"
    endpoint.faults = [Fault(Status(status, message=message), lambda request: bool(request.response_format))]
    tracer = LangChainTracer(client=recorder.client(hide_inputs=True, hide_outputs=True))
    graph = create_sot_graph(model_of(endpoint), options=SotOptions(max_retries=0))
    first = await run(graph, ASK, {"callbacks": [tracer]})
    assert [point["status"] for point in first["expansions"]] == ["ok"] * 3
    assert len(endpoint.requests) == 5
    assert "structured_mode='json_schema'" in caplog.text
    endpoint.reset()
    assert (await run(graph, ASK, {"callbacks": [tracer]}))["route"] == "skeleton"
    assert not any(logged.request.response_format for logged in endpoint.requests)
    assert not SECRET.findall(recorder.traffic)


async def test_a_model_without_system_messages_is_found_out_where_words_are_hidden(run, endpoint, recorder):
    message = f"System role not supported: {QUESTION}"
    endpoint.faults = [Fault(Status(400, message=message), lambda request: bool(request.system))]
    tracer = LangChainTracer(client=recorder.client(hide_inputs=True, hide_outputs=True))
    graph = create_sot_graph(model_of(endpoint))
    assert (await run(graph, ASK, {"callbacks": [tracer]}))["route"] == "skeleton"
    endpoint.reset()
    assert (await run(graph, ASK, {"callbacks": [tracer]}))["route"] == "skeleton"
    assert not any(logged.request.system for logged in endpoint.requests)
    assert not SECRET.findall(recorder.traffic)


async def test_a_hidden_error_still_says_its_kind_and_status(run, endpoint, recorder):
    endpoint.faults = [Fault(Status(400), of_the_second_point)]
    tracer = LangChainTracer(client=recorder.client(hide_inputs=True))
    await run(create_sot_graph(model_of(endpoint)), ASK, {"callbacks": [tracer]})
    assert recorder.root().find("write 2").error.endswith("Error: *** (HTTP 400)")
    assert "HTTP 400" in recorder.root().find("expand 2").error


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
async def test_hidden_content_is_in_no_span_of_opentelemetry(dispatch, run_whole):
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    client = Client(
        tracing_mode="otel", otel_tracer_provider=provider, api_key="unused", hide_inputs=True, hide_outputs=True
    )
    model = KeyedModel(answer_skeleton_of_thought(TITLES))
    graph = create_sot_graph(
        model, expander=second_by(EXPANDERS["the prompt"]), options=SotOptions(dispatch=dispatch, frame="intro")
    )
    await run_whole(graph, ASK, {"callbacks": [LangChainTracer(client=client)]})
    client.close()
    sent = [span.to_json() for span in spans.get_finished_spans()]
    assert any('"expand_point"' in each for each in sent)
    assert not SECRET.findall("".join(sent).encode())
    assert KEY not in "".join(sent)


async def test_hidden_metadata_is_hidden(run, endpoint, recorder):
    tracer = LangChainTracer(client=recorder.client(hide_metadata=True))
    await run(create_sot_graph(model_of(endpoint)), ASK, {"callbacks": [tracer]})
    assert all(not key.startswith("sot_") for each in recorder.root().walk() for key in each.metadata)


async def test_a_run_that_fails_or_waits_for_review_hides_it_too(endpoint, recorder, monkeypatch):
    client = recorder.client(hide_inputs=True, hide_outputs=True)
    config = {"callbacks": [LangChainTracer(client=client)], "configurable": {"thread_id": "1"}}
    reviewed = create_sot_graph(
        model_of(endpoint), options=SotOptions(review_skeleton=True), checkpointer=InMemorySaver()
    )
    await reviewed.ainvoke(ASK, config)
    with pytest.raises(SotConfigError):
        await reviewed.ainvoke({**ASK, "given_expansions": [{"text": "canarytext"}]}, config)
    fails_by_quoting(monkeypatch, endpoint, lambda request: True)
    with pytest.raises(Exception, match=r"Error \(HTTP 400\)"):
        await create_sot_graph(model_of(endpoint)).ainvoke(ASK, config)
    assert len(recorder.roots()) == 3
    assert not SECRET.findall(recorder.traffic)


async def test_a_review_in_a_subgraph_hides_it_in_the_parents_error_too(run_whole, endpoint, recorder):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(model_of(endpoint), options=SotOptions(review_skeleton=True)))
    builder.add_edge(START, "answer")
    client = recorder.client(hide_inputs=True, hide_outputs=True)
    config = {"callbacks": [LangChainTracer(client=client)], "configurable": {"thread_id": "1"}}
    await run_whole(builder.compile(checkpointer=InMemorySaver()), {"messages": [("user", QUESTION)]}, config)
    assert "waits for its review" in recorder.root().find("answer").error
    assert not SECRET.findall(recorder.traffic)


async def test_a_routers_nonsense_is_not_quoted_where_outputs_are_hidden(recorder):
    model = ScriptedChatModel(lambda messages: "canarytext in place of a letter")
    config = {"callbacks": [LangChainTracer(client=recorder.client(hide_inputs=True, hide_outputs=True))]}
    graph = create_sot_graph(model, router=ModelRouter(), options=SotOptions(on_router_failure="raise"))
    with pytest.raises(Exception, match="in place of a letter"):
        await graph.ainvoke(ASK, config)
    assert not SECRET.findall(recorder.traffic)


async def test_a_key_that_a_provider_quotes_is_in_no_trace_log_checkpoint_or_error(
    endpoint, recorder, config, monkeypatch, caplog, tmp_path
):
    caplog.set_level(logging.DEBUG)
    fails_by_quoting(monkeypatch, endpoint, lambda request: True)
    file = tmp_path / "checkpoints.sqlite"
    async with AsyncSqliteSaver.from_conn_string(str(file)) as saver:
        graph = create_sot_graph(model_of(endpoint), checkpointer=saver)
        thread = {**config, "configurable": {"thread_id": "1"}}
        with pytest.raises(Exception, match="Refused") as caught:
            await graph.ainvoke(ASK, thread)
        endpoint.faults = [Fault(Status(400), of_the_second_point)]
        await graph.ainvoke(ASK, {**config, "configurable": {"thread_id": "2"}})
    assert recorder.roots()[0].find("write skeleton").error
    assert KEY.encode() not in recorder.traffic
    assert KEY not in caplog.text
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"canarytext" in stored
    assert KEY.encode() not in stored
    chain, error = [], caught.value
    while error is not None:
        chain.append(repr(error))
        error = error.__cause__ or error.__context__
    assert KEY not in " ".join(chain)


async def test_our_own_log_never_holds_the_question_or_a_title(run_whole, endpoint, caplog):
    caplog.set_level(logging.DEBUG, "sot_graph")
    endpoint.faults = [Fault(Status(500), of_the_second_point)]
    await run_whole(create_sot_graph(model_of(endpoint), options=SotOptions(max_retries=1)), ASK, {})
    ours = [record.getMessage() for record in caplog.records if record.name == "sot_graph"]
    assert any("Point 2 failed" in line for line in ours)
    assert not SECRET.search("\n".join(ours).encode())


def test_a_models_keys_are_found_wherever_it_keeps_them():
    headers = {"api-key": "key-in-a-header", "x-trace": "no secret at all"}
    model = ChatOpenAI(model="m", api_key=KEY, base_url="http://127.0.0.1:9", default_headers=headers)
    assert set(secrets_of(model.bind(stop=["x"]))) == {KEY, "key-in-a-header"}
    assert secrets_of(ScriptedChatModel(answer_skeleton_of_thought())) == ()
