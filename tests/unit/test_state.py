"""The reducers: whatever the order of arrival, one value comes out."""

from enum import Enum, IntEnum, StrEnum
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sot_graph.state import merge_expansions, merge_timings, plain_value
from sot_graph.types import Expansion, Usage
from sot_graph.usage import add_usage, empty_usage


def expansion(index: int, status: Any = "ok", text: str = "text") -> Expansion:
    return Expansion(index=index, title=f"T{index}", text=text, status=status, error=None if status == "ok" else "why")


EXPANSIONS = st.lists(
    st.builds(expansion, st.integers(1, 6), st.sampled_from(["ok", "failed", "timed_out"]), st.sampled_from("ab")),
    max_size=8,
)


class Level(IntEnum):
    HIGH = 3


class Colour(StrEnum):
    RED = "red"


class Mark(Enum):
    GOOD = {"stars": 5}  # noqa: RUF012


def test_an_enumerations_value_is_kept_without_its_class():
    kept = plain_value({"level": Level.HIGH, "colour": Colour.RED, "mark": [Mark.GOOD], "yes": True, "many": 10**400})
    assert kept == {"level": 3, "colour": "red", "mark": [{"stars": 5}], "yes": True, "many": "1" + "0" * 400}
    assert [type(value) for value in kept.values()] == [int, str, list, bool, str]


@pytest.mark.parametrize("left", [None, []])
def test_nothing_merged_with_nothing_is_an_empty_list(left: Any):
    assert merge_expansions(left, None) == []
    assert merge_expansions(left, []) == []


def test_expansions_come_out_in_order_whatever_the_order_of_arrival():
    for arrival in permutations([1, 2, 3, 4]):
        merged: list[Expansion] = []
        for index in arrival:
            merged = merge_expansions(merged, [expansion(index)])
        assert [item["index"] for item in merged] == [1, 2, 3, 4]


@pytest.mark.parametrize("worse", ["failed", "timed_out"])
def test_an_ok_expansion_is_never_replaced_by_one_that_is_not(worse: str):
    done = expansion(1)
    assert merge_expansions([done], [expansion(1, worse)]) == [done]
    assert merge_expansions([expansion(1, worse)], [done]) == [done]
    assert merge_expansions(None, [done, expansion(1, worse)]) == [done]


def test_a_later_try_replaces_an_earlier_failure():
    late = expansion(1, "timed_out", "half")
    assert merge_expansions([expansion(1, "failed")], [late]) == [late]


@given(EXPANSIONS, EXPANSIONS)
def test_merging_expansions_is_sorted_unique_idempotent_and_loses_no_ok(left: list[Expansion], right: list[Expansion]):
    start = merge_expansions(None, left)
    merged = merge_expansions(start, right)
    indices = [item["index"] for item in merged]
    assert indices == sorted({item["index"] for item in [*left, *right]})
    assert merge_expansions(merged, right) == merged
    assert merge_expansions(merged, merged) == merged
    finished = {item["index"] for item in [*left, *right] if item["status"] == "ok"}
    assert {item["index"] for item in merged if item["status"] == "ok"} == finished


@given(EXPANSIONS, EXPANSIONS)
def test_merging_expansions_mutates_neither_side(left: list[Expansion], right: list[Expansion]):
    start = merge_expansions(None, left)
    before = (list(start), list(right))
    merge_expansions(start, right)
    assert (start, right) == before


def usage(**calls: int) -> Usage:
    made = empty_usage()
    for stage, count in calls.items():
        for part in (made[stage], made["total"]):  # type: ignore[literal-required]
            part["calls"] += count
            part["input_tokens"] += 10 * count
    return made


def test_usage_adds_up_stage_by_stage_and_in_total():
    added = add_usage(usage(skeleton=1), usage(expansion=2, skeleton=1))
    assert added["skeleton"]["calls"] == 2
    assert added["expansion"]["input_tokens"] == 20
    assert added["total"]["calls"] == 4
    assert added["total"]["input_tokens"] == 40
    assert added["direct"] == empty_usage()["direct"]


def test_usage_of_nothing_is_zero():
    assert add_usage(None, None) == empty_usage()


def test_the_total_is_counted_from_the_stages_never_trusted():
    wrong = usage(skeleton=1)
    wrong["total"]["calls"] = 99
    assert add_usage(wrong, None)["total"]["calls"] == 1


def test_adding_usage_mutates_neither_side():
    left, right = usage(skeleton=1), usage(skeleton=2)
    add_usage(left, right)
    assert (left, right) == (usage(skeleton=1), usage(skeleton=2))


def test_timings_of_points_are_kept_sorted_and_the_later_replaces_the_earlier():
    left = {"skeleton": {"start": 0.0, "end": 1.0}, "points": [{"index": 2, "start": 1.0}, {"index": 3, "start": 1.0}]}
    right = {"points": [{"index": 1, "start": 2.0}, {"index": 3, "start": 5.0}], "total": 6.0}
    assert merge_timings(left, right) == {  # type: ignore[arg-type]
        "skeleton": {"start": 0.0, "end": 1.0},
        "points": [{"index": 1, "start": 2.0}, {"index": 2, "start": 1.0}, {"index": 3, "start": 5.0}],
        "total": 6.0,
    }
    assert [point["index"] for point in left["points"]] == [2, 3]


def test_timings_merged_with_nothing_stay():
    some = {"total": 1.0}
    assert merge_timings(some, None) == some  # type: ignore[arg-type]
    assert merge_timings(None, some) == some  # type: ignore[arg-type]
    assert merge_timings(None, None) == {}
