"""The public names and where they are defined. `__init__.py` loads them from here when they are first used."""

from .agents.chat_model import (
    SotChatModel as SotChatModel,
)
from .agents.middleware import (
    SkeletonOfThoughtMiddleware as SkeletonOfThoughtMiddleware,
)
from .agents.tool import (
    create_sot_tool as create_sot_tool,
)
from .concurrency.call_limiter import (
    CallLimiter as CallLimiter,
)
from .concurrency.cancellation import (
    cancelled_once as cancelled_once,
)
from .errors import (
    ExpansionError as ExpansionError,
    ModelOutputError as ModelOutputError,
    RoutingError as RoutingError,
    SkeletonError as SkeletonError,
    SotConfigError as SotConfigError,
    SotError as SotError,
)
from .events import (
    SotEvent as SotEvent,
)
from .graph import (
    build_sot_graph as build_sot_graph,
    create_sot_graph as create_sot_graph,
)
from .joiners import (
    Join as Join,
    PointwiseJoin as PointwiseJoin,
    join_headings as join_headings,
    join_markdown as join_markdown,
    join_plain as join_plain,
)
from .local import (
    local_model as local_model,
)
from .nodes import (
    ANSWER_DIRECTLY as ANSWER_DIRECTLY,
    DRAFT_SKELETON as DRAFT_SKELETON,
    EXPAND_POINT as EXPAND_POINT,
    JOIN as JOIN,
    REVIEW_SKELETON as REVIEW_SKELETON,
    ROUTE as ROUTE,
)
from .observability.langsmith_log_filter import (
    quiet_langsmith as quiet_langsmith,
)
from .options import (
    SotContext as SotContext,
    SotOptions as SotOptions,
)
from .prompts.templates import (
    SotPrompts as SotPrompts,
)
from .report import (
    RunFigures as RunFigures,
    measure_run as measure_run,
    result_timeline as result_timeline,
)
from .retrieval.files import (
    load_documents as load_documents,
)
from .retrieval.grounding import (
    Ranker as Ranker,
)
from .retrieval.retriever import (
    Retriever as Retriever,
)
from .retry_failed import (
    aretry_failed_points as aretry_failed_points,
    retry_failed_points as retry_failed_points,
)
from .routing.learned_router import (
    LearnedRouter as LearnedRouter,
)
from .routing.model_router import (
    CascadeRouter as CascadeRouter,
    DraftRouter as DraftRouter,
    ModelRouter as ModelRouter,
)
from .routing.protocol import (
    RouteDecision as RouteDecision,
    Router as Router,
)
from .state import (
    SotInput as SotInput,
    SotOutput as SotOutput,
    SotState as SotState,
)
from .streaming import (
    AnswerReader as AnswerReader,
    AnswerTransformer as AnswerTransformer,
    astream_answer as astream_answer,
    stream_answer as stream_answer,
)
from .types import (
    Expansion as Expansion,
    Frame as Frame,
    FramePart as FramePart,
    SkeletonPoint as SkeletonPoint,
    Source as Source,
    StageUsage as StageUsage,
    Timings as Timings,
    Usage as Usage,
)
from .writing.expander import (
    Expander as Expander,
    ExpanderInput as ExpanderInput,
)

__version__: str
