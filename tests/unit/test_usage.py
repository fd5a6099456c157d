"""Counting calls and tokens."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage

from sot_graph.usage import UsageMeter, clean_counts, empty_usage, log_nonsense, merged_usage, usage_metadata


def test_a_call_is_counted_when_it_begins_for_its_stage_and_in_total():
    meter = UsageMeter()
    meter.begin_call("skeleton")
    meter.begin_call("expansion")
    assert meter.usage["skeleton"]["calls"] == 1
    assert meter.usage["expansion"]["calls"] == 1
    assert meter.usage["total"]["calls"] == 2


def test_tokens_of_a_message_are_counted_cached_ones_too():
    meter = UsageMeter()
    metadata: Any = {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9, "input_token_details": {"cache_read": 4}}
    metadata["input_token_details"] |= {"cache_creation": 1, "ephemeral_5m_input_tokens": 1}
    meter.add_tokens("direct", AIMessage("x", usage_metadata=metadata).usage_metadata)
    assert meter.usage["direct"] == {
        "input_tokens": 7,
        "output_tokens": 2,
        "cached_tokens": 4,
        "cache_write_tokens": 2,
        "reasoning_tokens": 0,
        "calls": 0,
        "cache_hits": 0,
    }
    assert meter.usage["total"] == meter.usage["direct"]


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"input_tokens": None, "output_tokens": None}, {"input_token_details": None}],
)
def test_a_provider_that_reports_nothing_costs_nothing(metadata: Any):
    meter = UsageMeter()
    meter.add_tokens("direct", metadata)
    assert meter.usage == empty_usage()


def test_the_answers_usage_is_the_total():
    meter = UsageMeter()
    meter.add_tokens("skeleton", {"input_tokens": 5, "output_tokens": 1})
    meter.add_tokens("expansion", {"input_tokens": 6, "output_tokens": 2, "input_token_details": {"cache_read": 3}})
    assert usage_metadata(meter.usage) == {
        "input_tokens": 11,
        "output_tokens": 3,
        "total_tokens": 14,
        "input_token_details": {"cache_read": 3, "cache_creation": 0},
        "output_token_details": {"reasoning": 0},
    }


NONSENSE = [12.5, float("nan"), float("inf"), 2**53 + 1, -1, "12", True, [1], {"a": 1}]


@pytest.mark.parametrize("odd", NONSENSE, ids=str)
def test_what_is_no_number_of_tokens_is_not_counted_and_said_once(odd: Any, caplog: pytest.LogCaptureFixture):
    log_nonsense.cache_clear()
    meter = UsageMeter()
    for _ in range(3):
        meter.add_tokens("direct", {"input_tokens": odd, "output_tokens": 2, "input_token_details": odd})
    assert meter.usage["total"]["input_tokens"] == 0
    assert meter.usage["total"]["output_tokens"] == 6
    assert [record.message.count("input_tokens") for record in caplog.records].count(1) == 1


def test_a_whole_number_is_one_in_any_form():
    meter = UsageMeter()
    meter.add_tokens("direct", {"input_tokens": 12.0, "output_tokens": 2**53})
    assert meter.usage["total"]["input_tokens"] == 12
    assert meter.usage["total"]["output_tokens"] == 2**53


@pytest.mark.parametrize(
    ("chunks", "told"),
    [
        ([(10, 0), (0, 5)], (10, 5)),  # the prompt first, the reply last
        ([(10, 1), (10, 2), (10, 3)], (10, 3)),  # what it is by then, again and again
        ([(10, 1), (0, 1), (0, 1)], (10, 3)),
        ([(0, 1), (10, 2)], (10, 3)),
    ],
)
def test_of_counts_that_are_told_again_and_again_the_last_hold(chunks: Any, told: tuple[int, int]):
    usage: Any = None
    for read, written in chunks:
        usage = merged_usage(usage, {"input_tokens": read, "output_tokens": written})
    assert (usage["input_tokens"], usage["output_tokens"]) == told


def test_a_hit_of_the_models_own_cache_costs_neither_a_call_nor_a_token():
    meter = UsageMeter()
    meter.begin_call("skeleton")
    meter.add_tokens("skeleton", {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9, "total_cost": 0})
    assert meter.usage["skeleton"] == {**empty_usage()["total"], "cache_hits": 1}


def test_what_a_call_turns_out_to_be_for_is_counted_there():
    class Price:
        name = "m"

        def dollars(self, counts):
            return counts["total_tokens"] / 1000

    meter = UsageMeter()
    meter.begin_call("direct")
    meter.add_tokens("direct", {"input_tokens": 20, "output_tokens": 30, "total_tokens": 50}, price=Price())
    meter.begin_call("skeleton")
    meter.move("direct", "skeleton")
    used = meter.usage
    assert (used["skeleton"]["calls"], used["direct"]["calls"], used["total"]["calls"]) == (2, 0, 2)
    assert (used["skeleton"]["output_tokens"], used["total"]["output_tokens"]) == (30, 30)
    assert used["cost"] == {"skeleton": 0.05, "total": 0.05}


def test_what_stands_in_the_place_of_the_details_is_no_count():
    counts = clean_counts({"input_tokens": 12, "output_tokens": 2, "input_token_details": 7, "output_token_details": 7})
    assert counts["input_token_details"]["cache_read"] == counts["output_token_details"]["reasoning"] == 0
