"""For tests and benchmarks: a simulated OpenAI-compatible endpoint with faults, and a scripted chat model.

    with SimulatedEndpoint(physics=Physics.instant()) as endpoint:
        graph = create_sot_graph(endpoint.chat_model())

The endpoint needs the extra `testing` (`pip install 'sot-graph[testing]'`); the scripted model does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sot_graph.testing.faults import CutOff, Empty, Fault, Garbage, HangUp, Physics, Refusal, Reset, Stall, Status
from sot_graph.testing.openai_wire import ChatRequest, Reply, ToolCall, count_tokens, split_tokens
from sot_graph.testing.rendezvous import Rendezvous, RendezvousError
from sot_graph.testing.skeleton_responder import Ask, SkeletonResponder

if TYPE_CHECKING:
    from sot_graph.testing.scripted_model import ScriptedCall, ScriptedChatModel, answer_skeleton_of_thought
    from sot_graph.testing.simulated_endpoint import LoggedRequest, SimulatedEndpoint

__all__ = [
    "Ask",
    "ChatRequest",
    "CutOff",
    "Empty",
    "Fault",
    "Garbage",
    "HangUp",
    "LoggedRequest",
    "Physics",
    "Refusal",
    "Rendezvous",
    "RendezvousError",
    "Reply",
    "Reset",
    "ScriptedCall",
    "ScriptedChatModel",
    "SimulatedEndpoint",
    "SkeletonResponder",
    "Stall",
    "Status",
    "ToolCall",
    "answer_skeleton_of_thought",
    "count_tokens",
    "split_tokens",
]

# The endpoint needs an extra, and the scripted model LangChain, which takes its time to import: only for who asks.
_LAZY = dict.fromkeys(["LoggedRequest", "SimulatedEndpoint"], "simulated_endpoint")
_LAZY |= dict.fromkeys(["ScriptedCall", "ScriptedChatModel", "answer_skeleton_of_thought"], "scripted_model")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return __all__
