"""`SotOptions`, every limit and switch of a graph, and `SotContext`, those of them that a run may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sot_graph.errors import SotConfigError, brief
from sot_graph.types import FramePartName

__all__ = ["FrameChoice", "SotContext", "SotOptions", "apply_context", "frame_parts"]

# One type an option, shared by the two classes, so that their bounds can't drift apart.
_Points: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=1000)]
_Words: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
_Seconds: TypeAlias = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_Count: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=100)]
_Positive: TypeAlias = Annotated[int, Field(strict=True, ge=1)]
_SkeletonFormat: TypeAlias = Literal["structured", "list"]
_Speculation: TypeAlias = Literal[False, True, "both"]
_Stream: TypeAlias = Literal["auto", True, False]
_Delay: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
_Dispatch: TypeAlias = Literal["send", "pipelined"]
_Dependent: TypeAlias = Literal["direct", "graph"]
FrameChoice: TypeAlias = Literal["none", "intro", "intro+conclusion"]
_OnPointFailure: TypeAlias = Literal["mark", "skip", "raise"]


class SotContext(TypedDict, total=False):
    """What one run may set, by `graph.invoke(..., context={...})`: laid over the graph's own `SotOptions`.

    The defaults that a form shows are those of `SotOptions()`; they are never applied over a graph's settings.
    """

    min_points: Annotated[_Points, Field(default=3, description="A skeleton with fewer points is asked for again.")]
    max_points: Annotated[_Points, Field(default=10, description="A skeleton is cut after so many points.")]
    title_length: Annotated[
        _Words, Field(default="3-5 words", description="How long a title is to be, as the model is told.")
    ]
    point_length: Annotated[
        _Words, Field(default="1-2 sentences", description="How long a point is to be, as the model is told.")
    ]
    skeleton_format: Annotated[
        _SkeletonFormat,
        Field(
            default="structured",
            description="How the skeleton is asked for: validated JSON, or numbered lines.",
        ),
    ]
    dispatch: Annotated[
        _Dispatch,
        Field(
            default="send",
            description="When points are begun: when the skeleton is whole (send), or each with its title (pipelined).",
        ),
    ]
    dependent: Annotated[
        _Dependent,
        Field(
            default="direct",
            description="Points that build on each other: answered directly, or written in the order of their needs.",
        ),
    ]
    max_reasks: Annotated[
        _Count, Field(default=1, description="How often an invalid structured skeleton is asked for again.")
    ]
    max_retries: Annotated[
        _Count,
        Field(default=2, description="How often a model call that failed on the way to the model is repeated."),
    ]
    rate_limit_patience: Annotated[
        _Delay,
        Field(
            default=60.0,
            description="Seconds that a call keeps asking a provider that says it is busy (429).",
        ),
    ]
    max_concurrency: Annotated[
        _Positive | None,
        Field(default=None, description="Model calls of this run in flight at once; empty: no limit."),
    ]
    router_timeout: Annotated[
        _Seconds | None,
        Field(default=10.0, description="Seconds for the router; then the question is answered directly."),
    ]
    speculative: Annotated[
        _Speculation,
        Field(
            default=False,
            description="Begin the skeleton (true), or the direct answer too (both), while the router decides.",
        ),
    ]
    skeleton_timeout: Annotated[
        _Seconds | None,
        Field(
            default=300.0,
            description="Seconds for the skeleton, all attempts included; empty: no limit.",
        ),
    ]
    point_timeout: Annotated[
        _Seconds | None,
        Field(default=300.0, description="Seconds for one point, all attempts included; empty: no limit."),
    ]
    deadline: Annotated[
        _Seconds | None,
        Field(
            default=None,
            description="Seconds from the run's start in which the answer must be there; empty: no limit.",
        ),
    ]
    on_point_failure: Annotated[
        _OnPointFailure,
        Field(
            default="mark",
            description="What a point that could not be written becomes: a mark in the answer, nothing, or an error.",
        ),
    ]
    stream: Annotated[
        _Stream,
        Field(
            default="auto",
            description="Whether the model's replies are streamed; auto: when somebody listens, or with a deadline.",
        ),
    ]
    stream_max_delay: Annotated[
        _Delay,
        Field(default=0.03, description="Seconds that a piece of text may wait to be sent with the next."),
    ]
    max_question_chars: Annotated[
        _Positive,
        Field(default=200_000, description="Characters of question and history together; more is refused."),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class SotOptions:
    """Every limit and switch of a graph. Frozen; checked when it is made.

    Times are in seconds, per invocation; a resumed run starts new ones.

    Raises:
        SotConfigError: A value is out of its bounds, or `min_points` is above `max_points`.

    Example:
        >>> SotOptions(max_points=6, point_length="3-4 sentences").max_points
        6
    """

    min_points: _Points = 3
    """A skeleton with fewer points is asked for again."""
    max_points: _Points = 10
    """A skeleton is cut after so many points, with one warning a run in the log."""
    title_length: _Words = "3-5 words"
    """How long a title is to be, as the model is told."""
    point_length: _Words = "1-2 sentences"
    """How long a point's text is to be, as the model is told."""
    skeleton_format: _SkeletonFormat = "structured"
    """`"structured"`: JSON, validated by instructor and asked for again. `"list"`: numbered lines, parsed; the
    fewest tokens, works with every model. Each is the other's fallback."""
    dispatch: _Dispatch = "send"
    """When points are begun. `"send"`: all at once, when the skeleton is whole. `"pipelined"`: each as soon as its
    title is whole, while the model still writes the others; its prompt knows the titles up to its own."""
    dependent: _Dependent = "direct"
    """What becomes of a question whose points build on each other. `"direct"`: one ordinary answer, where a router sees
    it. `"graph"`: the skeleton says which points need which (Plato, arXiv 2402.12280), and each is written once those
    are, with their text at hand."""
    structured_mode: Literal["auto", "json_schema", "tools", "md_json"] = "auto"
    """How JSON is asked for. `"auto"`: `json_schema` for OpenAI-compatible models, `tools` for others that take
    tools, `md_json` (a fenced block) for the rest."""
    max_reasks: _Count = 1
    """How often an invalid structured skeleton is asked for again, with what was wrong."""
    max_retries: _Count = 2
    """How often a model call is repeated that failed on the way: rate limit, server error, lost connection. The
    graph does this in place of the OpenAI client's own retries, so that every call is counted."""
    rate_limit_patience: _Delay = 60.0
    """Seconds that one call keeps asking a provider that says it is busy (HTTP 429), at the times that the provider
    names (`Retry-After`) or at doubling intervals. These attempts don't count as `max_retries`. It bounds the waits
    that other errors ask for, too."""
    max_concurrency: _Positive | None = None
    """Model calls of one run in flight at once. `None`: no limit."""
    router_timeout: _Seconds | None = 10.0
    """Seconds for the router; then the question is answered directly. `None`: no limit."""
    on_router_failure: Literal["direct", "raise"] = "direct"
    """What becomes of a run whose router fails, is late, or says nonsense: a direct answer with the reason and a
    WARNING, or a `RoutingError`."""
    speculative: _Speculation = False
    """Draft the skeleton while the router decides, so that routing costs no time; `"both"`: begin the direct answer,
    too. What isn't chosen is cancelled; what it has cost by then is in `usage`."""
    skeleton_timeout: _Seconds | None = 300.0
    """Seconds for the skeleton, all attempts included; then a `SkeletonError`. `None`: no limit."""
    point_timeout: _Seconds | None = 300.0
    """Seconds for one point, all attempts included; then it is `timed_out`. `None`: no limit."""
    deadline: _Seconds | None = None
    """Seconds from the run's start: what is there by then is joined, the rest is `timed_out`. For that, replies are
    streamed, unless `stream` is `False`."""
    review_skeleton: bool = False
    """Whether a run stops at its skeleton until somebody has approved, edited or rejected it (an interrupt of
    LangGraph's). Needs a checkpointer. Set when the graph is made."""
    frame: FrameChoice = "none"
    """What is written around the points. `"intro"`: an introduction, from the skeleton alone and beside the points;
    `"intro+conclusion"`: a conclusion too, from the points' texts and after them. Set when the graph is made."""
    on_point_failure: _OnPointFailure = "mark"
    """What becomes of a point that could not be written. `"mark"`: the answer says so in its place; `"skip"`: it
    is left out; `"raise"`: `ExpansionError`, after all its siblings have finished."""
    stream: _Stream = "auto"
    """Whether the model's replies are streamed. `"auto"`: when somebody listens (`astream_answer`, `run.answer`,
    `stream_mode="custom"` or `"messages"`), or where there is a `deadline`; `True`, `False`: always, never."""
    stream_max_delay: _Delay = 0.03
    """Seconds that a piece of streamed text may wait to be sent together with the next; the first never waits."""
    max_question_chars: _Positive = 200_000
    """Characters of the question and its history together. More is refused with a `SotConfigError`."""

    def __post_init__(self) -> None:
        for name, adapter in _adapters().items():
            value = getattr(self, name)
            try:
                adapter.validate_python(value)
            except ValidationError as error:
                message = f"SotOptions.{name}={brief(value)}: {error.errors()[0]['msg']}."
                raise SotConfigError(message) from error
        if self.min_points > self.max_points:
            message = (
                f"SotOptions: min_points ({self.min_points}) is above max_points ({self.max_points}). "
                "Set both: SotOptions(min_points=..., max_points=...)."
            )
            raise SotConfigError(message)


_FRAME_PARTS: Mapping[FrameChoice, tuple[FramePartName, ...]] = {
    "none": (),
    "intro": ("introduction",),
    "intro+conclusion": ("introduction", "conclusion"),
}


def frame_parts(frame: FrameChoice) -> tuple[FramePartName, ...]:
    """The parts that are written around the points."""
    return _FRAME_PARTS[frame]


@cache
def _adapters() -> Mapping[str, TypeAdapter[Any]]:
    hints = get_type_hints(SotOptions, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in fields(SotOptions)}


def apply_context(options: SotOptions, context: object, *, embedded: bool) -> SotOptions:
    """Lay a run's context over the graph's options.

    Args:
        options: The graph's own.
        context: What LangGraph hands over: a dict, an object with attributes, or `None`.
        embedded: Whether the graph runs inside a parent, whose context comes through as it is: what it holds
            for others is ignored then. At the root an unknown key is a mistake.

    Raises:
        SotConfigError: An unknown key at the root, or a value out of its bounds.
    """
    if context is None:
        return options
    known = SotContext.__annotations__
    if isinstance(context, Mapping):
        given = {str(key): value for key, value in context.items()}
        if not embedded and (unknown := sorted(given.keys() - known.keys())):
            message = (
                f"context has the unknown key {unknown[0]!r}; a run may set: {', '.join(sorted(known))}. "
                "Everything else is set by SotOptions when the graph is made."
            )
            raise SotConfigError(message)
    else:
        given = {name: getattr(context, name) for name in known if hasattr(context, name)}
    changes = {name: value for name, value in given.items() if name in known}
    most = changes.get("max_points")
    if isinstance(most, int) and "min_points" not in changes and 1 <= most < options.min_points:
        changes["min_points"] = most  # who asks for two points wants two, not an error about a default
    return replace(options, **changes) if changes else options
