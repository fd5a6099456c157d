"""Errors as the OpenAI client raises them."""

from __future__ import annotations

from typing import Any

import httpx2
import openai

__all__ = ["REQUEST", "http_error", "wrapped"]

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")


def http_error(code: int, body: Any = None, headers: dict[str, str] | None = None) -> openai.APIStatusError:
    """The error for a response with this status."""
    response = httpx2.Response(code, request=REQUEST, headers=headers)
    return openai.APIStatusError("Error", response=response, body=body)


def wrapped(error: BaseException) -> Exception:
    """An error that was raised from this one."""
    try:
        raise RuntimeError("outer") from error
    except RuntimeError as outer:
        return outer
