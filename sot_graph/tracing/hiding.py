"""Whether a tracer's client hides what goes in or comes out: then no title stands in names, metadata, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache
from typing import Any

from langchain_core.tracers import LangChainTracer

from sot_graph.errors import status_code

__all__ = ["GIVEN_UP", "discreet", "hides_content", "replicas_hide_content"]

GIVEN_UP = "given up: its time was over, or its reply was no longer wanted"
"""What a cancelled call says of itself."""


def hides_content(tracer: Any) -> bool:
    """Whether anything of a run's content is hidden from where this tracer sends it.

    A client that hides a part, by a function or an anonymizer, counts as one that hides all: names don't pass through
    either.
    """
    client = getattr(tracer, "client", None)
    return client is not None and _hides(client)


def replicas_hide_content(runs: Iterable[Any]) -> bool:
    """The same for the further clients that a run is sent to."""
    return any(
        _hides(replica["client"])
        for run in runs
        for replica in getattr(run, "replicas", None) or ()
        if replica.get("client") is not None
    )


def _hides(client: Any) -> bool:
    # The client has no public word for this. Where it can't be told, content counts as hidden.
    hidden = (getattr(client, name, True) for name in ("_hide_inputs", "_hide_outputs"))
    return any(value is not False for value in hidden) or getattr(client, "_anonymizer", True) is not None


def discreet(tracer: Any) -> Any:
    """The same tracer, which tells of an error its class and its HTTP status, and nothing that it quotes.

    LangChain writes an error's text and its whole traceback into a run, past the client's own hiding. Not every error
    lets itself be cleaned: Pydantic's, for one, quote their input for ever.
    """
    if not isinstance(tracer, LangChainTracer) or isinstance(tracer, _Discreet):
        return tracer
    kind = _discreet_kind(type(tracer))
    quiet = kind.__new__(kind)
    quiet.__dict__.update(vars(tracer))  # with the same runs; `copy` gives the tracer itself
    return quiet


class _Discreet(LangChainTracer):
    def on_llm_error(self, error: BaseException, **kwargs: Any) -> Any:
        return super().on_llm_error(_reduced(error), **kwargs)

    def on_chain_error(self, error: BaseException, **kwargs: Any) -> Any:
        return super().on_chain_error(_reduced(error), **kwargs)

    def on_tool_error(self, error: BaseException, **kwargs: Any) -> Any:
        return super().on_tool_error(_reduced(error), **kwargs)

    def on_retriever_error(self, error: BaseException, **kwargs: Any) -> Any:
        return super().on_retriever_error(_reduced(error), **kwargs)


@cache
def _discreet_kind(kind: type[LangChainTracer]) -> type[LangChainTracer]:
    return type(kind.__name__, (_Discreet, kind), {})


def _reduced(error: BaseException) -> BaseException:
    if isinstance(error, asyncio.CancelledError) and error.args in {(), (GIVEN_UP,)}:
        return error  # nobody's words but ours
    code = status_code(error)
    kind: type[Exception] = type(type(error).__name__, (Exception,), {"__module__": "builtins"})
    return kind("***" if code is None else f"*** (HTTP {code})")
