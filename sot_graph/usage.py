"""What model calls cost: counted in one node's execution, added up over a run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from sot_graph.types import Stage, StageUsage, Usage

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

_STAGES: tuple[Stage, ...] = ("route", "skeleton", "expansion", "frame", "direct")
_NOTHING = StageUsage(input_tokens=0, output_tokens=0, cached_tokens=0, calls=0, cache_hits=0)


def empty_usage() -> Usage:
    """A usage of nothing."""
    return cast("Usage", {stage: _NOTHING.copy() for stage in (*_STAGES, "total")})


def add_usage(left: Usage | None, right: Usage | None) -> Usage:
    """Reducer: the sum, stage by stage, and its total."""
    result = empty_usage()
    total = result["total"]
    for usage in (left, right):
        if not usage:
            continue
        for stage in _STAGES:
            for key, value in usage.get(stage, {}).items():
                result[stage][key] += value  # type: ignore[literal-required]
                total[key] += value  # type: ignore[literal-required]
    return result


@dataclass(slots=True)
class UsageMeter:
    """Collects one task's usage: a call is counted when it begins, its tokens when they are known."""

    _stages: defaultdict[Stage, StageUsage] = field(default_factory=partial(defaultdict, _NOTHING.copy))
    """Those that there was anything of: thousands of tasks may wait with theirs."""

    @property
    def usage(self) -> Usage:
        """What has been counted so far, whole."""
        return add_usage(None, cast("Usage", self._stages))

    def begin_call(self, stage: Stage) -> None:
        """Count a call, whatever becomes of it."""
        self._stages[stage]["calls"] += 1

    def add_cache_hit(self, stage: Stage) -> None:
        """Count a result taken from the graph's own cache: it costs neither a call nor a token."""
        self._stages[stage]["cache_hits"] += 1

    def add_tokens(self, stage: Stage, metadata: Any) -> None:
        """Add a reply's tokens, from LangChain's `usage_metadata` (may be `None`)."""
        if not metadata:
            return
        used = self._stages[stage]
        used["input_tokens"] += metadata.get("input_tokens") or 0
        used["output_tokens"] += metadata.get("output_tokens") or 0
        used["cached_tokens"] += (metadata.get("input_token_details") or {}).get("cache_read") or 0


def usage_metadata(usage: Usage) -> UsageMetadata:
    """A run's total as the `usage_metadata` of the answer's message."""
    total = usage["total"]
    return {
        "input_tokens": total["input_tokens"],
        "output_tokens": total["output_tokens"],
        "total_tokens": total["input_tokens"] + total["output_tokens"],
        "input_token_details": {"cache_read": total["cached_tokens"]},
    }
