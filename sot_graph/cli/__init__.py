"""The command `sot-graph`. Importing this package imports neither langgraph nor openai."""

from sot_graph.cli.app import main

__all__ = ["main"]
