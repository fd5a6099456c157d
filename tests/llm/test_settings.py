"""Every setting of a caller's `ChatOpenAI` and `AzureChatOpenAI` holds in the graph's calls: field by field."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from sot_graph.concurrency.background_loop import run_sync
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.testing import Physics, SimulatedEndpoint

ASK = [HumanMessage("Why?")]
IN_THE_REQUEST: dict[str, Any] = {
    "default_headers": {"X-Mine": "yes"},
    "default_query": {"mine": "yes"},
    "disabled_params": {"seed": None},
    "extra_body": {"top_k": 3},
    "frequency_penalty": 0.5,
    "logit_bias": {1: 2},
    "logprobs": True,
    "max_tokens": 77,
    "metadata": {"team": "a"},
    "model_kwargs": {"user": "me"},
    "n": 1,
    "openai_organization": "org",
    "presence_penalty": 0.5,
    "prompt_cache_options": {"ttl": "24h"},
    "reasoning_effort": "low",
    "seed": 7,
    "service_tier": "flex",
    "stop": ["END"],
    "store": False,
    "temperature": 0.25,
    "top_logprobs": 2,
    "top_p": 0.5,
    "verbosity": "low",
}
"""By their effect on what is sent: compared with what the caller's own model sends."""
ON_THE_COPY: dict[str, Any] = {
    "cache": None,
    "callbacks": [BaseCallbackHandler()],
    "custom_get_token_ids": len,
    "disable_streaming": True,
    "include_response_headers": True,
    "name": "mine",
    "output_version": "v0",
    "profile": {"max_input_tokens": 5},
    "rate_limiter": InMemoryRateLimiter(),
    "request_timeout": 7.0,
    "stream_usage": False,
    "streaming": True,
    "tags": ["mine"],
    "tiktoken_model_name": "gpt-4o",
    "use_previous_response_id": False,
    "use_responses_api": False,
    "verbose": True,
}
"""The graph's copy has them as they are."""
ELSEWHERE = {
    "http_async_client": "tests/llm/test_loop_bound_model.py",
    "http_client": "tests/llm/test_threaded_model.py",
    "http_socket_options": "below",
    "openai_proxy": "tests/llm/test_connections.py",
    "max_retries": "the graph's own calls are repeated by the graph: docs/reliability.md",
    "stream_chunk_timeout": "kept by the graph's call: tests/llm/test_connections.py",
}
WHERE_IT_GOES = {
    *("model_name", "openai_api_base", "openai_api_key", "openai_api_type", "openai_api_version", "validate_base_url"),
    *("azure_endpoint", "azure_ad_token", "azure_ad_token_provider", "azure_ad_async_token_provider"),
    *("deployment_name", "model_version"),
}
"""Read by the client, which is the caller's own but for its transport."""
OF_RESPONSES = {"context_management", "include", "reasoning", "truncation"}
"""Only sent with OpenAI's Responses, whose calls go through the client as they are."""
MADE_BY_THE_CLASS = {"client", "async_client", "root_client", "root_async_client"}


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    with SimulatedEndpoint(lambda _: "Because.", physics=Physics.instant()) as running:
        yield running


def test_no_field_is_forgotten():
    fields = {*ChatOpenAI.model_fields, *AzureChatOpenAI.model_fields}
    known = {*IN_THE_REQUEST, *ON_THE_COPY, *ELSEWHERE, *WHERE_IT_GOES, *OF_RESPONSES, *MADE_BY_THE_CLASS}
    assert fields - known == set()


async def asked(model: Any) -> None:
    loop_model = LoopModel(model)
    here = await loop_model.for_running_loop()
    await here.ainvoke(ASK)
    async for _ in here.astream(ASK):
        pass


def asked_by_itself(model: Any) -> None:
    """By its synchronous methods: LangChain's asynchronous client would be one of an earlier test's loop."""
    model.invoke(ASK)
    list(model.stream(ASK))


def told(endpoint: SimulatedEndpoint) -> list[Any]:
    """What the requests say, but for what the client says of itself."""
    return [
        (entry.request.raw, {name: value for name, value in entry.request.headers.items() if is_ours(name)})
        for entry in endpoint.requests
    ]


def is_ours(header: str) -> bool:
    return header.startswith(("x-mine", "openai-", "content-type"))


@pytest.mark.parametrize("name", IN_THE_REQUEST)
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
def test_a_setting_is_in_the_graphs_request_as_in_the_callers_own(endpoint: SimulatedEndpoint, name: str, sync: bool):
    model = endpoint.chat_model(use_responses_api=False, **{name: IN_THE_REQUEST[name]})
    (run_sync if sync else asyncio.run)(asked(model))
    asked_by_itself(model)
    requests = told(endpoint)
    assert len(requests) == 4
    assert requests[:2] == requests[2:]


@pytest.mark.parametrize("name", ON_THE_COPY)
async def test_another_is_on_the_graphs_copy(endpoint: SimulatedEndpoint, name: str):
    model = endpoint.chat_model(**{name: ON_THE_COPY[name]})
    loop_model = LoopModel(model)
    here: Any = await loop_model.for_running_loop()
    assert getattr(here, name) == getattr(model, name)
    assert type(here) is type(model)


async def test_an_azure_deployment_is_asked_where_it_is(endpoint: SimulatedEndpoint):
    model = AzureChatOpenAI(
        azure_deployment="mine", azure_endpoint="http://127.0.0.1:9", api_key="any", api_version="2024-10-21"
    )
    loop_model = LoopModel(model)
    here: Any = await loop_model.for_running_loop()
    client = here.root_async_client
    assert str(client.base_url) == str(model.root_async_client.base_url)
    assert client.default_query == model.root_async_client.default_query == {"api-version": "2024-10-21"}
    assert client.api_key == model.root_async_client.api_key
