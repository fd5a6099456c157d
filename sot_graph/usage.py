"""Counting what model calls cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from sot_graph.state import add_usage, no_usage

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage
    from langchain_core.messages.ai import UsageMetadata

    from sot_graph.types import Stage, StageUsage, Usage

__all__ = ["UsageMeter", "usage_metadata"]


@dataclass(slots=True)
class UsageMeter:
    """Collects one task's usage: a call is counted when it begins, its tokens when they are known."""

    _stages: dict[Stage, StageUsage] = field(default_factory=dict)
    """Those that there was anything of: thousands of tasks may wait with theirs."""

    @property
    def usage(self) -> Usage:
        """What has been counted so far, whole."""
        return add_usage(None, cast("Usage", self._stages))

    def begin_call(self, stage: Stage) -> None:
        """Count a call, whatever becomes of it."""
        self._of(stage)["calls"] += 1

    def add_cache_hit(self, stage: Stage) -> None:
        """Count a result taken from the graph's own cache: it costs neither a call nor a token."""
        self._of(stage)["cache_hits"] += 1

    def add_tokens(self, stage: Stage, metadata: Any) -> None:
        """Add a reply's tokens, from LangChain's `usage_metadata` (may be `None`)."""
        if not metadata:
            return
        cached = (metadata.get("input_token_details") or {}).get("cache_read") or 0
        part = self._of(stage)
        part["input_tokens"] += metadata.get("input_tokens") or 0
        part["output_tokens"] += metadata.get("output_tokens") or 0
        part["cached_tokens"] += cached

    def add_message(self, stage: Stage, message: AIMessage) -> None:
        """Add the tokens that a whole reply reports."""
        self.add_tokens(stage, message.usage_metadata)

    def _of(self, stage: Stage) -> StageUsage:
        return self._stages.setdefault(stage, no_usage())


def usage_metadata(usage: Usage) -> UsageMetadata:
    """A run's total as the `usage_metadata` of the answer's message."""
    total = usage["total"]
    return {
        "input_tokens": total["input_tokens"],
        "output_tokens": total["output_tokens"],
        "total_tokens": total["input_tokens"] + total["output_tokens"],
        "input_token_details": {"cache_read": total["cached_tokens"]},
    }
