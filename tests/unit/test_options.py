"""`SotOptions` and what a run may lay over them."""

import math
from dataclasses import FrozenInstanceError, fields
from datetime import date
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter

from sot_graph.errors import SotConfigError
from sot_graph.options import SotContext, SotOptions, context_changes, with_changes

FIELDS = {field.name: field for field in fields(SotOptions)}


def apply_context(options, context, **settings):
    return with_changes(options, context_changes(context, **settings))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_points", 0),
        ("min_points", 1001),
        ("min_points", True),
        ("min_points", "3"),
        ("min_points", None),
        ("max_points", 0),
        ("max_points", -1),
        ("max_points", 1001),
        ("max_points", 2.5),
        ("title_length", ""),
        ("title_length", "x" * 201),
        ("title_length", 5),
        ("point_length", ""),
        ("skeleton_format", "json"),
        ("structured_mode", "functions"),
        ("max_reasks", -1),
        ("max_reasks", 101),
        ("max_retries", -1),
        ("max_retries", True),
        ("max_concurrency", 0),
        ("skeleton_timeout", 0),
        ("skeleton_timeout", -1.0),
        ("skeleton_timeout", math.inf),
        ("skeleton_timeout", math.nan),
        ("skeleton_timeout", "5"),
        ("point_timeout", 0.0),
        ("point_timeout", True),
        ("deadline", 0),
        ("deadline", "10"),
        ("on_point_failure", "ignore"),
        ("max_question_chars", 0),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(name: str, value: Any):
    with pytest.raises(SotConfigError, match=rf"SotOptions\.{name}="):
        SotOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_points", 1),
        ("max_points", 1000),
        ("max_reasks", 0),
        ("max_retries", 0),
        ("max_concurrency", None),
        ("max_concurrency", 1),
        ("skeleton_timeout", None),
        ("point_timeout", 5),
        ("deadline", 0.001),
        ("on_point_failure", "raise"),
        ("skeleton_format", "list"),
        ("structured_mode", "md_json"),
        ("structured_mode", "prompt"),
    ],
)
def test_a_value_at_its_bounds_is_taken_as_it_is(name: str, value: Any):
    assert getattr(SotOptions(**{name: value}), name) == value


def test_min_points_above_max_points_is_refused_with_both_numbers():
    with pytest.raises(SotConfigError, match=r"min_points \(5\) is above max_points \(4\)"):
        SotOptions(min_points=5, max_points=4)


def test_min_points_may_equal_max_points():
    assert SotOptions(min_points=4, max_points=4).min_points == 4


def test_options_are_frozen():
    with pytest.raises(FrozenInstanceError):
        SotOptions().max_points = 5  # type: ignore[misc]


def test_options_take_keywords_only():
    with pytest.raises(TypeError):
        SotOptions(3)  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(SotContext.__annotations__))
def test_the_context_has_the_type_bounds_and_default_of_the_option(name: str):
    schema = TypeAdapter(get_type_hints(SotContext, include_extras=True)[name]).json_schema()
    assert schema.pop("description")
    assert schema.pop("default") == FIELDS[name].default
    assert schema == TypeAdapter(get_type_hints(SotOptions, include_extras=True)[name]).json_schema()


def test_no_key_of_the_context_is_required():
    assert SotContext.__required_keys__ == frozenset()


def test_no_context_leaves_the_options_alone():
    options = SotOptions(max_points=7)
    assert apply_context(options, None, embedded=False) is options
    assert apply_context(options, {}, embedded=False) is options


def test_a_run_sets_what_it_names_and_leaves_the_rest():
    options = SotOptions(max_points=7, point_length="one word")
    changed = apply_context(options, {"max_points": 5}, embedded=False)
    assert (changed.max_points, changed.point_length) == (5, "one word")
    assert options.max_points == 7


def test_schema_defaults_are_never_laid_over_the_graphs_own_settings():
    assert apply_context(SotOptions(min_points=1, max_points=2), {"deadline": 3.0}, embedded=False).max_points == 2


def test_an_unknown_key_at_the_root_is_refused_and_the_known_ones_are_named():
    with pytest.raises(SotConfigError, match=r"unknown key 'max_point'; a run may set: .*max_points"):
        apply_context(SotOptions(), {"max_point": 5}, embedded=False)


def test_an_option_that_a_run_may_not_set_is_an_unknown_key():
    with pytest.raises(SotConfigError, match="unknown key 'structured_mode'"):
        apply_context(SotOptions(), {"structured_mode": "tools"}, embedded=False)


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_of_a_parents_context_only_what_it_has_as_sot_is_read(kind: Any):
    theirs = {"max_retries": None, "stream": "tokens", "deadline": date(2027, 1, 1)}
    assert apply_context(SotOptions(), kind(**theirs), embedded=True) == SotOptions()
    for own in ({"max_points": 5}, SimpleNamespace(max_points=5)):
        assert apply_context(SotOptions(), kind(**theirs, sot=own), embedded=True) == SotOptions(max_points=5)
        assert apply_context(SotOptions(), kind(**theirs, sot=own), embedded=False) == SotOptions(max_points=5)
    with pytest.raises(SotConfigError, match="unknown key 'max_point'"):
        apply_context(SotOptions(), kind(sot={"max_point": 5}), embedded=True)


@pytest.mark.parametrize("own", ["fast", 3, True, ["max_points"]])
def test_what_holds_no_options_is_no_context(own: Any):
    with pytest.raises(SotConfigError, match="a dict or an object of options"):
        apply_context(SotOptions(), {"sot": own}, embedded=True)


def test_a_parents_context_without_options_for_the_graph_works_at_the_root_too():
    assert apply_context(SotOptions(), {"sot": None}, embedded=False) == SotOptions()
    assert apply_context(SotOptions(), {"sot": None, "max_points": 5}, embedded=False).max_points == 5


def test_a_context_may_be_any_object():
    context = SimpleNamespace(user_id=7, max_points=5)
    assert apply_context(SotOptions(), context, embedded=False) == SotOptions(max_points=5)


def test_what_a_server_repeats_of_a_runs_configurable_is_no_mistake():
    repeated = {"thread_id": "1", "max_points": 5}
    assert apply_context(SotOptions(), repeated, embedded=False, repeated={"thread_id"}) == SotOptions(max_points=5)


@pytest.mark.parametrize("embedded", [False, True])
def test_a_value_out_of_bounds_is_refused_in_a_context_too(embedded: bool):
    with pytest.raises(SotConfigError, match="max_points=0"):
        apply_context(SotOptions(), {"sot": {"max_points": 0}}, embedded=embedded)


def test_fewer_points_at_most_lower_the_fewest_of_the_graphs_own_settings():
    changed = apply_context(SotOptions(), {"max_points": 2}, embedded=False)
    assert (changed.min_points, changed.max_points) == (2, 2)


@pytest.mark.parametrize("context", [{"min_points": 11}, {"min_points": 3, "max_points": 2}])
def test_the_fields_of_a_context_are_checked_against_each_other(context: dict[str, Any]):
    with pytest.raises(SotConfigError, match=r"min_points .* is above max_points"):
        apply_context(SotOptions(), context, embedded=False)
