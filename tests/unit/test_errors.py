"""The error tree, and the data on the errors."""

import pickle

import pytest

from sot_graph import errors
from sot_graph.errors import (
    ExpansionError,
    ModelOutputError,
    RoutingError,
    SkeletonError,
    SotConfigError,
    SotError,
)
from sot_graph.types import Expansion


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_a_sot_error(name: str):
    assert issubclass(getattr(errors, name), SotError)


@pytest.mark.parametrize("kind", [SkeletonError, RoutingError, ExpansionError])
def test_what_a_model_did_is_a_model_output_error(kind: type[Exception]):
    assert issubclass(kind, ModelOutputError)


def test_a_config_error_is_a_value_error_which_langgraph_does_not_retry():
    assert issubclass(SotConfigError, ValueError)


@pytest.mark.parametrize("kind", [SkeletonError, RoutingError, ExpansionError])
def test_what_a_model_did_is_of_no_base_that_langgraph_never_retries(kind: type[Exception]):
    assert not issubclass(kind, (ValueError, RuntimeError, OSError, TypeError))


def test_an_expansion_error_reaches_another_process_whole():
    error = ExpansionError("Points could not be written.", [{"index": 1, "title": "A", "text": "", "status": "failed"}])
    error.answer = "What there is."
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.expansions, copied.answer) == (str(error), error.expansions, error.answer)


def test_an_expansion_error_carries_all_expansions_and_tells_the_failed_ones():
    done = Expansion(index=1, title="A", text="a", status="ok", error=None)
    late = Expansion(index=2, title="B", text="", status="timed_out", error="late")
    broken = Expansion(index=3, title="C", text="", status="failed", error="broken")
    error = ExpansionError("two points", (done, late, broken))
    assert str(error) == "two points"
    assert error.expansions == [done, late, broken]
    assert error.failed == [late, broken]
