"""Fixtures for tests of whole graphs."""

from collections.abc import Iterator

import pytest

from sot_graph.testing import Physics, SimulatedEndpoint


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    """An endpoint that answers at once."""
    with SimulatedEndpoint(physics=Physics.instant()) as running:
        yield running


@pytest.fixture(params=["send", "pipelined"])
def dispatch(request: pytest.FixtureRequest) -> str:
    """Both ways to begin points."""
    return str(request.param)
