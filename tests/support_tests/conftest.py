"""No network beyond this machine, and a recorder of traces."""

from collections.abc import Iterator

import pytest
from pytest_socket import enable_socket, socket_allow_hosts

from tests.support.trace_recorder import TraceRecorder


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sockets reach nothing beyond loopback, and nothing is traced by itself."""
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture
def recorder() -> Iterator[TraceRecorder]:
    with TraceRecorder() as running:
        yield running
