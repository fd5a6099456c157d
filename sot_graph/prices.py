"""`ModelPrice`: what a model's calls cost in dollars, where genai-prices is installed (the extra `cost`).

Its prices are in the package: nothing is fetched. A model of which it has none is named, and not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

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
_SOLD_BY_ITS_MAKER = re.compile(r"gpt-\d|o\d|claude|gemini")
"""Models that nobody can serve by themselves: behind a gateway they cost what they cost."""


@cache
def _is_installed() -> bool:
    return find_spec("genai_prices") is not None


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Where a model's price is to be found."""

    name: str
    provider: str | None = None
    address: str | None = None

    @classmethod
    def of(cls, model: Any) -> Self | None:
        """That of a LangChain chat model; `None` where genai-prices isn't installed."""
        if not _is_installed():
            return None
        names = (getattr(model, each, None) for each in ("model_name", "model", "model_id"))
        name = next((each for each in names if isinstance(each, str) and each), type(model).__name__)
        provider = _PROVIDERS.get(type(model).__name__)
        address = getattr(getattr(model, "root_async_client", None), "base_url", None)
        return cls(name.removeprefix("models/"), provider, None if provider or not address else str(address))

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
        for place in self._places():
            try:
                return float(calc_price(usage, self.name, **place).total_price)
            except (LookupError, ValueError):
                continue
        return None

    def _places(self) -> Iterator[dict[str, Any]]:
        if self.provider:
            yield {"provider_id": self.provider}
        if self.address:
            yield {"provider_api_url": self.address}
        if _SOLD_BY_ITS_MAKER.match(self.name):
            yield {}
