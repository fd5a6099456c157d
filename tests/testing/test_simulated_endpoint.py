"""The simulated endpoint, seen by the real OpenAI client and by `ChatOpenAI`."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

from sot_graph import create_sot_graph
from sot_graph.errors import SotConfigError
from sot_graph.testing import (
    Ask,
    ChatRequest,
    CutOff,
    Empty,
    Fault,
    Garbage,
    HangUp,
    Physics,
    Refusal,
    Reply,
    Reset,
    SimulatedEndpoint,
    SkeletonResponder,
    Stall,
    Status,
    ToolCall,
    count_tokens,
    split_tokens,
)
from tests.support.prefill import like_llama_cpp
from tests.support.strict_endpoint import StrictEndpoint
from tests.support.watched_endpoint import WatchedEndpoint

ASK = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture
def endpoint() -> Iterator[StrictEndpoint]:
    """An instant endpoint that answers in six words."""
    with StrictEndpoint(lambda _: "The sky is blue, you see.", physics=Physics.instant()) as running:
        yield running


@pytest.fixture
def client(endpoint: SimulatedEndpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=endpoint.base_url, api_key="test", max_retries=0, timeout=30) as opened:
        yield opened


@pytest.fixture
async def aclient(endpoint: SimulatedEndpoint) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=endpoint.base_url, api_key="test", max_retries=0, timeout=30) as opened:
        yield opened


def complete(client: openai.OpenAI, **kwargs: Any) -> Any:
    return client.chat.completions.create(**{"model": "m", "messages": ASK, **kwargs})


def streamed(client: openai.OpenAI, **kwargs: Any) -> list[Any]:
    with complete(client, stream=True, **kwargs) as stream:
        return list(stream)


def texts(chunks: list[Any]) -> list[str]:
    return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]


# --- answers


def test_an_answer_comes_whole_with_its_usage(client: openai.OpenAI):
    answer = complete(client)

    assert answer.choices[0].message.content == "The sky is blue, you see."
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 7, 12)


def test_a_stream_has_one_chunk_a_token_and_ends_with_its_reason(client: openai.OpenAI):
    chunks = streamed(client)

    assert texts(chunks) == split_tokens("The sky is blue, you see.")
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_carries_usage_in_a_last_chunk_only_when_asked_for(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.responder = lambda _: Reply("One two.", cached_tokens=3)
    *others, last = streamed(client, stream_options={"include_usage": True})

    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (5, 2)
    assert last.usage.prompt_tokens_details.cached_tokens == 3
    assert all(chunk.usage is None for chunk in others)


def test_usage_can_be_overridden(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.responder = lambda _: Reply("x", usage={"prompt_tokens": 7, "completion_tokens": 8, "total_tokens": 15})

    assert complete(client).usage.total_tokens == 15


def test_usage_that_is_overridden_is_sent_as_it_is_with_a_cache_too():
    usage = {"prompt_tokens": 7, "completion_tokens": 8, "total_tokens": 15}
    with SimulatedEndpoint(lambda _: Reply("x", usage=usage), physics=Physics.instant(), cache="openai") as running:
        said = running.chat_model().invoke("Why?").response_metadata["token_usage"]
    assert {name: said[name] for name in usage} == usage


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_come_whole_and_streamed(endpoint: SimulatedEndpoint, client: openai.OpenAI, stream: bool):
    endpoint.responder = lambda _: Reply(tool_calls=[ToolCall("plan", {"points": ["a"]}), ToolCall("note", "{}")])
    if not stream:
        choice = complete(client).choices[0]
        calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
    else:
        names: dict[int, str] = {}
        arguments: dict[int, str] = {}
        for chunk in streamed(client):
            for call in chunk.choices[0].delta.tool_calls or []:
                names.setdefault(call.index, call.function.name)
                arguments[call.index] = arguments.get(call.index, "") + call.function.arguments
        calls = [(names[index], arguments[index]) for index in names]

    assert calls == [("plan", '{"points":["a"]}'), ("note", "{}")]


def test_a_responder_may_be_a_coroutine(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    async def answer(request: ChatRequest) -> str:
        await asyncio.sleep(0)
        return request.last_user.upper()

    endpoint.responder = answer

    assert complete(client).choices[0].message.content == "WHY IS THE SKY BLUE?"


def test_a_responder_that_raises_is_a_500_that_says_so(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    def fail(_request: ChatRequest) -> str:
        raise LookupError("no such thing")

    endpoint.responder = fail
    with pytest.raises(openai.InternalServerError, match="no such thing"):
        complete(client)
    assert endpoint.requests[0].outcome == "responder_error"


@pytest.mark.parametrize("wrong", [{"max_tokens": "100"}, {"stop": 5}, {"stream_options": "usage"}])
def test_a_request_of_wrong_kinds_is_rejected(endpoint, client, wrong):
    with pytest.raises(openai.BadRequestError, match="This request, or its reply, can"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Why?"}], extra_body=wrong)
    assert [request.outcome for request in endpoint.requests] == ["rejected"]
    assert endpoint.in_flight == 0


def test_max_tokens_cuts_with_the_reason_length(client: openai.OpenAI):
    for limit in ({"max_tokens": 2}, {"max_completion_tokens": 2}):
        answer = complete(client, **limit)
        assert answer.choices[0].message.content == "The sky "
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 2


def test_stop_strings_end_the_answer_and_are_not_in_it(client: openai.OpenAI):
    answer = complete(client, stop=["you", " blue"])

    assert answer.choices[0].message.content == "The sky is"
    assert answer.choices[0].finish_reason == "stop"


def test_a_prefill_is_ignored_as_hosted_models_mostly_do(client: openai.OpenAI):
    messages = [*ASK, {"role": "assistant", "content": "The sky"}]

    assert complete(client, messages=messages).choices[0].message.content == "The sky is blue, you see."


@pytest.mark.parametrize(
    ("prefill", "rest"), [("The sky", " is blue, you see."), ("Well:", " The sky is blue, you see.")]
)
def test_like_llama_cpp_a_prefill_is_echoed_whole_but_not_streamed(
    endpoint: SimulatedEndpoint, client: openai.OpenAI, prefill: str, rest: str
):
    endpoint.responder = like_llama_cpp(endpoint.responder)
    messages = [*ASK, {"role": "assistant", "content": prefill}]

    assert complete(client, messages=messages).choices[0].message.content == prefill + rest
    assert "".join(texts(streamed(client, messages=messages))) == rest


# --- physics


def test_no_token_comes_before_its_time():
    physics = Physics(time_to_first_token=0.05, tokens_per_second=100)
    with (
        SimulatedEndpoint(lambda _: "six tokens of four chars", physics=physics) as endpoint,
        openai.OpenAI(base_url=endpoint.base_url, api_key="test", max_retries=0) as client,
    ):
        start = time.monotonic()
        arrivals = []
        with complete(client, stream=True) as stream:
            for chunk in stream:
                if chunk.choices[0].delta.content or chunk.choices[0].finish_reason:
                    arrivals.append(time.monotonic() - start)
        start = time.monotonic()
        complete(client)
        whole = time.monotonic() - start

    assert [arrival >= physics.due(k) for k, arrival in enumerate(arrivals)] == [True] * 7
    assert whole >= physics.due(6) == pytest.approx(0.11)
    assert [entry.first_byte_at - entry.arrived_at >= 0.05 for entry in endpoint.requests] == [True, True]


@pytest.mark.parametrize("wrong", [{"time_to_first_token": -1}, {"tokens_per_second": 0}])
def test_impossible_physics_are_refused(wrong: dict[str, float]):
    with pytest.raises(SotConfigError):
        Physics(**wrong)


# --- log, concurrency, clients that leave


def test_the_log_tells_what_was_asked_and_how_it_ended(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    complete(client)
    streamed(client)
    first, second = endpoint.requests

    assert (first.id, first.outcome, first.status, first.tokens_sent) == (1, "ok", 200, 7)
    assert (second.outcome, second.request.stream, second.tokens_sent) == ("ok", True, 7)
    assert first.arrived_at <= first.first_byte_at <= first.ended_at <= second.arrived_at
    assert (endpoint.in_flight, endpoint.max_in_flight) == (0, 1)


def test_the_clients_key_is_known_but_not_shown(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    complete(client.with_options(api_key="sk-very-secret-key"))
    entry = endpoint.requests[0]

    assert entry.request.api_key == "sk-very-secret-key"
    assert "sk-very-secret" not in repr(entry) + json.dumps(vars(entry), default=str) + repr(entry.request.headers)


def test_reset_forgets_the_log_and_begins_with_the_faults_anew(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(Status(500), times=1))
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            complete(client)
        complete(client)
        endpoint.reset()
        assert (endpoint.requests, endpoint.max_in_flight) == ([], 0)


def test_a_hold_proves_that_calls_are_in_flight_together(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    with endpoint.hold(3) as hold, ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: complete(client), range(3)))

    assert hold.complete
    assert len(answers) == endpoint.max_in_flight == 3


def test_a_hold_that_never_fills_answers_504_instead_of_hanging(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    with endpoint.hold(2, timeout=0.05) as hold, pytest.raises(openai.InternalServerError, match="1 of 2") as error:
        complete(client)

    assert error.value.status_code == 504
    assert not hold.complete
    assert endpoint.requests[0].outcome == "held_too_long"
    assert complete(client).choices[0].message.content


def test_a_hold_takes_only_what_matches_and_lets_go_at_the_end_of_its_block(
    endpoint: SimulatedEndpoint, client: openai.OpenAI
):
    with ThreadPoolExecutor(1) as pool:
        with endpoint.hold(2, lambda request: request.model == "held") as hold:
            complete(client)
            held = pool.submit(complete, client, model="held")
            endpoint.wait_for(lambda log: len(log) == 2)
            assert not held.done()
        assert held.result().choices
    assert not hold.complete


async def test_a_cancelled_call_closes_its_connection(endpoint: SimulatedEndpoint, aclient: openai.AsyncOpenAI):
    endpoint.physics = Physics(time_to_first_token=60)
    call = asyncio.create_task(aclient.chat.completions.create(model="m", messages=ASK))
    await endpoint.wait_for_async(lambda log: log)
    assert endpoint.in_flight == 1
    call.cancel()
    [entry] = await endpoint.wait_for_async(lambda log: [entry for entry in log if entry.outcome])

    assert (entry.outcome, entry.status, endpoint.in_flight) == ("client_closed", None, 0)
    assert call.cancelled()


async def test_a_stream_that_is_left_early_is_logged_with_what_it_got(
    endpoint: SimulatedEndpoint, aclient: openai.AsyncOpenAI
):
    endpoint.physics = Physics(time_to_first_token=0, tokens_per_second=0.01)
    stream = await aclient.chat.completions.create(model="m", messages=ASK, stream=True)
    async with aclosing(stream.__aiter__()) as chunks:
        async for chunk in chunks:
            if chunk.choices[0].delta.content:
                break
    await stream.close()
    [entry] = await endpoint.wait_for_async(lambda log: [entry for entry in log if entry.outcome])

    assert (entry.outcome, entry.status, entry.tokens_sent) == ("client_closed", 200, 1)


def test_waiting_in_vain_says_what_was_seen(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    complete(client)
    with pytest.raises(TimeoutError, match="1: ok"):
        endpoint.wait_for(lambda log: len(log) == 2, timeout=0.01)


async def test_waiting_in_vain_in_a_loop_says_it_too(endpoint: SimulatedEndpoint):
    with pytest.raises(TimeoutError, match="Requests: none"):
        await endpoint.wait_for_async(lambda log: log, timeout=0.01)


def test_stopping_ends_what_is_in_flight_and_a_new_start_listens_at_the_same_port(client: openai.OpenAI):
    threads = threading.active_count()
    endpoint = WatchedEndpoint(physics=Physics(time_to_first_token=60))
    endpoint.start()
    with openai.OpenAI(base_url=endpoint.base_url, api_key="k", max_retries=0) as own, ThreadPoolExecutor(1) as pool:
        call = pool.submit(complete, own)
        endpoint.wait_for(lambda log: log)
        endpoint.stop()
        assert isinstance(call.exception(), openai.APIConnectionError)
        with pytest.raises(openai.APIConnectionError):
            complete(own)
        assert [entry.outcome for entry in endpoint.requests] == ["stopped"]
        endpoint.physics = Physics.instant()
        with endpoint:
            assert complete(own).choices
    assert threading.active_count() == threads


def test_a_taken_port_is_told_to_whoever_starts(endpoint: SimulatedEndpoint):
    with pytest.raises(OSError, match=r"(?i)address already in use"):
        SimulatedEndpoint(port=endpoint.port).start()


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_what_a_subclass_does_wrong_in_its_routes_is_told_to_whoever_starts(error: type[BaseException]):
    class Broken(SimulatedEndpoint):
        def application(self):
            raise error("no routes")

    endpoint = Broken()
    for _ in range(2):  # it can be started again
        with pytest.raises(error, match="no routes"):
            endpoint.start()
        assert endpoint._thread is None


# --- what it doesn't take


def test_a_wrong_key_is_a_401_in_openais_words(endpoint: StrictEndpoint, client: openai.OpenAI):
    endpoint.api_keys = {"right"}
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key provided") as error:
        complete(client.with_options(api_key="sk-wrong-but-long-enough"))
    with pytest.raises(openai.AuthenticationError):
        client.models.list()

    assert error.value.code == "invalid_api_key"
    assert "wrong-but-long" not in str(error.value)
    assert endpoint.requests[0].outcome == "rejected"
    assert complete(client.with_options(api_key="right")).choices


def test_an_unknown_model_is_a_404_and_known_ones_are_listed(endpoint: StrictEndpoint, client: openai.OpenAI):
    endpoint.models = {"b", "a"}
    with pytest.raises(openai.NotFoundError, match="`m` does not exist") as error:
        complete(client)

    assert error.value.code == "model_not_found"
    assert [model.id for model in client.models.list()] == ["a", "b"]
    assert complete(client, model="a").model == "a"


def test_what_a_server_does_not_know_is_a_400(endpoint: StrictEndpoint, client: openai.OpenAI):
    endpoint.supports = {"json_object"}
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    for unknown in ({"response_format": schema}, {"tools": [tool]}, {"n": 2}, {"messages": []}):
        with pytest.raises(openai.BadRequestError):
            complete(client, **unknown)

    assert complete(client, response_format={"type": "json_object"}).choices


def test_a_body_that_is_no_json_is_a_400(endpoint: SimulatedEndpoint):
    response = httpx2.post(f"{endpoint.base_url}/chat/completions", content=b"{", trust_env=False)

    assert response.status_code == 400


def test_supporting_something_unknown_is_refused():
    with pytest.raises(SotConfigError, match="may hold: json_object, json_schema, tools"):
        StrictEndpoint(supports={"json"})


# --- faults


def test_a_status_fault_has_openais_shape_and_hits_so_many_times(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(Status(429, retry_after=0.25), times=2))
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as error:
            complete(client)
        assert error.value.response.headers["retry-after"] == "0.25"
        assert error.value.code == "rate_limit_exceeded"
    complete(client)

    assert [entry.outcome for entry in endpoint.requests] == ["fault:status", "fault:status", "ok"]


def test_a_status_fault_may_have_a_body_of_its_own(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(Status(502, body="<html>bad gateway</html>"), name="proxy"))
    with pytest.raises(openai.InternalServerError, match="bad gateway"):
        complete(client)
    assert endpoint.requests[0].outcome == "fault:proxy"


def test_a_fault_hits_only_what_it_matches(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(Status(500), match=lambda request: request.stream))
    complete(client)
    with pytest.raises(openai.InternalServerError):
        streamed(client)


def test_an_outage_ends(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    outage = Fault(Status(503), until=3600)
    endpoint.faults.append(outage)
    with pytest.raises(openai.InternalServerError):
        complete(client)
    outage.until = 0
    assert complete(client).choices


def test_the_same_seed_hits_the_same_requests():
    request = ChatRequest({})

    def hits(seed: int) -> list[bool]:
        fault = Fault(Reset(), probability=0.5, seed=seed)
        return [fault.takes(request, 0) for _ in range(40)]

    assert hits(1) == hits(1) != hits(2)
    assert 0 < sum(hits(1)) < 40


@pytest.mark.parametrize("wrong", [429, HangUp, "stall", None])
def test_what_is_no_kind_of_fault_is_refused_for_it_would_hit_and_do_nothing(wrong: Any):
    with pytest.raises(SotConfigError, match=r"such as Status\(429\) or HangUp\(\)"):
        Fault(wrong)


@pytest.mark.parametrize("given", [None, 3, {"text": "Seed"}])
def test_a_responder_that_returns_no_reply_is_told_so(given: Any):
    with SimulatedEndpoint(lambda request: given, physics=Physics.instant()) as endpoint:
        with pytest.raises(openai.InternalServerError, match=r"The responder returned .*must return a text or a Reply"):
            endpoint.chat_model(max_retries=0).invoke("Why?")
        assert endpoint.requests[0].outcome == "responder_error"


def test_what_would_only_fail_in_the_endpoints_thread_is_refused_where_it_is_made():
    with pytest.raises(SotConfigError, match="an HTTP status such as 429"):
        Status("429")
    with pytest.raises(SotConfigError, match="an HTTP status such as 429"):
        Status(42)
    for wrong in ("Soil", lambda: True):
        with pytest.raises(SotConfigError, match=r"Fault\.match .*\(request\)"):
            Fault(Status(429), match=wrong)
        with SimulatedEndpoint() as endpoint, pytest.raises(SotConfigError, match=r"hold: match .*\(request\)"):
            endpoint.hold(1, wrong).__enter__()
    with pytest.raises(SotConfigError, match=r"cache is openai, .* or None, not 'claude'"):
        SimulatedEndpoint(cache="claude")
    with pytest.raises(SotConfigError, match="no address before it is started"):
        SimulatedEndpoint().chat_model()
    with pytest.raises(SotConfigError, match=r"physics is a Physics, not 0\.4"):
        SimulatedEndpoint(physics=0.4)
    with pytest.raises(SotConfigError, match="a function of a request"):
        SimulatedEndpoint("text")
    for faults in ([Status(429)], Fault(Status(429))):
        with pytest.raises(SotConfigError, match=r"a list of Fault\(\.\.\.\)"):
            SimulatedEndpoint(faults=faults)


def test_a_fault_that_another_endpoint_had_begins_anew():
    once = Fault(Status(400), times=1)
    for _ in range(2):
        with SimulatedEndpoint(physics=Physics.instant(), faults=[once]) as endpoint:
            with pytest.raises(openai.BadRequestError):
                endpoint.chat_model().invoke("Why?")
            assert once.hits == 1


@pytest.mark.parametrize("wrong", [{"probability": 1.5}, {"times": -1}])
def test_an_impossible_fault_is_refused(wrong: dict[str, Any]):
    with pytest.raises(SotConfigError):
        Fault(Reset(), **wrong)


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_comes_before_any_byte(endpoint: SimulatedEndpoint, client: openai.OpenAI, stream: bool):
    endpoint.faults.append(Fault(Reset()))
    with pytest.raises(openai.APIConnectionError) as error:
        complete(client, stream=stream)

    assert isinstance(error.value.__cause__, httpx2.ReadError)
    entry = endpoint.requests[0]
    assert (entry.outcome, entry.first_byte_at) == ("fault:reset", None)


def test_a_hang_up_in_mid_stream_closes_the_connection(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(HangUp(after_tokens=2)))
    seen = []
    with complete(client, stream=True) as stream, pytest.raises(httpx2.RemoteProtocolError):
        seen.extend(stream)

    assert texts(seen) == ["The ", "sky "]
    assert (endpoint.requests[0].outcome, endpoint.requests[0].tokens_sent) == ("fault:hang_up", 2)


def test_a_hang_up_in_mid_body_closes_the_connection(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(HangUp()))
    with pytest.raises(openai.APIConnectionError) as error:
        complete(client)

    assert isinstance(error.value.__cause__, httpx2.RemoteProtocolError)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stall_lasts_until_the_client_leaves(endpoint: SimulatedEndpoint, client: openai.OpenAI, stream: bool):
    endpoint.faults.append(Fault(Stall(after_tokens=1)))
    hasty = client.with_options(timeout=httpx2.Timeout(30, read=0.2))
    with pytest.raises((openai.APITimeoutError, httpx2.ReadTimeout)):
        streamed(hasty) if stream else complete(hasty)
    [entry] = endpoint.wait_for(lambda log: [entry for entry in log if entry.outcome])

    assert (entry.outcome, entry.fault, entry.tokens_sent) == ("client_closed", "stall", int(stream))


def test_garbage_is_a_success_that_is_no_json(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(Garbage("{nonsense")))
    with pytest.raises(ValueError, match="Expecting property name"):
        complete(client)
    with pytest.raises(ValueError, match="Expecting property name"):
        streamed(client)

    assert [(entry.status, entry.outcome) for entry in endpoint.requests] == [(200, "fault:garbage")] * 2


def test_an_empty_answer_is_a_success_with_nothing_in_it(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(Empty()))

    assert complete(client).choices[0].message.content == ""
    assert texts(streamed(client)) == []


def test_a_cut_off_has_the_reason_length(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(CutOff(max_tokens=3)))
    chunks = streamed(client)

    assert complete(client).choices[0].message.content == "The sky is b" == "".join(texts(chunks))
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_refusal_is_no_content(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(Refusal("I won't.")))
    message = complete(client).choices[0].message

    assert (message.content, message.refusal) == (None, "I won't.")
    deltas = [chunk.choices[0].delta for chunk in streamed(client)]
    assert "".join(delta.refusal or "" for delta in deltas) == "I won't."


def test_a_reply_may_be_overridden(endpoint: SimulatedEndpoint, client: openai.OpenAI):
    endpoint.faults.append(Fault(Reply("Something else."), times=1))

    assert complete(client).choices[0].message.content == "Something else."
    assert complete(client).choices[0].message.content == "The sky is blue, you see."


# --- ChatOpenAI


def test_chat_openai_talks_to_it_in_every_way():
    class Skeleton(BaseModel):
        points: list[str]

    with SimulatedEndpoint(SkeletonResponder(titles=["Seed", "Soil", "Sun"]), physics=Physics.instant()) as endpoint:
        model = endpoint.chat_model(max_retries=0)
        for method in ("json_schema", "function_calling", "json_mode"):
            structured = model.with_structured_output(Skeleton, method=method)
            assert structured.invoke("Plan it, as JSON.") == Skeleton(points=["Seed", "Soil", "Sun"])
        whole = model.invoke("Why?")
        parts = list(model.stream("Why?"))
        assert "".join(str(part.text) for part in parts) == whole.text
        assert sum((part.usage_metadata or {}).get("output_tokens", 0) for part in parts) == count_tokens(whole.text)
        assert whole.usage_metadata["output_tokens"] == count_tokens(whole.text) > 300


async def test_a_hundred_streams_of_chat_openai_are_in_flight_together():
    with SimulatedEndpoint(lambda _: "One two.", physics=Physics.instant()) as endpoint:
        async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=200), trust_env=False) as http:
            model = endpoint.chat_model(http_async_client=http, max_retries=0)

            async def ask() -> str:
                return "".join([str(part.text) async for part in model.astream("Why?")])

            with endpoint.hold(100, timeout=60):
                answers = await asyncio.gather(*(ask() for _ in range(100)))

    assert set(answers) == {"One two."}
    assert endpoint.max_in_flight == 100


def test_the_endpoints_command_says_that_its_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = subprocess.run(
            [sys.executable, "-m", "sot_graph.testing", "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "Address already in use" in ran.stderr
    assert str(port) in ran.stderr


def test_a_match_that_raises_is_a_500_that_says_so(client: openai.OpenAI, endpoint: SimulatedEndpoint):
    endpoint.faults = [Fault(Status(429), match=lambda request: request.nope)]
    with pytest.raises(openai.InternalServerError, match="The endpoint failed: AttributeError"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Why?"}])
    (logged,) = endpoint.requests
    assert (logged.outcome, logged.status, endpoint.in_flight) == ("responder_error", 500, 0)


def test_what_an_endpoint_has_noted_tells_what_was_asked_for():
    with SimulatedEndpoint(SkeletonResponder(titles=["Seed", "Soil", "Sun"]), physics=Physics.instant()) as endpoint:
        create_sot_graph(endpoint.chat_model()).invoke({"question": "How do plants grow?"})
        asked = [Ask.of(logged, ["Seed", "Soil", "Sun"]) for logged in endpoint.requests]
    assert [ask.stage for ask in asked] == ["skeleton", "point", "point", "point"]
    assert {ask.title for ask in asked[1:]} == {"Seed", "Soil", "Sun"}
