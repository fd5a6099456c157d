"""What these tests share: an endpoint, rows, and what was asked about each."""

import multiprocessing
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


@pytest.fixture(scope="session")
def processes():
    """Processes are forked off one that has imported everything, and runs no threads: its first starter's environment
    is that of them all. The last ones are what a graph imports for its first call."""
    context = multiprocessing.get_context("forkserver")
    kills = ("tests.batch.test_kills", "tests.batch.test_provider_batches")
    context.set_forkserver_preload(
        [*kills, "instructor", "openai.resources.chat", "openai.resources.beta", "langchain_anthropic"]
    )
    return context
