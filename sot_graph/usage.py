"""What model calls cost: counted in one node's execution, added up over a run, priced where genai-prices is installed.

The prices are in that package (the extra `cost`): nothing is fetched. A model without one is named, and not guessed.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self, cast

from langchain_core.messages.ai import add_usage as add_counts

from sot_graph.types import Cost, Stage, StageUsage, Usage

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.messages.ai import UsageMetadata

CHARS_PER_TOKEN = 4
"""What a token is estimated at, here and in everything that the project measures."""
_STAGES: tuple[Stage, ...] = ("route", "skeleton", "expansion", "frame", "direct")
_NOTHING = StageUsage(
    input_tokens=0, output_tokens=0, cached_tokens=0, cache_write_tokens=0, reasoning_tokens=0, calls=0, cache_hits=0
)
_CACHE_WRITES = ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""Where LangChain has what was written into a prompt cache: for Anthropic, by how long it is kept."""
_TOLD = (
    *("input_tokens", "output_tokens", "input_token_details.cache_read", "output_token_details.reasoning"),
    *(f"input_token_details.{name}" for name in _CACHE_WRITES),
)
"""What is read of a reply's counts."""
_MOST_TOKENS = 2**53
"""What JSON carries exactly. A provider's count above it is nonsense, and no database takes it."""

_PROVIDERS: Mapping[str, str] = {
    "ChatAnthropic": "anthropic",
    "ChatAnthropicVertex": "google",
    "AzureChatOpenAI": "azure",
    "ChatBedrock": "aws",
    "ChatBedrockConverse": "aws",
    "ChatDeepSeek": "deepseek",
    "ChatGoogleGenerativeAI": "google",
    "ChatVertexAI": "google",
    "ChatGroq": "groq",
    "ChatLiteLLM": "litellm",
    "ChatMistralAI": "mistral",
    "ChatOpenRouter": "openrouter",
    "ChatXAI": "x-ai",
}
"""As genai-prices calls them, by the classes that ask them."""
_PROVIDER_OF_REPLY: Mapping[str, str] = {
    **{name: name for name in ("anthropic", "azure", "deepseek", "groq", "openrouter")},
    **{"google_genai": "google", "google_vertexai": "google", "mistralai": "mistral", "xai": "x-ai"},
    **{"bedrock": "aws", "bedrock_converse": "aws"},
}
"""The same, by what LangChain's messages say of where they come from. `openai` may be any server that is alike."""
_DATE_AFTER_NAME = re.compile(r"(?:[-@](?:\d{3,8}|\d{4}-\d\d-\d\d))?")
_GATEWAYS = (
    "anthropic|aws|azure|azure_ai|azure-openai|bedrock|cloudflare|databricks|gemini|github|google|google_genai|google-vertex"
    "|litellm_proxy|models|openai|openrouter|publishers|vercel|vertex|vertexai|vertex_ai"
)
"""What stands before a model's name where a gateway serves it."""
_SOLD_BY_ITS_MAKER = re.compile(rf"(?:(?:{_GATEWAYS})/)*(?P<name>(?:ft:)?gpt-\d|o\d|claude|gemini)", re.IGNORECASE)
"""Models with closed weights: whichever gateway serves them, their maker's list price is taken."""

logger = logging.getLogger("sot_graph")


def add_usage(left: Usage | None, right: Usage | None) -> Usage:
    """Reducer: the sum, stage by stage, and its total."""
    result = cast("Usage", {stage: _NOTHING.copy() for stage in (*_STAGES, "total")})
    total = result["total"]
    for usage in (left, right):
        if not usage:
            continue
        for stage in _STAGES:
            for key, value in usage.get(stage, {}).items():
                if key == "estimated":
                    result[stage]["estimated"] = total["estimated"] = True
                    continue
                result[stage][key] += value  # type: ignore[literal-required]
                total[key] += value  # type: ignore[literal-required]
    if cost := _sum_costs(*(usage.get("cost", {}) for usage in (left, right) if usage)):
        result["cost"] = cost
    return result


def empty_usage() -> Usage:
    """A usage of nothing."""
    return add_usage(None, None)


def _sum_costs(*costs: Cost) -> Cost:
    total: dict[str, Any] = {}
    for cost in costs:
        for key, value in cast("dict[str, Any]", cost).items():
            known = total.get(key)
            total[key] = sorted({*(known or ()), *value}) if isinstance(value, list) else value + (known or 0.0)
    return cast("Cost", total)


@cache
def _has_prices() -> bool:
    return find_spec("genai_prices") is not None


def name_of(model: Any) -> str:
    """A chat model's name, whichever attribute its class keeps it in; empty: it tells none."""
    names = (getattr(model, each, None) for each in ("model_name", "model", "model_id"))
    return next((name for name in names if isinstance(name, str) and name), "")


def is_same_model(told: str, name: str) -> bool:
    """Whether a reply tells this model's name, perhaps with a date behind it: "-mini" or "-5" is another model's."""
    return bool(name) and told.startswith(name) and _DATE_AFTER_NAME.fullmatch(told, len(name)) is not None


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Where a model's price is to be found."""

    name: str
    provider: str | None = None
    address: str | None = None

    @classmethod
    def of(cls, model: Any) -> Self | None:
        """That of a LangChain chat model; `None` where genai-prices isn't installed."""
        if not _has_prices():
            return None
        name = name_of(model) or type(model).__name__
        provider = _PROVIDERS.get(type(model).__name__)
        address = getattr(getattr(model, "root_async_client", None), "base_url", None)
        return cls(name.removeprefix("models/"), provider, None if provider or not address else str(address))

    @classmethod
    def of_reply(cls, told: Mapping[str, Any]) -> Self | None:
        """That of the model which a reply says it comes from, by its metadata; `None`: it isn't known."""
        name = told.get("model_name") or told.get("model")
        if not (isinstance(name, str) and name and _has_prices()):
            return None
        return cls(name.removeprefix("models/"), _PROVIDER_OF_REPLY.get(str(told.get("model_provider"))))

    def dollars(self, counts: UsageMetadata) -> float | None:
        """What a call with these counts costs; `None`: nobody knows."""
        from genai_prices import Usage, calc_price

        details = counts["input_token_details"]
        cache_read = min(details["cache_read"], counts["input_tokens"])
        usage = Usage(
            input_tokens=counts["input_tokens"],
            output_tokens=counts["output_tokens"],
            cache_read_tokens=cache_read,
            cache_write_tokens=min(details["cache_creation"], counts["input_tokens"] - cache_read),
        )
        places: list[tuple[str, dict[str, Any]]] = (
            [(self.name, {"provider_id": self.provider})] if self.provider else []
        )
        if self.address:
            places.append((self.name, {"provider_api_url": self.address}))
        if (sold := _SOLD_BY_ITS_MAKER.match(self.name)) and not self.name.endswith(":free"):
            bare = self.name[sold.start("name") :]
            places.append((bare, {"provider_id": "openai"} if bare.startswith("ft:") else {}))
        for name, place in places:
            try:
                return float(calc_price(usage, name, **place).total_price)
            except (LookupError, ValueError):
                continue
        return None


@dataclass(slots=True)
class UsageMeter:
    """Collects one task's usage: a call is counted when it begins, its tokens when they are known."""

    _stages: defaultdict[Stage, StageUsage] = field(default_factory=partial(defaultdict, _NOTHING.copy))
    """Those that there was anything of: thousands of tasks may wait with theirs."""
    on_tokens: Callable[[int], None] | None = None
    """Told each reply's tokens, in and out."""
    _cost: Cost = field(default_factory=Cost)

    @property
    def usage(self) -> Usage:
        """What has been counted so far, whole."""
        return add_usage(cast("Usage", {"cost": self._cost}), cast("Usage", self._stages))

    @property
    def as_update(self) -> Usage:
        """The same for the state, which adds it up: without what is nothing, since each point's update is stored."""
        stages: dict[str, Any] = {stage: {**counts} for stage, counts in self._stages.items()}
        return cast("Usage", {**stages, "cost": self._cost} if self._cost else stages)

    def begin_call(self, stage: Stage) -> None:
        """Count a call, whatever becomes of it."""
        self._stages[stage]["calls"] += 1

    def add(self, usage: Usage) -> None:
        """Count what another execution has used."""
        both = add_usage(cast("Usage", self._stages), usage)
        self._stages.update({stage: both[stage] for stage in _STAGES if any(both[stage].values())})
        self._cost = _sum_costs(self._cost, usage.get("cost", {}))

    def move(self, stage: Stage, to: Stage) -> None:
        """Count what a stage has cost under another: only a reply tells what some calls are for."""
        if (counts := self._stages.pop(stage, None)) is not None:
            sums = add_usage(cast("Usage", {to: self._stages[to]}), cast("Usage", {to: counts}))
            self._stages[to] = sums[to]
        dollars = cast("dict[str, float]", self._cost)
        if stage in dollars:
            dollars[to] = dollars.get(to, 0.0) + dollars.pop(stage)

    def add_cache_hit(self, stage: Stage) -> None:
        """Count a result taken from the graph's own cache: it costs neither a call nor a token."""
        self._stages[stage]["cache_hits"] += 1

    def add_tokens(
        self, stage: Stage, metadata: Any, *, price: ModelPrice | None = None, estimate: tuple[int, int] | None = None
    ) -> None:
        """Add a reply's tokens, from LangChain's `usage_metadata` (may be `None`).

        `estimate`: tokens in and out, for what isn't told. Of a reply that breaks off, too few may be told.
        """
        if not (metadata or estimate):
            return
        counts, used = clean_counts(metadata), self._stages[stage]
        if isinstance(metadata, Mapping) and metadata.get("total_cost") == 0:
            # LangChain marks so what it takes from the model's own cache: nobody was asked.
            used["calls"] -= 1
            used["cache_hits"] += 1
            return
        if estimate is not None:
            told_in, told_out = counts["input_tokens"], counts["output_tokens"]
            read, written = told_in or estimate[0], told_out if 2 * told_out >= estimate[1] else estimate[1]
            if (read, written) != (told_in, told_out):
                used["estimated"] = True
            counts |= {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
        used["input_tokens"] += counts["input_tokens"]
        used["output_tokens"] += counts["output_tokens"]
        used["cached_tokens"] += counts["input_token_details"]["cache_read"]
        used["cache_write_tokens"] += counts["input_token_details"]["cache_creation"]
        used["reasoning_tokens"] += counts["output_token_details"]["reasoning"]
        if self.on_tokens is not None:
            self.on_tokens(counts["total_tokens"])
        if price is not None and counts["total_tokens"]:
            dollars = price.dollars(counts)
            cost = Cost(unpriced=[price.name]) if dollars is None else cast("Cost", {stage: dollars, "total": dollars})
            self._cost = _sum_costs(self._cost, cost)


def usage_metadata(usage: Usage) -> UsageMetadata:
    """A run's total as the `usage_metadata` of the answer's message."""
    total = usage["total"]
    return {
        "input_tokens": total["input_tokens"],
        "output_tokens": total["output_tokens"],
        "total_tokens": total["input_tokens"] + total["output_tokens"],
        "input_token_details": {"cache_read": total["cached_tokens"], "cache_creation": total["cache_write_tokens"]},
        "output_token_details": {"reasoning": total["reasoning_tokens"]},
    }


def tokens_of(messages: Sequence[BaseMessage]) -> int:
    """About how many tokens a prompt has: one for four bytes. A character of Chinese is about one."""
    blocks = (
        block for each in messages for block in ([each.content] if isinstance(each.content, str) else each.content)
    )
    texts = (block if isinstance(block, str) else str(block.get("text") or "") for block in blocks)
    sizes = (len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
    return sum(sizes) // CHARS_PER_TOKEN


def clean_counts(metadata: Any) -> UsageMetadata:
    """A provider's counts, in LangChain's form: whole numbers from 0 to 2**53, what is none of these left out."""
    counts = dict.fromkeys(_TOLD, 0)
    for path in _TOLD:
        value = metadata
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if is_count(value):
            counts[path] = int(value)
        elif value is not None:
            log_nonsense(path)
    return {
        "input_tokens": counts["input_tokens"],
        "output_tokens": counts["output_tokens"],
        "total_tokens": counts["input_tokens"] + counts["output_tokens"],
        "input_token_details": {
            "cache_read": counts["input_token_details.cache_read"],
            "cache_creation": sum(counts[f"input_token_details.{name}"] for name in _CACHE_WRITES),
        },
        "output_token_details": {"reasoning": counts["output_token_details.reasoning"]},
    }


def merged_usage(known: UsageMetadata | None, metadata: Any) -> UsageMetadata:
    """The counts of a streamed reply so far, with those of its next chunk.

    Some providers tell the prompt first and the reply last: these are added. Others tell in each chunk what it is by
    then, with the prompt again and again: there the last counts hold.
    """
    counts = clean_counts(metadata)
    if known is None or (known["input_tokens"] and counts["input_tokens"]):
        return counts
    return clean_counts(add_counts(known, counts))


def is_count(value: Any) -> bool:
    """Whether this can be a number of tokens."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 <= value <= _MOST_TOKENS
        and int(value) == value
    )


@cache
def log_nonsense(name: str) -> None:
    """Say, once a process, that a provider counts in what is no number of tokens."""
    logger.warning("The provider's %s is no number of tokens: it is not counted.", name)
