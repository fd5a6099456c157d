"""The real development server, started once, on a simulated endpoint; and the SDK's clients for it."""

import functools
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from langgraph_sdk import get_client, get_sync_client

from sot_graph.testing import Physics, SimulatedEndpoint, SkeletonResponder

ROOT = Path(__file__).parents[2]

_START_SECONDS = 120
_STOP_SECONDS = 60
_LISTENS = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_OUTSIDE = ("OPENAI_", "SOT_GRAPH_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items):
    """One worker has the server, and the others meanwhile what needs none, or one of its own.

    What runs the embedded model stays with the others that do.
    """
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        if item.get_closest_marker("local_model"):
            item.add_marker(pytest.mark.xdist_group("local_model"))
        elif "server" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("development_server"))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    """The tests mean the same on every machine."""
    for name in [name for name in os.environ if name.startswith(_OUTSIDE)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LANGSMITH_TRACING", "false")


@dataclass
class DevServer:
    """`langgraph dev`, running."""

    url: str = ""
    output: list[str] = field(default_factory=list)
    """What it has printed, line by line."""


def environment_of_server(**settings):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
    return {**inherited, "PYTHONUNBUFFERED": "1", **settings}


@contextmanager
def development_server(folder, **settings):
    """Starts it as `make studio` does, on a port of its own choice, and ends every process of it.

    Args:
        folder: Where it keeps its files.
        **settings: Environment variables.
    """
    command = [sys.executable, "-m", "sot_graph.studio", "--no-reload", "--port", "0"]
    command += ["--server-log-level", "INFO", "--config", str(ROOT / "langgraph.json")]
    server = DevServer()
    listens = threading.Event()

    def read(pipe):
        for raw in pipe:
            line = _COLOURS.sub("", raw)
            server.output.append(line)
            if found := _LISTENS.search(line):
                server.url = found[1]
                listens.set()
        listens.set()  # it has ended

    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment_of_server(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        reader = threading.Thread(target=read, args=(process.stdout,))
        reader.start()
        try:
            listens.wait(_START_SECONDS)
            assert server.url, "The development server did not start:\n" + "".join(server.output)
            yield server
        finally:
            _end(process)
            reader.join()


def _end(process):
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    assert process.returncode == 0, f"The server ended with {process.returncode}."


@pytest.fixture(scope="session")
def session_endpoint():
    """An endpoint that answers at once, for the whole session. Use `endpoint`."""
    with SimulatedEndpoint(physics=Physics.instant()) as running:
        yield running


@pytest.fixture
def endpoint(session_endpoint) -> SimulatedEndpoint:
    """The model behind the server: no faults, an empty log."""
    session_endpoint.responder = SkeletonResponder()
    session_endpoint.faults = []
    session_endpoint.reset()
    return session_endpoint


@pytest.fixture(scope="session")
def outside():
    """A proxy for everything beyond this machine, and what was asked of it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def _refuse(self):
            asked.append(f"{self.command} {self.path}")
            self.send_error(502)

        do_CONNECT = do_GET = do_POST = _refuse

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_port}", asked
        proxy.shutdown()
        thread.join()


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
