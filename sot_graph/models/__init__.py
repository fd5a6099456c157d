"""Models as the graph uses them: named, called, repeated, validated, on any event loop."""

from sot_graph.models.calls import BrokenStreamError, ModelCall, Prompt, Reply, made, unbound
from sot_graph.models.cleaning import cleaner_of, scrubber_of
from sot_graph.models.failures import explain, is_callers_to_fix, is_retryable
from sot_graph.models.gathering import as_chunk
from sot_graph.models.leaving import closing_calls, closing_once
from sot_graph.models.loops import LoopModel
from sot_graph.models.patience import Patience
from sot_graph.models.resolve import resolve_model
from sot_graph.models.running import run_in_own_thread, run_sync
from sot_graph.models.structured import InvalidOutputError, ask_structured, pick_mode

__all__ = [
    "BrokenStreamError",
    "InvalidOutputError",
    "LoopModel",
    "ModelCall",
    "Patience",
    "Prompt",
    "Reply",
    "as_chunk",
    "ask_structured",
    "cleaner_of",
    "closing_calls",
    "closing_once",
    "explain",
    "is_callers_to_fix",
    "is_retryable",
    "made",
    "pick_mode",
    "resolve_model",
    "run_in_own_thread",
    "run_sync",
    "scrubber_of",
    "unbound",
]
