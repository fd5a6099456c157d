"""`python -m sot_graph.studio`: LangGraph's development server, after a look whether there is a model.

Takes the options of `langgraph dev`. Without that look, a missing key would be told in three tracebacks.
"""

from __future__ import annotations

import importlib.util
import os
import sys

from sot_graph.choosing import choose_from_environment
from sot_graph.errors import SotConfigError

__all__ = ["main"]

JOBS = 100
"""Runs at once. The server's own default is one; a run here waits for its model, and costs the server little."""

_QUIET = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "true"}
"""The server's own calls to the internet, switched off where nobody has switched them on."""


def main() -> None:
    """Check, then serve until Ctrl-C."""
    try:
        _check()
    except SotConfigError as error:
        sys.stderr.write(f"sot_graph.studio: {error}\n")
        raise SystemExit(2) from None
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from langgraph_cli.cli import cli

    cli(["dev", "--no-browser", "--n-jobs-per-worker", str(JOBS), *sys.argv[1:]], prog_name="langgraph")


def _check() -> None:
    if any(importlib.util.find_spec(name) is None for name in ("langgraph_cli", "langgraph_api")):
        message = "the development server is not installed: pip install 'sot-graph[studio]'."
        raise SotConfigError(message)
    choice = choose_from_environment()
    try:
        choice.check()
    except SotConfigError as error:
        if choice.name is not None:
            raise
        message = f"{error} Or choose another model: OPENAI_API_KEY, SOT_GRAPH_MODEL, SOT_GRAPH_BASE_URL."
        raise SotConfigError(message) from error
    if choice.notice:
        sys.stderr.write(f"{choice.notice}\n")


if __name__ == "__main__":
    main()
