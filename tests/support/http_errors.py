"""Errors as the OpenAI client raises them."""

from __future__ import annotations

import sys
from typing import Any

import openai

__all__ = ["REQUEST", "http_error", "openai_http", "wrapped"]

openai_http: Any = sys.modules[openai.DefaultAsyncHttpxClient.__mro__[1].__module__]
"""What the OpenAI client stands on: httpx2, or with its version 2 httpx."""
REQUEST = openai_http.Request("POST", "http://127.0.0.1/v1/chat/completions")


def http_error(code: int, body: Any = None, headers: dict[str, str] | None = None) -> openai.APIStatusError:
    """The error for a response with this status."""
    response = openai_http.Response(code, request=REQUEST, headers=headers)
    return openai.APIStatusError("Error", response=response, body=body)


def wrapped(error: BaseException) -> Exception:
    """An error that was raised from this one."""
    try:
        raise RuntimeError("outer") from error
    except RuntimeError as outer:
        return outer
