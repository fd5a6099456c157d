"""What tests of all kinds share."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from pytest_socket import enable_socket, socket_allow_hosts

from sot_graph import SotOptions
from sot_graph.run import RunContext, open_run

pytest_plugins = ["tests.support.development_server"]

# No test depends on how fast the machine is.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

LOOPBACK = ["127.0.0.1", "localhost", "::1"]


@pytest.fixture(params=["invoke", "ainvoke"])
def run(request):
    """Runs a graph, an agent or a tool to its end, in both worlds; without an input, with the module's `ASK`."""
    asked = getattr(request.module, "ASK", None)

    async def call(graph, given=asked, config=None, **kwargs):
        if request.param == "ainvoke":
            return await graph.ainvoke(given, config, **kwargs)
        return await asyncio.to_thread(graph.invoke, given, config, **kwargs)

    return call


@pytest.fixture
def loopback_only() -> Iterator[None]:
    """Sockets reach nothing beyond loopback."""
    socket_allow_hosts(LOOPBACK, allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests mean the same on every machine."""
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "OPENAI_PROXY",
        "SOT_GRAPH_MODEL",
        "SOT_GRAPH_BASE_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANGSMITH_TRACING", "false")


WITH_REAL_PARTS = {"e2e", "studio"}
"""Folders whose tests start real servers, with an environment of their own."""


@pytest.fixture(autouse=True)
def same_on_every_machine(request: pytest.FixtureRequest) -> None:
    """The tests mean the same everywhere: they reach nothing beyond loopback, and read no setting from outside."""
    if request.path.parent.name not in WITH_REAL_PARTS:
        request.getfixturevalue("loopback_only")
        request.getfixturevalue("no_settings_from_outside")


@pytest.fixture
def make_run() -> Iterator[Callable[..., RunContext]]:
    """Opens a run with these options; it is closed at the test's end."""
    opened = []

    def make(**options: Any) -> RunContext:
        context = open_run({}, SotOptions(**options))
        opened.append(context)
        return context.__enter__()

    yield make
    for context in opened:
        context.__exit__(None, None, None)
