"""A recorder of traces."""

from collections.abc import Iterator

import pytest

from tests.support.trace_recorder import TraceRecorder


@pytest.fixture
def recorder() -> Iterator[TraceRecorder]:
    with TraceRecorder() as running:
        yield running
