"""`PromptCache`: from how many tokens on a model's provider keeps a prompt, and how it wants to be told which part.

The rules are the providers' own, as documented in November 2026; docs/cost.md has them, and what they come to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableBinding

from sot_graph.usage import name_of

_MOST_MARKS = 4
"""The most marks of a request, at Anthropic as at OpenAI. The caller's own are among them."""
CACHE_MARKS = ("cache_control", "prompt_cache_breakpoint", "cachePoint")
"""The keys by which a block says that what goes before it is to be kept."""
_DEFAULT_MINIMUM = 1024
_MINIMUMS = (("haiku", 4096), ("opus-5", 512), ("gemini-[12]", 2048), ("gemini", 4096), ("deepseek", 64))
"""By the model's class and name: the first that is found in them."""
_ANTHROPIC_CLASSES = frozenset({"ChatAnthropic", "ChatAnthropicVertex", "ChatAnthropicBedrock"})
_GATEWAYS = frozenset({"ChatBedrock", "ChatOpenAI", "ChatOpenRouter", "ChatLiteLLM"})
"""Classes for models of many makers, which hand Anthropic's marks on."""
_CACHED_ON_BEDROCK = re.compile(r"claude-(?:3-7|(?:opus|sonnet|haiku|fable|mythos)-\d)|nova")
_GPT = re.compile(r"(?:^|/)gpt-(\d+)(?:\.(\d+))?")
_FIRST_WITH_BREAKPOINTS = (5, 6)


@dataclass(frozen=True, slots=True)
class PromptCache:
    """What a provider keeps of prompts."""

    minimum: int = _DEFAULT_MINIMUM
    """Tokens from which on it keeps a prompt."""
    mark: Mapping[str, Any] | None = None
    """What is added to the block where the kept part ends; `None`: the provider finds that by itself."""
    has_own_block: bool = False
    """Whether the mark is a block of its own, behind the text."""
    takes_key: bool = False
    """Whether requests may say that they belong together."""

    @classmethod
    def of(cls, model: Runnable[Any, Any]) -> PromptCache:
        """The rules of a model's provider, which the model's class and name tell."""
        settings: dict[str, Any] = {}
        while isinstance(model, RunnableBinding):
            settings = {**model.kwargs, **settings}
            model = model.bound
        classes = {base.__name__ for base in type(model).__mro__}
        class_name = type(model).__name__
        # All of these end up in the request, where what was bound last counts.
        settings = {**(getattr(model, "model_kwargs", None) or {}), **settings}
        settings = {**(settings.get("extra_body") or {}), **settings}
        name = str(settings.get("model") or name_of(model)).lower()
        known_as = f"{class_name.lower()} {name}"
        minimum = next((least for known, least in _MINIMUMS if re.search(known, known_as)), _DEFAULT_MINIMUM)
        if "cache_control" in settings:  # the provider marks each request's end itself
            return cls(minimum)
        if classes & _ANTHROPIC_CLASSES or (class_name in _GATEWAYS and "claude" in name):
            return cls(minimum, {"cache_control": {"type": "ephemeral"}})
        if class_name == "ChatBedrockConverse" and _CACHED_ON_BEDROCK.search(name):
            return cls(minimum, {"cachePoint": {"type": "default"}}, has_own_block=True)
        if class_name != "ChatOpenAI":
            return cls(minimum)
        version = _GPT.search(name)
        has_breakpoints = version is not None and (int(version[1]), int(version[2] or 0)) >= _FIRST_WITH_BREAKPOINTS
        return cls(
            minimum,
            {"prompt_cache_breakpoint": {"mode": "explicit"}} if has_breakpoints else None,
            takes_key="prompt_cache_key" not in settings and _is_openais_own(model),
        )

    def marked(self, messages: Sequence[BaseMessage], last_shared: Any) -> Sequence[BaseMessage]:
        """The same messages, marked at the end of the user's turn that has this content, if the provider wants a mark.

        That turn ends what all prompts of a run share.
        A caller who has set all the marks that there may be keeps theirs.
        """
        if self.mark is None:
            return messages
        marked = list(messages)
        users = (at for at, each in enumerate(marked) if isinstance(each, HumanMessage))
        place = next((at for at in users if marked[at].content == last_shared), None)
        in_blocks = [message.content for message in marked if not isinstance(message.content, str)]
        marks = sum(_is_marked(block) for blocks in in_blocks for block in blocks)
        if place is None or marks >= _MOST_MARKS:
            return marked
        content = marked[place].content
        *before, last = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(last, dict) or _is_marked(last):
            return marked
        ends = [last, dict(self.mark)] if self.has_own_block else [{**last, **self.mark}]
        marked[place] = HumanMessage([*before, *ends])
        return marked


def _is_openais_own(model: Any) -> bool:
    """Whether it is asked at OpenAI's own address: other servers refuse fields that they don't know."""
    address = getattr(getattr(model, "root_async_client", None), "base_url", None)
    host = urlsplit(str(address or "")).hostname or ""
    return host == "openai.com" or host.endswith(".openai.com")


def _is_marked(block: str | dict[Any, Any]) -> bool:
    return isinstance(block, dict) and any(name in block for name in CACHE_MARKS)
