"""The public names and where they are defined. `sot_graph/__init__.py` loads them from here, lazily."""

from .concurrency.call_limiter import (
    CallLimiter as CallLimiter,
)
from .errors import (
    ExpansionError as ExpansionError,
)
from .errors import (
    ModelOutputError as ModelOutputError,
)
from .errors import (
    RoutingError as RoutingError,
)
from .errors import (
    SkeletonError as SkeletonError,
)
from .errors import (
    SotConfigError as SotConfigError,
)
from .errors import (
    SotError as SotError,
)
from .events import (
    SotEvent as SotEvent,
)
from .graph import (
    build_sot_graph as build_sot_graph,
)
from .graph import (
    create_sot_graph as create_sot_graph,
)
from .joiners import (
    Join as Join,
)
from .joiners import (
    PointwiseJoin as PointwiseJoin,
)
from .joiners import (
    join_headings as join_headings,
)
from .joiners import (
    join_markdown as join_markdown,
)
from .joiners import (
    join_plain as join_plain,
)
from .local import (
    local_model as local_model,
)
from .nodes import (
    ANSWER_DIRECTLY as ANSWER_DIRECTLY,
)
from .nodes import (
    DRAFT_SKELETON as DRAFT_SKELETON,
)
from .nodes import (
    EXPAND_POINT as EXPAND_POINT,
)
from .nodes import (
    JOIN as JOIN,
)
from .nodes import (
    REVIEW_SKELETON as REVIEW_SKELETON,
)
from .nodes import (
    ROUTE as ROUTE,
)
from .nodes import (
    WRITE_CONCLUSION as WRITE_CONCLUSION,
)
from .nodes import (
    WRITE_INTRODUCTION as WRITE_INTRODUCTION,
)
from .options import (
    SotContext as SotContext,
)
from .options import (
    SotOptions as SotOptions,
)
from .prompts.templates import (
    SotPrompts as SotPrompts,
)
from .retry_failed import (
    aretry_failed_points as aretry_failed_points,
)
from .retry_failed import (
    retry_failed_points as retry_failed_points,
)
from .routing.cascade import (
    CascadeRouter as CascadeRouter,
)
from .routing.learned.learned_router import (
    LearnedRouter as LearnedRouter,
)
from .routing.model_router import (
    ModelRouter as ModelRouter,
)
from .routing.protocol import (
    RouteDecision as RouteDecision,
)
from .routing.protocol import (
    Router as Router,
)
from .state import (
    SotInput as SotInput,
)
from .state import (
    SotOutput as SotOutput,
)
from .state import (
    SotState as SotState,
)
from .streaming import (
    AnswerReader as AnswerReader,
)
from .streaming import (
    AnswerTransformer as AnswerTransformer,
)
from .streaming import (
    astream_answer as astream_answer,
)
from .streaming import (
    stream_answer as stream_answer,
)
from .types import (
    Expansion as Expansion,
)
from .types import (
    Frame as Frame,
)
from .types import (
    FramePart as FramePart,
)
from .types import (
    SkeletonPoint as SkeletonPoint,
)
from .types import (
    Source as Source,
)
from .types import (
    StageUsage as StageUsage,
)
from .types import (
    Timings as Timings,
)
from .types import (
    Usage as Usage,
)
from .writing.expander import (
    Expander as Expander,
)
from .writing.expander import (
    ExpanderInput as ExpanderInput,
)

__version__: str
