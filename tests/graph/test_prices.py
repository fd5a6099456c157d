"""What a run cost in dollars, and tokens that nobody reported."""

from dataclasses import replace

import pytest
from langchain.chat_models import init_chat_model
from langchain_openai import ChatOpenAI

from sot_graph import SotOptions, create_sot_graph
from sot_graph.cli.ask_command import bill_of
from sot_graph.cli.compare_command import figures
from sot_graph.llm.loop_bound_model import LoopModel
from sot_graph.report import result_timeline
from sot_graph.report.metrics import measure_run
from sot_graph.testing import Fault, HangUp, Physics, SimulatedEndpoint, SkeletonResponder, Stall
from sot_graph.usage import CHARS_PER_TOKEN, ModelPrice, UsageMeter, add_usage, clean_counts

pytest.importorskip("genai_prices", reason="the extra cost is not installed")

ASK = {"question": "How do plants grow?"}
TITLES = ["Light", "Water", "Soil"]
MILLION = 1_000_000


@pytest.fixture
def endpoint():
    with SimulatedEndpoint(SkeletonResponder(titles=TITLES), physics=Physics.instant()) as running:
        yield running


def is_second(request):
    return "<point>2." in request.last_user


async def test_the_cost_stands_in_the_usage_by_stage_and_in_total(endpoint):
    usage = (await create_sot_graph(endpoint.chat_model(model="gpt-4o")).ainvoke(ASK))["usage"]
    cost = usage["cost"]
    assert cost.keys() == {"skeleton", "expansion", "total"}
    assert cost["total"] == pytest.approx(cost["skeleton"] + cost["expansion"])
    skeleton = usage["skeleton"]
    assert cost["skeleton"] == pytest.approx(
        (2.5 * skeleton["input_tokens"] + 10 * skeleton["output_tokens"]) / MILLION
    )


async def test_each_stage_has_the_price_of_its_own_model_and_one_without_a_price_is_named(endpoint):
    chat, local = endpoint.chat_model(model="gpt-4o"), endpoint.chat_model(model="my-own-model")
    usage = (await create_sot_graph(chat, skeleton_model=local).ainvoke(ASK))["usage"]
    assert usage["cost"].keys() == {"expansion", "total", "unpriced"}
    assert usage["cost"]["unpriced"] == ["my-own-model"]


def priced_as(usage, per_million_in, per_million_out):
    total = usage["total"]
    return pytest.approx((per_million_in * total["input_tokens"] + per_million_out * total["output_tokens"]) / MILLION)


async def test_where_one_of_several_models_answers_it_is_priced_by_that_one(run, endpoint):
    gone = endpoint.chat_model(model="gpt-4o", base_url="http://127.0.0.1:9/v1", max_retries=0)
    graph = create_sot_graph(gone.with_fallbacks([endpoint.chat_model(model="gpt-4o-mini")]))
    usage = (await run(graph))["usage"]
    assert usage["cost"]["total"] == priced_as(usage, 0.15, 0.6)


@pytest.mark.parametrize("wrapped", [lambda model: model.with_retry(), lambda model: model.with_fallbacks([model])])
async def test_a_model_of_ones_own_server_has_no_price_whatever_it_is_wrapped_in(run, endpoint, wrapped):
    graph = create_sot_graph(wrapped(endpoint.chat_model(model="gpt-oss-120b")))
    assert (await run(graph))["usage"]["cost"] == {"unpriced": ["gpt-oss-120b"]}


def test_of_several_models_the_one_that_a_reply_names_keeps_its_address():
    first = ChatOpenAI(model="deepseek-chat", base_url="https://api.deepseek.com/v1", api_key="k")
    model = LoopModel(
        first.with_fallbacks([ChatOpenAI(model="gpt-4o", api_key="k"), ChatOpenAI(model="gpt-4o-mini", api_key="k")])
    )
    told = {"model_name": "deepseek-chat", "model_provider": "openai"}
    assert not model.is_one_model
    assert model.price_of(told) == ModelPrice.of(first)
    assert model.price_of({**told, "model_name": "gpt-4o-mini-2024-07-18"}).name == "gpt-4o-mini"
    assert model.price_of({**told, "model_name": "gpt-4o-2024-08-06"}).name == "gpt-4o"
    assert model.price_of({**told, "model_name": "gpt-4o-audio-preview"}).name == "gpt-4o-audio-preview"
    assert model.price_of({}) == model.price


def test_a_models_newer_number_is_no_date():
    old, new = (ChatOpenAI(model=name, api_key="k") for name in ("claude-opus-4", "claude-opus-4-5"))
    for models in ((old, new), (new, old)):
        model = LoopModel(models[0].with_fallbacks([models[1]]))
        assert model.price_of({"model_name": "claude-opus-4-5-20251101"}).name == "claude-opus-4-5"
        assert model.price_of({"model_name": "claude-opus-4-20250514"}).name == "claude-opus-4"


@pytest.mark.parametrize("options", [{"stream": True}, {"stream": False}], ids=str)
async def test_the_model_that_a_runs_config_names_is_the_one_that_is_priced(endpoint, options):
    settings = {"model_provider": "openai", "base_url": endpoint.base_url, "api_key": "test", "stream_usage": True}
    model = init_chat_model("gpt-4o-mini", configurable_fields=("model",), **settings)
    graph = create_sot_graph(model, options=SotOptions(**options))
    usage = (await graph.ainvoke(ASK, {"configurable": {"model": "gpt-4o"}}))["usage"]
    assert usage["cost"]["total"] == priced_as(usage, 2.5, 10)


async def test_a_model_that_is_retried_has_its_price(run, endpoint):
    usage = (await run(create_sot_graph(endpoint.chat_model(model="gpt-4o").with_retry())))["usage"]
    assert usage["cost"]["total"] == priced_as(usage, 2.5, 10)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_whose_tokens_are_told_as_none_is_estimated(endpoint, stream):
    write = endpoint.responder
    told = {"prompt_tokens": 0, "completion_tokens": 7, "total_tokens": 7}
    endpoint.responder = lambda request: replace(write(request), usage=told)
    graph = create_sot_graph(endpoint.chat_model(model="gpt-4o"), options=SotOptions(stream=stream))
    total = (await graph.ainvoke(ASK))["usage"]["total"]
    assert total["input_tokens"] > 4 * 20
    assert total["estimated"]


async def test_calls_of_all_levels_are_priced(endpoint):
    options = SotOptions(depth=2)
    usage = (await create_sot_graph(endpoint.chat_model(model="gpt-4o"), options=options).ainvoke(ASK))["usage"]
    assert usage["expansion"]["calls"] == 12
    for stage in ("skeleton", "expansion", "total"):
        tokens = 2.5 * usage[stage]["input_tokens"] + 10 * usage[stage]["output_tokens"]
        assert usage["cost"][stage] == pytest.approx(tokens / MILLION)


async def test_without_the_extra_there_is_no_cost(endpoint, monkeypatch):
    monkeypatch.setattr("sot_graph.usage._has_prices", lambda: False)
    assert "cost" not in (await create_sot_graph(endpoint.chat_model(model="gpt-4o")).ainvoke(ASK))["usage"]


def counts(**details):
    return clean_counts({"input_tokens": MILLION, "output_tokens": 0, "input_token_details": details})


def test_what_a_cache_reads_and_writes_has_its_own_price():
    price = ModelPrice("claude-sonnet-4-5", "anthropic")
    plain, read, written = (
        price.dollars(each) for each in (counts(), counts(cache_read=MILLION), counts(cache_creation=MILLION))
    )
    assert read == pytest.approx(0.1 * plain)
    assert written == pytest.approx(1.25 * plain)


@pytest.mark.parametrize(
    ("kind", "name", "is_known"),
    [
        ("ChatAnthropic", "claude-sonnet-5", True),
        ("ChatGoogleGenerativeAI", "models/gemini-2.5-flash", True),
        ("ChatDeepSeek", "deepseek-chat", True),
        ("ChatOpenAI", "gpt-5.6", True),
        ("ChatOpenAI", "anthropic/claude-sonnet-4-5", True),
        ("ChatOpenAI", "ft:gpt-4o-mini-2024-07-18:acme::abc", True),
        ("ChatOpenAI", "me/claude-3-opus-lora", False),
        ("ChatOpenAI", "google/gemini-2.5-pro:free", False),
        ("ChatOpenAI", "llama-3.1-8b", False),
        ("ChatOpenAI", "deepseek-r1", False),  # somebody's own server, as far as anybody knows
        ("ChatOllama", "qwen3:4b", False),
    ],
)
def test_only_what_is_known_is_priced(kind, name, is_known):
    found = ModelPrice.of(type(kind, (), {"model_name": name})())
    assert (found.dollars(counts()) is not None) == is_known


async def test_a_text_that_breaks_off_at_the_deadline_has_estimated_tokens(endpoint):
    endpoint.faults = [Fault(Stall(after_tokens=20))]
    graph = create_sot_graph(endpoint.chat_model(model="gpt-4o"), options=SotOptions(deadline=8.0))
    result = await graph.ainvoke({**ASK, "given_skeleton": TITLES[:1]})
    point, usage = result["expansions"][0], result["usage"]
    assert point["status"] == "timed_out"
    assert usage["expansion"]["estimated"] is usage["total"]["estimated"] is True
    assert usage["total"]["output_tokens"] >= len(point["text"]) // CHARS_PER_TOKEN > 0
    assert usage["total"]["input_tokens"] > 0
    page = result_timeline(result)
    assert measure_run(result).estimated
    assert "estimated where the provider told none" in page
    assert "dollars" in page


async def test_so_has_one_whose_connection_broke_and_none_that_the_provider_counts(endpoint):
    endpoint.faults = [Fault(HangUp(after_tokens=20), is_second, times=1)]
    graph = create_sot_graph(endpoint.chat_model(), options=SotOptions(stream=True))
    assert (await graph.ainvoke(ASK))["usage"]["expansion"]["estimated"] is True
    usage = (await graph.ainvoke(ASK))["usage"]
    assert "estimated" not in usage["total"]
    assert not measure_run({"usage": usage}).estimated


def test_costs_and_estimates_of_several_runs_add_up():
    left = {"skeleton": {"calls": 1, "estimated": True}, "cost": {"skeleton": 0.25, "total": 0.25, "unpriced": ["b"]}}
    right = {"cost": {"skeleton": 0.5, "direct": 1.0, "total": 1.5, "unpriced": ["a", "b"]}}
    usage = add_usage(left, right)
    assert usage["cost"] == {"skeleton": 0.75, "direct": 1.0, "total": 1.75, "unpriced": ["a", "b"]}
    assert usage["total"]["estimated"] is True
    assert "estimated" not in usage["direct"]
    assert "cost" not in add_usage(None, None)


def test_what_turns_out_to_be_for_another_stage_costs_there():
    meter, price = UsageMeter(), ModelPrice("gpt-4o", "openai")
    for stage in ("skeleton", "direct"):
        meter.add_tokens(stage, {"input_tokens": MILLION, "output_tokens": 0}, price=price)
    meter.move("direct", "skeleton")
    assert meter.usage["cost"] == {"skeleton": 5.0, "total": 5.0}


def test_the_command_and_the_report_say_what_it_cost_and_what_is_not_known():
    usage = {**add_usage(None, None), "cost": {"total": 0.01234, "unpriced": ["mine"]}}
    assert bill_of(usage) == "Cost: 0.0123 dollars. The price of mine is not known."
    assert bill_of(add_usage(None, None)) == ""
    told = add_usage({"direct": {"input_tokens": 1200, "output_tokens": 7, "estimated": True}}, None)
    assert bill_of(told).startswith("About 1,200 tokens in, 7 out")
    page = result_timeline({"answer": "Yes.", "usage": usage})
    assert "0.0123 dollars, not known for mine" in page


def test_compare_shows_dollars_and_says_where_tokens_are_estimated():
    direct = {"input_tokens": 10, "output_tokens": 5, "cost": 0.5}
    table = figures(direct, {"input_tokens": 20, "output_tokens": 5, "estimated": True, "cost": None})
    columns = [list(column.cells) for column in table.columns]
    assert "tokens out, about" in columns[0]
    row = columns[0].index("dollars")
    assert [column[row] for column in columns[1:3]] == ["0.5000", "-"]


def test_what_another_execution_has_used_is_counted_with_its_estimates_and_its_cost():
    meter, other = UsageMeter(), UsageMeter()
    price = ModelPrice("gpt-4o", "openai")
    for each in (meter, other):
        each.begin_call("frame")
    other.add_tokens("frame", None, price=price, estimate=(1_000_000, 0))
    meter.add(other.usage)
    used = meter.usage
    assert (used["frame"]["calls"], used["frame"]["estimated"], used["total"]["estimated"]) == (2, True, True)
    assert used["cost"] == other.usage["cost"] == pytest.approx({"frame": 2.5, "total": 2.5})


def test_more_cached_tokens_than_there_were_are_priced_as_those_that_there_were():
    price = ModelPrice("gpt-4o", "openai")
    told, odd = [
        price.dollars(clean_counts({"input_tokens": 10, "output_tokens": 1, "input_token_details": details}))
        for details in ({"cache_read": 10, "cache_creation": 0}, {"cache_read": 50, "cache_creation": 5})
    ]
    assert told is not None
    assert odd == told
