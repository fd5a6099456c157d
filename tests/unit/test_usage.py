"""Counting calls and tokens."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage

from sot_graph.usage import UsageMeter, empty_usage, usage_metadata


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
    meter.add_tokens("direct", AIMessage("x", usage_metadata=metadata).usage_metadata)
    assert meter.usage["direct"] == {
        "input_tokens": 7,
        "output_tokens": 2,
        "cached_tokens": 4,
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
        "input_token_details": {"cache_read": 3},
    }
