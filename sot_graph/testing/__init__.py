"""For tests and benchmarks: a simulated OpenAI-compatible endpoint, a scripted chat model, a recorder of traces.

    with SimulatedEndpoint(physics=Physics.instant()) as endpoint:
        graph = create_sot_graph(endpoint.chat_model())

The endpoint and the recorder of traces need the extra `testing` (`pip install 'sot-graph[testing]'`); the scripted
model does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sot_graph.testing.asks import Ask
    from sot_graph.testing.barriers import Rendezvous, RendezvousError
    from sot_graph.testing.endpoint import SimulatedEndpoint
    from sot_graph.testing.faults import CutOff, Empty, Fault, Garbage, HangUp, Refusal, Reset, Stall, Status
    from sot_graph.testing.log import LoggedRequest
    from sot_graph.testing.model import ScriptedCall, ScriptedChatModel, answer_skeleton_of_thought
    from sot_graph.testing.physics import Physics
    from sot_graph.testing.process import EndpointProcess
    from sot_graph.testing.recorder import TraceRecorder
    from sot_graph.testing.replies import Reply, ToolCall
    from sot_graph.testing.requests import ChatRequest
    from sot_graph.testing.skeleton import SkeletonResponder
    from sot_graph.testing.tokens import count_tokens, split_tokens
    from sot_graph.testing.traces import RecordedRun

__all__ = [
    "Ask",
    "ChatRequest",
    "CutOff",
    "Empty",
    "EndpointProcess",
    "Fault",
    "Garbage",
    "HangUp",
    "LoggedRequest",
    "Physics",
    "RecordedRun",
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
    "TraceRecorder",
    "answer_skeleton_of_thought",
    "count_tokens",
    "split_tokens",
]

_MODULES = {
    "asks": ["Ask"],
    "barriers": ["Rendezvous", "RendezvousError"],
    "endpoint": ["SimulatedEndpoint"],
    "faults": ["CutOff", "Empty", "Fault", "Garbage", "HangUp", "Refusal", "Reset", "Stall", "Status"],
    "log": ["LoggedRequest"],
    "model": ["ScriptedCall", "ScriptedChatModel", "answer_skeleton_of_thought"],
    "physics": ["Physics"],
    "process": ["EndpointProcess"],
    "recorder": ["TraceRecorder"],
    "replies": ["Reply", "ToolCall"],
    "requests": ["ChatRequest"],
    "skeleton": ["SkeletonResponder"],
    "tokens": ["count_tokens", "split_tokens"],
    "traces": ["RecordedRun"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
