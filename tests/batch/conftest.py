"""What these tests share: an endpoint, rows, and what was asked about each."""

import re
from collections.abc import Iterator

import pytest

from sot_graph.testing import Physics, SkeletonResponder
from tests.support.strict_endpoint import StrictEndpoint

TITLES = ["Alpha one", "Beta two", "Gamma three"]
CALLS = 1 + len(TITLES)


@pytest.fixture
def endpoint() -> Iterator[StrictEndpoint]:
    responder = SkeletonResponder(titles=TITLES, text=lambda ask: f"About {ask.title or 'all'}.")
    with StrictEndpoint(responder, physics=Physics.instant()) as running:
        yield running


def rows_of(count):
    return [{"id": str(number), "question": f"Question {number}: how do plants grow?"} for number in range(count)]


def row_asked_about(request):
    """The id of the row that a request belongs to."""
    return re.search(r"Question (\d+):", str(request.raw))[1]
