"""What a simulated endpoint rejects: a wrong key, an unknown model, what it doesn't support."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sot_graph.testing.requests import ChatRequest
from sot_graph.testing.wire import error_body

__all__ = ["ALL_FEATURES", "Feature", "Rejection", "key_rejection", "request_rejection"]

Feature: TypeAlias = Literal["tools", "json_schema", "json_object"]
"""What a server may or may not know."""

ALL_FEATURES: frozenset[Feature] = frozenset({"tools", "json_schema", "json_object"})

_INVALID = "invalid_request_error"
_SHOWN_START, _SHOWN_END, _LONG_KEY = 3, 4, 16


@dataclass(frozen=True)
class Rejection:
    """An HTTP error and its body."""

    status: int
    body: dict[str, Any]


def key_rejection(api_key: str, accepted: Collection[str] | None) -> Rejection | None:
    """401 unless the key is one of the accepted ones; `None` accepts any, and none."""
    if accepted is None or api_key in accepted:
        return None
    if not api_key:
        message = "You didn't provide an API key. Provide it in an Authorization header: Bearer YOUR_KEY."
        return Rejection(401, error_body(message, kind=_INVALID))
    message = f"Incorrect API key provided: {_masked(api_key)}."
    return Rejection(401, error_body(message, kind=_INVALID, code="invalid_api_key"))


def request_rejection(
    request: ChatRequest, *, models: Collection[str] | None, supports: Collection[str]
) -> Rejection | None:
    """404 for an unknown model, 400 for what the server doesn't know or isn't a chat request."""
    if models is not None and request.model not in models:
        message = f"The model `{request.model}` does not exist or you do not have access to it."
        return Rejection(404, error_body(message, kind=_INVALID, code="model_not_found", param="model"))
    if not request.messages:
        return _bad_request("messages", "Missing required parameter: 'messages'.")
    if request.raw.get("n") not in (None, 1):
        return _bad_request("n", "This server gives one choice only: 'n' must be 1.")
    wanted = request.response_format.get("type", "text")
    if wanted != "text" and wanted not in supports:
        return _bad_request("response_format", f"This server does not support the response_format '{wanted}'.")
    if request.tools and "tools" not in supports:
        return _bad_request("tools", "This server does not support the parameter 'tools'.")
    return None


def _bad_request(param: str, message: str) -> Rejection:
    return Rejection(400, error_body(message, kind=_INVALID, param=param))


def _masked(key: str) -> str:
    """As OpenAI does it: the ends of a long key are shown, so callers must not pass the message on."""
    if len(key) < _LONG_KEY:
        return "*" * len(key)
    return key[:_SHOWN_START] + "*" * (len(key) - _SHOWN_START - _SHOWN_END) + key[-_SHOWN_END:]
