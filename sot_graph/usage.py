"""Counting what model calls cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sot_graph.state import empty_usage

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage
    from langchain_core.messages.ai import UsageMetadata

    from sot_graph.types import Stage, Usage

__all__ = ["UsageMeter", "usage_metadata"]


@dataclass(slots=True)
class UsageMeter:
    """Collects one task's usage: a call is counted when it begins, its tokens when they are known."""

    usage: Usage = field(default_factory=empty_usage)

    def begin_call(self, stage: Stage) -> None:
        """Count a call, whatever becomes of it."""
        for part in (self.usage[stage], self.usage["total"]):
            part["calls"] += 1

    def add_cache_hit(self, stage: Stage) -> None:
        """Count a result taken from the graph's own cache: it costs neither a call nor a token."""
        for part in (self.usage[stage], self.usage["total"]):
            part["cache_hits"] += 1

    def add_tokens(self, stage: Stage, metadata: Any) -> None:
        """Add a reply's tokens, from LangChain's `usage_metadata` (may be `None`)."""
        if not metadata:
            return
        cached = (metadata.get("input_token_details") or {}).get("cache_read") or 0
        for part in (self.usage[stage], self.usage["total"]):
            part["input_tokens"] += metadata.get("input_tokens") or 0
            part["output_tokens"] += metadata.get("output_tokens") or 0
            part["cached_tokens"] += cached

    def add_message(self, stage: Stage, message: AIMessage) -> None:
        """Add the tokens that a whole reply reports."""
        self.add_tokens(stage, message.usage_metadata)


def usage_metadata(usage: Usage) -> UsageMetadata:
    """A run's total as the `usage_metadata` of the answer's message."""
    total = usage["total"]
    return {
        "input_tokens": total["input_tokens"],
        "output_tokens": total["output_tokens"],
        "total_tokens": total["input_tokens"] + total["output_tokens"],
        "input_token_details": {"cache_read": total["cached_tokens"]},
    }
