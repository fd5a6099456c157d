"""What a failed call left behind, cleaned before a tracer, a log or a caller sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from openai import LengthFinishReasonError

from sot_graph.observability.redaction import GIVEN_UP, Redactor

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.outputs import LLMResult

    from sot_graph.tracing import OnError

__all__ = ["cleaner_of"]


def cleaner_of(make: Callable[[], Redactor]) -> OnError:
    """Cleans what a failed call left behind, and tells the tokens that it reports.

    Args:
        make: Makes the redactor, for most calls don't fail.
    """

    def clean(error: BaseException, response: LLMResult | None) -> UsageMetadata | None:
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)) and not error.args:
            error.args = (GIVEN_UP,)
        make().failure(error, response)
        return _usage_of(error)

    return clean


def _usage_of(error: BaseException) -> UsageMetadata | None:
    """What a reply cost that came as an exception: OpenAI's client raises for one that is cut off."""
    usage = error.completion.usage if isinstance(error, LengthFinishReasonError) else None
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
