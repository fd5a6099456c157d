"""The input that a run is billed for, metered by the providers' documented rules: what docs/cost.md promises."""

import pytest

from benchmarks.bill import HISTORIES, POINTS, ROWS, bill, conversation
from sot_graph import SotOptions, create_sot_graph
from sot_graph.testing import CacheMeter, ChatRequest, Physics, SimulatedEndpoint, SkeletonResponder

PRESETS = {row.title: row for row in ROWS if row.cache and row.options == SotOptions() and not row.bound}
BOUND = {row.title: row for row in ROWS if row.bound}
SCHEMAS = {row.title: row for row in ROWS if "with a schema" in row.title}
HOSTED = Physics(time_to_first_token=0.4, tokens_per_second=60)


@pytest.mark.parametrize("title", PRESETS)
@pytest.mark.parametrize(("history", "most"), [(4_000, 2.4), (32_000, 2.1)])
async def test_a_cold_run_costs_little_more_than_two_direct_answers(title, history, most):
    assert await bill(PRESETS[title], history) <= most


async def test_a_mark_of_the_callers_on_every_call_helps_without_a_schema_and_harms_with_one():
    costs = {row.options == SotOptions(): await bill(row, 4_000) for row in BOUND.values()}
    assert costs[True] < 3
    assert costs[False] > 9


def test_every_cache_that_the_endpoint_knows_is_among_them():
    assert {row.cache for row in PRESETS.values()} == {"openai", "openai-5.6", "anthropic", "gemini", "deepseek"}
    assert HISTORIES == (500, 4_000, 32_000)


@pytest.mark.parametrize("title", SCHEMAS)
async def test_behind_a_schema_every_prompt_is_paid_for_in_full(title):
    assert await bill(SCHEMAS[title], 4_000) > 9


async def test_the_whole_answer_takes_no_longer_than_with_a_schema():
    async def seconds(options):
        with SimulatedEndpoint(SkeletonResponder(points=POINTS), physics=Physics.instant()) as endpoint:
            await create_sot_graph(endpoint.chat_model(), options=options).ainvoke({"messages": conversation(4_000)})
            skeleton, *points = [entry.tokens_sent for entry in endpoint.requests]
            return HOSTED.due(skeleton) + max(map(HOSTED.due, points))

    today = await seconds(SotOptions(structured_mode="json_schema"))
    assert await seconds(SotOptions()) <= 1.02 * today


async def test_reads_and_writes_are_in_the_usage():
    with SimulatedEndpoint(SkeletonResponder(points=3), physics=Physics.instant(), cache="anthropic") as endpoint:
        graph = create_sot_graph(endpoint.chat_model(model="claude-sonnet-5"))
        usage = (await graph.ainvoke({"messages": conversation(4_000)}))["usage"]
        bills = [entry.prompt for entry in endpoint.requests]
    assert usage["skeleton"]["cache_write_tokens"] == bills[0].written > 4_000
    assert usage["expansion"]["cached_tokens"] == sum(each.cached for each in bills[1:]) == 3 * bills[0].written
    assert usage["total"]["input_tokens"] == sum(each.tokens for each in bills)
    assert usage["total"]["cache_write_tokens"] == bills[0].written


def request(*texts, marked=(), **others):
    content = [{"type": "text", "text": text} for text in texts]
    for place in marked:
        content[place]["cache_control"] = content[place]["prompt_cache_breakpoint"] = {}
    return ChatRequest({"model": "m", "messages": [{"role": "user", "content": content}], **others})


@pytest.mark.parametrize("name", ["openai", "openai-5.6", "anthropic", "gemini", "deepseek"])
def test_nothing_is_read_before_an_answer_has_begun_and_nothing_behind_another_schema(name):
    meter, same = CacheMeter(name), "x" * 20_000
    first = meter.bill(request(same, marked=[0]))
    assert first.cached == meter.bill(request(same, marked=[0])).cached == 0
    meter.keep(first)
    again = meter.bill(request(same, marked=[0]))
    assert first.tokens - 128 < again.cached <= first.tokens
    assert again.cost < 0.2 * first.tokens
    assert meter.bill(request(same, marked=[0], response_format={"type": "json_schema"})).cached == 0
    assert meter.bill(request("y" + same, marked=[0])).cached == 0


def test_what_is_written_costs_a_quarter_more_where_the_provider_says_so():
    free, fee = (CacheMeter(name).bill(request("x" * 20_000, marked=[0])) for name in ("openai", "anthropic"))
    assert free.cost == free.tokens
    assert free.written == 0
    assert fee.cost == 1.25 * fee.tokens
    assert fee.written == fee.tokens


def test_a_short_prompt_is_kept_by_nobody_who_has_a_minimum():
    for name in ("openai", "openai-5.6", "anthropic", "gemini"):
        bill = CacheMeter(name).bill(request("x" * 4_000, marked=[0]))
        assert (bill.cost, bill.keeps) == (bill.tokens, frozenset())
