"""Whether a tracer's client hides what goes in or comes out: then no title stands in names, metadata, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from langchain_core.tracers import LangChainTracer

from sot_graph._seams import client_hides_content
from sot_graph.errors import status_code

__all__ = ["GIVEN_UP", "discreet", "hides_content", "replicas_hide_content"]

GIVEN_UP = "given up: its time was over, or its reply was no longer wanted"
"""What a cancelled call says of itself."""
_DISCREET = "sot_graph_discreet"


def hides_content(tracer: Any) -> bool:
    """Whether anything of a run's content is hidden from where this tracer sends it."""
    client = getattr(tracer, "client", None)
    return client is not None and client_hides_content(client)


def replicas_hide_content(runs: Iterable[Any]) -> bool:
    """The same for the further clients that a run is sent to."""
    return any(
        client_hides_content(replica["client"])
        for run in runs
        for replica in getattr(run, "replicas", None) or ()
        if replica.get("client") is not None
    )


def discreet(tracer: Any) -> Any:
    """A tracer of the same runs, which tells of an error its class and its HTTP status, and nothing that it quotes.

    LangChain writes an error's text and its whole traceback into a run, past the client's own hiding. Not every error
    lets itself be cleaned: Pydantic's, for one, quote their input for ever.
    """
    if not isinstance(tracer, LangChainTracer) or hasattr(tracer, _DISCREET):
        return tracer
    quiet = tracer.copy_with_metadata_defaults()
    for event in ("on_llm_error", "on_chain_error", "on_tool_error", "on_retriever_error"):
        setattr(quiet, event, partial(_with_reduced_error, getattr(quiet, event)))

    def copy_with_metadata_defaults(**defaults: Any) -> Any:
        return discreet(type(quiet).copy_with_metadata_defaults(quiet, **defaults))

    # LangChain copies tracers by this method, and a copy has to be discreet, too.
    quiet.copy_with_metadata_defaults = copy_with_metadata_defaults  # type: ignore[method-assign]
    setattr(quiet, _DISCREET, True)
    return quiet


def _with_reduced_error(tell: Callable[..., Any], error: BaseException, **kwargs: Any) -> Any:
    return tell(_reduced(error), **kwargs)


def _reduced(error: BaseException) -> BaseException:
    if isinstance(error, asyncio.CancelledError) and error.args in {(), (GIVEN_UP,)}:
        return error  # nobody's words but ours
    code = status_code(error)
    kind: type[Exception] = type(type(error).__name__, (Exception,), {"__module__": "builtins"})
    return kind("***" if code is None else f"*** (HTTP {code})")
