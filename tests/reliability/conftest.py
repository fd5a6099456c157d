"""What these tests share: an endpoint, graphs run in both worlds, and a real PostgreSQL."""

import logging
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sot_graph.testing import Physics
from tests.support.strict_endpoint import StrictEndpoint


@pytest.fixture
def endpoint() -> Iterator[StrictEndpoint]:
    """An endpoint that answers at once."""
    with StrictEndpoint(physics=Physics.instant()) as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The connection string of a PostgreSQL of this session's own, on loopback; skipped where there is none.

    It is Debian's package (`apt-get install postgresql`), run from a directory of its own. In CI it has to be there.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        message = "PostgreSQL is not installed: apt-get install -y postgresql"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    tools = found[-1].parent
    home = Path(tempfile.mkdtemp(prefix="sot-postgres-"))  # pytest's own directories are closed to other users
    # PostgreSQL refuses to run as root.
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if prefix:
        shutil.chown(home, "postgres")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data, log = home / "data", home / "log"
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    server = [*prefix, str(tools / "pg_ctl"), "-D", str(data), "-w", "-s"]
    try:
        initdb = [*prefix, str(tools / "initdb"), "-D", str(data), "-U", "sot", "--auth=trust", "-E", "UTF8"]
        subprocess.run([*initdb, "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd=home)
        subprocess.run([*server, "-l", str(log), "-o", settings, "start"], check=True, cwd=home)
        yield f"postgresql://sot@127.0.0.1:{port}/postgres"
        subprocess.run([*server, "-m", "immediate", "stop"], check=True, cwd=home)
    finally:
        shutil.rmtree(home)


@pytest.fixture
def warnings_of(caplog):
    """The library's warnings so far."""
    caplog.set_level(logging.WARNING, "sot_graph")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "sot_graph"]
