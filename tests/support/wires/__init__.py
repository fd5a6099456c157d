"""Loopback servers that speak as providers do: a wire a protocol, one way to say what is answered."""

from tests.support.wires.anthropic_wire import AnthropicWire
from tests.support.wires.bedrock_wire import BedrockWire
from tests.support.wires.gemini_wire import GeminiWire
from tests.support.wires.ollama_wire import OllamaWire
from tests.support.wires.openai_compatible import OpenAICompatibleWire
from tests.support.wires.wire import Wire

__all__ = ["AnthropicWire", "BedrockWire", "GeminiWire", "OllamaWire", "OpenAICompatibleWire", "Wire"]
