"""From what a caller names to a chat model: an object as it is, a name made into one, or a clear error."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import openai
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from langgraph.pregel.protocol import PregelProtocol

from sot_graph.errors import SotConfigError, brief
from sot_graph.llm.provider_errors import explain

_EXAMPLES = (
    'Pass a LangChain chat model such as ChatOpenAI(model="gpt-4o-mini"), or a name such as "gpt-4o-mini" or '
    '"openai:gpt-4o-mini".'
)

_NO_MODELS: Mapping[type, str] = {
    BasePromptTemplate: "Pass a chat model. A prompt's words go into prompts=SotPrompts(...).",
    PregelProtocol: "Pass a chat model. A graph can write the points: create_sot_graph(model, expander=graph). "
    "SotChatModel(graph=graph) makes a chat model of a graph of create_sot_graph.",
}
"""What people give in a model's place, and what to do instead."""
_PROVIDERS = frozenset(
    {
        *("anthropic", "azure", "azure_openai", "bedrock", "bedrock_converse", "cohere", "deepseek", "fireworks"),
        *("gemini", "google", "google_genai", "google_vertexai", "groq", "huggingface", "meta", "mistral", "mistralai"),
        *("nvidia", "ollama", "openai", "openrouter", "perplexity", "together", "vertexai", "xai"),
    }
)
"""Names that people write in place of a model's: those of `init_chat_model`, and what they are called besides."""


def resolve_model(
    model: object,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    argument: str = "model",
    own_server: str = 'pass ChatOpenAI(model=..., base_url="http://...", api_key=...)',
) -> Runnable[Any, Any]:
    """A chat model from an object or a name.

    Args:
        model: A LangChain chat model (also wrapped by `bind`, `with_config`, `with_fallbacks`), or a name. Another
            Runnable that takes messages, such as a chain that ends in a model, is asked as it is.
            `"name"` and `"openai:name"` make a `ChatOpenAI`; `"provider:name"` goes through LangChain's
            `init_chat_model`, where that is installed.
        base_url: An OpenAI-compatible endpoint. Beside it a name is taken as it stands (`qwen3:4b`).
        api_key: The key for a named model; by default the provider's own environment variable.
        argument: What the caller knows `model` as, for error messages.
        own_server: How the caller names the model of a server of their own, for error messages.

    Raises:
        SotConfigError: No Runnable and no name, a prompt template, a graph, no such provider, a missing package or key.
    """
    for kind, instead in _NO_MODELS.items():
        if isinstance(model, kind):
            message = f"{argument} is a {type(model).__name__}, not a chat model. {instead}"
            raise SotConfigError(message)
    if isinstance(model, Runnable):
        return model
    if not isinstance(model, str):
        message = f"{argument} is a {type(model).__name__}, not a chat model. {_EXAMPLES}"
        raise SotConfigError(message)
    name = model.strip()
    provider, colon, rest = name.partition(":")
    if not name.isprintable() or not name or (colon and not (provider and rest)):
        message = f"{argument} is {brief(name)}, which names no model. {_EXAMPLES}"
        raise SotConfigError(message)
    if base_url is not None:
        return _chat_openai(name, base_url, api_key)
    mistake = _mistake_in(name, own_server)
    if mistake:
        message = f"{argument} is {brief(name)}, {mistake}."
        raise SotConfigError(message)
    if not colon or provider == "openai":
        return _chat_openai(rest or name, None, api_key)
    return _from_provider(provider, rest, api_key, argument, own_server)


def _mistake_in(name: str, own_server: str) -> str:
    """What people give in a model's place, and what would be told as a missing key."""
    lower = name.lower()
    if lower in _PROVIDERS:
        return "which names a provider and none of its models: write both, as in openai:gpt-4o-mini"
    if "://" in name:
        return f"an address and not a model's name: {own_server}"
    if lower.endswith(".gguf"):
        return "a file, which sot_graph.local_model runs: `with local_model(path) as chat:`, and pass that"
    return ""


def _chat_openai(name: str, base_url: str | None, api_key: str | None) -> ChatOpenAI:
    settings: dict[str, Any] = {"model": name, "stream_usage": True}
    if base_url is not None:
        if not _is_http_url(base_url):
            message = (
                f"base_url is {brief(base_url)}; it must be an http:// or https:// address, such as "
                "http://localhost:11434/v1."
            )
            raise SotConfigError(message)
        # LangChain would guess the Responses API from the model's name; compatible servers don't have it.
        settings |= {"base_url": base_url, "use_responses_api": False}
    if api_key is not None:
        settings["api_key"] = api_key
    try:
        return ChatOpenAI(**settings)
    except openai.OpenAIError as error:
        if base_url is not None:  # local servers want no key
            return ChatOpenAI(**settings, api_key="not-needed")  # type: ignore[arg-type]
        message = (
            f"No key for {brief(name)}, which is taken for a model of OpenAI's: set OPENAI_API_KEY, or pass "
            "ChatOpenAI(model=..., api_key=...). Another provider's model is named with it, as in anthropic:its-name."
        )
        raise SotConfigError(message) from error


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))


def _from_provider(provider: str, name: str, api_key: str | None, argument: str, own_server: str) -> BaseChatModel:
    full = brief(f"{provider}:{name}")
    local_hint = f" If {full} is the name of a model on a server of your own, {own_server}."
    if importlib.util.find_spec("langchain") is None:
        message = (
            f"{argument} is {full}: for other providers than OpenAI install LangChain and the provider's package "
            f"(pip install langchain langchain-{provider.replace('_', '-')}), or pass a chat model object.{local_hint}"
        )
        raise SotConfigError(message)
    from langchain.chat_models import init_chat_model

    key: dict[str, Any] = {} if api_key is None else {"api_key": api_key}
    try:
        model: BaseChatModel = init_chat_model(name, model_provider=provider, **key)
    except Exception as error:  # of the provider's own class: a missing key, mostly
        if isinstance(error, ImportError):
            why = explain(error)
        elif isinstance(error, ValueError) and str(error).startswith("Unsupported provider"):
            why = f"LangChain's init_chat_model knows no provider {brief(provider)}.{local_hint}"
        else:
            why = f"no model could be made of it: {explain(error)}"
        message = f"{argument} is {full}: {why}"
        raise SotConfigError(message) from error
    return model
