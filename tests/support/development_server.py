"""Fixtures: the real development server, started once, on a simulated endpoint; and the SDK's clients for it."""

import functools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from langgraph_sdk import get_client, get_sync_client

from sot_graph.testing import Physics, SkeletonResponder
from tests.support.loopback import refusing
from tests.support.watched_endpoint import WatchedEndpoint

ROOT = Path(__file__).parents[2]

_START_SECONDS = 120
_STOP_SECONDS = 60
_LISTENS = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")
_KEY = re.compile(r"The key to the server is in its address, .*?(/[\w-]{32}):")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
OUTSIDE = ("OPENAI_", "SOT_GRAPH_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items):
    """One worker has the server, and the others meanwhile what needs none, or one of its own."""
    for item in items:
        if "outside" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("development_server"))


class DevServer:
    """`langgraph dev` as `python -m sot_graph.studio` starts it, in a process group that ends with this process.

    Args:
        folder: Where it keeps its files.
        options: Of the command line.
        settings: Environment variables.
        ready: What it prints when it can be asked.
    """

    def __init__(self, folder, options, settings, ready):
        command = [sys.executable, "-m", "sot_graph.studio", "--config", str(ROOT / "langgraph.json"), *options]
        self.url = ""
        """With the key in it, which the server says first."""
        self.key = ""
        self.output: list[str] = []
        """What it has printed, line by line."""
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment_of_server(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._ready = ready
        self._told = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD, str(self.process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )

    def __enter__(self):
        self._reader.start()
        self._told.wait(_START_SECONDS)
        if not self.url:
            self.__exit__()
            pytest.fail("The development server did not start:\n" + "".join(self.output), pytrace=False)
        return self

    def _read(self):
        for raw in self.process.stdout:
            line = _COLOURS.sub("", raw)
            self.output.append(line)
            if found := _LISTENS.search(line):
                self.url = found[1] + self.key
            if found := _KEY.search(line):
                self.key = found[1]
            if re.search(self._ready, line):
                self._told.set()
        self._told.set()  # it has ended

    def press_ctrl_c(self):
        """As a terminal does: to all its processes. Waits until they have ended."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(_STOP_SECONDS)
        self._reader.join(_STOP_SECONDS)

    def __exit__(self, *raised):
        for number in (signal.SIGINT, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(_STOP_SECONDS)
        self._guard.communicate(b"It has ended.")
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # a process of its own that outlived it
        self._reader.join()
        self.process.stdout.close()


_GUARD = """
import os, signal, sys
if not sys.stdin.read():
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
"""
"""Ends a process group when its input closes without a word: when the tests' own process was killed."""


def environment_of_server(**settings):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OUTSIDE)}
    return {**inherited, "PYTHONUNBUFFERED": "1", **settings}


@contextmanager
def development_server(folder, **settings):
    """One process on a port of its own choice. Ends as it should."""
    options = ["--no-reload", "--port", "0", "--server-log-level", "INFO"]
    with DevServer(folder, options, settings, ready=_LISTENS) as server:
        yield server
        server.press_ctrl_c()
        assert server.process.returncode == 0, f"The server ended with {server.process.returncode}."


@pytest.fixture(scope="session")
def session_endpoint():
    """An endpoint that answers at once, for the whole session. Use `endpoint`."""
    with WatchedEndpoint(physics=Physics.instant()) as running:
        yield running


@pytest.fixture
def endpoint(session_endpoint) -> WatchedEndpoint:
    """The model behind the server: no faults, an empty log."""
    session_endpoint.responder = SkeletonResponder()
    session_endpoint.faults = []
    session_endpoint.reset()
    return session_endpoint


@pytest.fixture(scope="session")
def outside():
    """A proxy for everything beyond this machine, and what was asked of it."""
    with refusing(502) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def server(session_endpoint, outside, tmp_path_factory) -> Iterator[DevServer]:
    """The development server on the simulated endpoint, with a proxy that lets nothing out."""
    proxy, _ = outside
    settings = {name: proxy for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    settings |= {"OPENAI_API_KEY": "test", "OPENAI_BASE_URL": session_endpoint.base_url, "NO_PROXY": "127.0.0.1"}
    with development_server(tmp_path_factory.mktemp("server"), **settings) as running:
        yield running


@pytest.fixture
def start_server(tmp_path):
    """Starts a server of the test's own, with these environment variables."""
    return functools.partial(development_server, tmp_path)


@pytest.fixture
def guard_of_servers():
    """The code of the process that ends a server whose tests were killed."""
    return _GUARD


@pytest.fixture
def start_server_as_make_does(tmp_path):
    """Starts a server with a second process, which the first starts anew at each change of a file."""

    def start(port, **settings):
        # Its own level says when it is there, and little else: sot_graph.studio keeps all others quiet.
        options = ["--port", str(port), "--server-log-level", "INFO"]
        return DevServer(tmp_path, options, settings, ready="Application startup complete")

    return start


@pytest.fixture
async def client(server, endpoint):
    """The SDK's client."""
    async with get_client(url=server.url) as running:
        yield running


@pytest.fixture
def sync_client(server, endpoint):
    """The SDK's synchronous client."""
    with get_sync_client(url=server.url) as running:
        yield running


@pytest.fixture
async def assistant_ids(client):
    """The server's own assistant of each graph."""
    return {found["graph_id"]: found["assistant_id"] for found in await client.assistants.search()}
