"""`like_llama_cpp`: what llama.cpp makes of a trailing assistant message. Hosted models mostly ignore it."""

from __future__ import annotations

from collections.abc import Callable

from sot_graph.testing import ChatRequest

__all__ = ["like_llama_cpp"]


def like_llama_cpp(responder: Callable[[ChatRequest], str]) -> Callable[[ChatRequest], str]:
    """A responder whose answers go on after a prefill, and repeat it if they aren't streamed."""

    def respond(request: ChatRequest) -> str:
        text, last = responder(request), request.messages[-1]
        prefill = last["content"] if last["role"] == "assistant" else ""
        if text.startswith(prefill):
            rest = text.removeprefix(prefill)
        else:
            rest = text if prefill[-1:].isspace() else f" {text}"
        return rest if request.stream else prefill + rest

    return respond
