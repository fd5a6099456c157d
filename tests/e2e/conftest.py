"""The real embedded model, started once for all tests (of a worker)."""

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items):
    """All tests of the embedded model in one worker: one server, loaded once."""
    for item in items:
        if item.get_closest_marker("local_model"):
            item.add_marker(pytest.mark.xdist_group("local_model"))


@pytest.fixture(scope="session")
def local_chat():
    """A `ChatOpenAI` on the embedded model.

    One thread: llama.cpp's threads wait for each other by spinning, so that two servers (two pytest-xdist workers)
    with a thread per core each would slow each other down a hundredfold.
    """
    from sot_graph.local import local_model

    with local_model(threads=1) as chat:
        yield chat
