"""The public names and where they are defined. `__init__.py` loads them from here when they are first used."""

from .cache_meter import (
    CacheMeter as CacheMeter,
    CacheName as CacheName,
    PromptBill as PromptBill,
)
from .conditions import (
    CutOff as CutOff,
    Empty as Empty,
    Fault as Fault,
    Garbage as Garbage,
    HangUp as HangUp,
    Physics as Physics,
    Refusal as Refusal,
    Rendezvous as Rendezvous,
    RendezvousError as RendezvousError,
    Reset as Reset,
    Stall as Stall,
    Status as Status,
)
from .openai_wire import (
    ChatRequest as ChatRequest,
    Reply as Reply,
    ToolCall as ToolCall,
    count_tokens as count_tokens,
    split_tokens as split_tokens,
)
from .scripted_model import (
    ScriptedCall as ScriptedCall,
    ScriptedChatModel as ScriptedChatModel,
    answer_skeleton_of_thought as answer_skeleton_of_thought,
)
from .simulated_endpoint import (
    LoggedRequest as LoggedRequest,
    SimulatedEndpoint as SimulatedEndpoint,
)
from .skeleton_responder import (
    Ask as Ask,
    SkeletonResponder as SkeletonResponder,
)
