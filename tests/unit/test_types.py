"""The values of the contract are plain JSON."""

import json
from typing import get_args

from pydantic import TypeAdapter

from sot_graph.types import Expansion, ExpansionStatus, SkeletonPoint, Stage, Timings, Usage
from sot_graph.usage import empty_usage


def test_points_and_expansions_have_the_keys_of_the_contract():
    assert SkeletonPoint.__required_keys__ == {"index", "title", "depends_on"}
    assert Expansion.__required_keys__ == {"index", "title", "text", "status", "error"}
    assert get_args(ExpansionStatus) == ("ok", "failed", "timed_out")


def test_usage_has_every_stage_and_a_total():
    assert Usage.__required_keys__ == {*get_args(Stage), "total"}


def test_the_values_survive_json_and_validate():
    point = SkeletonPoint(index=1, title="Schlaf 😴", depends_on=[])
    expansion = Expansion(index=1, title="Schlaf 😴", text="{x}", status="ok", error=None)
    timings = Timings(skeleton={"start": 0.0, "end": 1.0}, points=[{"index": 1, "start": 1.0, "end": 2.0}], total=2.0)
    for kind, value in ((SkeletonPoint, point), (Expansion, expansion), (Timings, timings), (Usage, empty_usage())):
        assert TypeAdapter(kind).validate_python(json.loads(json.dumps(value))) == value
