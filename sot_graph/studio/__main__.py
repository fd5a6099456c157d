"""`python -m sot_graph.studio`: LangGraph's development server, after a look whether there is a model.

Takes the options of `langgraph dev`. Without that look, a missing key would be told in three tracebacks.
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import secrets
import socket
import sys
from contextlib import suppress
from pathlib import Path

from sot_graph.default_model import choose_model
from sot_graph.errors import SotConfigError

# Runs at once. The server's own default is one; a run here waits for its model, and costs the server little.
_JOBS = "100"


def main() -> None:
    """Check, then serve until Ctrl-C."""
    arguments = sys.argv[1:]
    try:
        if any(importlib.util.find_spec(name) is None for name in ("langgraph_cli", "langgraph_api")):
            message = "the development server is not installed: pip install 'sot-graph[studio]'."
            raise SotConfigError(message)
        # Those of the server's options that are looked at here; it reads all of them itself.
        options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        options.add_argument("-c", "--config", default="langgraph.json")
        options.add_argument("--host", default="127.0.0.1")
        options.add_argument("--port", default="2024")
        known, rest = options.parse_known_args(arguments)
        if _serves_ours(known.config):
            choice = choose_model()
            choice.check()
            if choice.notice:
                sys.stderr.write(f"{choice.notice}\n")
        port = 0 if "--help" in rest else _free_port(known.host, known.port)
    except SotConfigError as error:
        sys.stderr.write(f"sot_graph.studio: {error}\n")
        raise SystemExit(2) from None
    # What the server writes is for nobody else on this machine.
    os.umask(0o077)
    # The server's own calls to the internet, switched off where nobody has switched them on.
    os.environ.setdefault("LANGGRAPH_CLI_NO_ANALYTICS", "1")
    os.environ.setdefault("LANGGRAPH_NO_VERSION_CHECK", "true")
    # Whoever can reach the port could spend the model's key and read the threads: other users of the machine, and web
    # pages, which may send without reading. So the server's paths begin with a key that they don't know, and Studio's
    # link carries it. Studio sends no header of ours.
    key = os.environ.setdefault("MOUNT_PREFIX", f"/{secrets.token_urlsafe(24)}")
    if key:
        where = f"http://127.0.0.1:{port}{key}" if port else f"which ends in {key}"
        sys.stderr.write(f"The key to the server is in its address, {where}: tell it to nobody else.\n")
    if port and "LOG_LEVEL" not in os.environ:
        # At its own level, the server tells in thirty lines that it has started, and two more every minute.
        os.environ["LOG_LEVEL"] = "WARNING"
        sys.stderr.write("Ctrl-C ends the server; LOG_LEVEL=INFO shows everything that it does.\n")
    from langgraph_cli.cli import cli

    cli(["dev", "--no-browser", "--n-jobs-per-worker", _JOBS, *arguments], prog_name="langgraph")


def _serves_ours(config: str) -> bool:
    """Whether a graph of `sot_graph.studio` is served. The caller's own may need no model of the environment.

    A file that can't be read counts as one that serves ours: the server complains about it.
    """
    with suppress(OSError, UnicodeDecodeError):
        return "sot_graph.studio" in Path(config).read_text(encoding="utf-8")
    return True


def _free_port(host: str, text: str) -> int:
    """The server's port; 0: the server chooses one, and tells it.

    Raises:
        SotConfigError: It can't be had. If it is taken, the server alone would take another, where Studio doesn't look
            for it.
    """
    if not text.isdecimal():  # for the server to answer
        return 0
    port = int(text)
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
    except (OSError, OverflowError) as error:
        message = f"{host} and port {port} can't be had: {error}."
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            message = (
                f"port {port} is taken, by another program or by a server that was started earlier. End that one, "
                f"or choose another port: make studio PORT={port + 1}, or --port {port + 1}."
            )
        raise SotConfigError(message) from error
    return port


if __name__ == "__main__":
    main()
