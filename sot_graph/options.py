"""`SotOptions`, every limit and switch of a graph, and `SotContext`, those of them that a run may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import Doc, TypedDict

from sot_graph.errors import SotConfigError, brief
from sot_graph.types import FramePartName

__all__ = ["FrameChoice", "OnPointFailure", "SotContext", "SotOptions", "apply_context", "frame_parts"]

_Points: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=1000)]
_Words: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
_Seconds: TypeAlias = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_Delay: TypeAlias = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
_Count: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=100)]
_Positive: TypeAlias = Annotated[int, Field(strict=True, ge=1)]
_Switch: TypeAlias = Annotated[bool, Field(strict=True)]
FrameChoice: TypeAlias = Literal["none", "intro", "intro+conclusion"]
OnPointFailure: TypeAlias = Literal["mark", "skip", "raise"]

_SET_WITH_THE_GRAPH = frozenset({"frame", "on_router_failure", "review_skeleton", "structured_mode"})
"""The options that a run can't change."""


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

    min_points: Annotated[_Points, Doc("A skeleton with fewer points is asked for again.")] = 3
    max_points: Annotated[
        _Points,
        Doc("A skeleton is cut after so many points, with one warning a run in the log."),
    ] = 10
    title_length: Annotated[_Words, Doc("How long a title is to be, as the model is told.")] = "3-5 words"
    point_length: Annotated[_Words, Doc("How long a point's text is to be, as the model is told.")] = "1-2 sentences"
    skeleton_format: Annotated[
        Literal["structured", "list"],
        Doc(
            "How the skeleton is asked for: JSON that is validated and asked for again (structured), or numbered "
            "lines, which take the fewest tokens and work with every model (list). Each is the other's fallback."
        ),
    ] = "structured"
    dispatch: Annotated[
        Literal["send", "pipelined"],
        Doc(
            "When points are begun: all at once, when the skeleton is whole (send), or each as soon as its title is, "
            "with a prompt that knows the titles up to its own (pipelined)."
        ),
    ] = "send"
    dependent: Annotated[
        Literal["direct", "graph"],
        Doc(
            "Points that build on each other: answered directly, where a router sees it (direct), or each written "
            "once those that it needs are, with their text at hand (graph; Plato, arXiv 2402.12280)."
        ),
    ] = "direct"
    structured_mode: Annotated[
        Literal["auto", "json_schema", "tools", "md_json"],
        Doc(
            "How JSON is asked for. auto: json_schema for OpenAI-compatible models, tools for others that take tools, "
            "a fenced block (md_json) for the rest."
        ),
    ] = "auto"
    max_reasks: Annotated[
        _Count,
        Doc("How often an invalid structured skeleton is asked for again, with what was wrong."),
    ] = 1
    max_retries: Annotated[
        _Count,
        Doc(
            "How often a model call is repeated that failed on the way: a server error, a lost connection. The graph "
            "does this in place of the OpenAI client's own retries, so that every call is counted."
        ),
    ] = 2
    rate_limit_patience: Annotated[
        _Delay,
        Doc(
            "Seconds that one call keeps asking a provider that says it is busy (429), at the times that it names "
            "(Retry-After) or at doubling intervals. These attempts are no max_retries. It bounds the waits that "
            "other errors ask for, too."
        ),
    ] = 60.0
    max_concurrency: Annotated[
        _Positive | None,
        Doc("Model calls of this run in flight at once; empty: no limit."),
    ] = None
    router_timeout: Annotated[
        _Seconds | None,
        Doc("Seconds for the router; then the question is answered directly. Empty: no limit."),
    ] = 10.0
    on_router_failure: Annotated[
        Literal["direct", "raise"],
        Doc(
            "What becomes of a run whose router fails, is late, or says nonsense: a direct answer with the reason and "
            "a WARNING (direct), or a RoutingError (raise)."
        ),
    ] = "direct"
    speculative: Annotated[
        Literal[False, True, "both"],
        Doc(
            "Begin the skeleton (true), or the direct answer too (both), while the router decides. What isn't chosen "
            "is cancelled; what it has cost by then is in usage."
        ),
    ] = False
    skeleton_timeout: Annotated[
        _Seconds | None,
        Doc("Seconds for the skeleton, all attempts included; then a SkeletonError. Empty: no limit."),
    ] = 300.0
    point_timeout: Annotated[
        _Seconds | None,
        Doc("Seconds for one point, all attempts included; then it is timed_out. Empty: no limit."),
    ] = 300.0
    deadline: Annotated[
        _Seconds | None,
        Doc(
            "Seconds from the run's start: what is there by then is joined, the rest is timed_out. For that, replies "
            "are streamed, unless stream is false. Empty: no limit."
        ),
    ] = None
    review_skeleton: Annotated[
        _Switch,
        Doc(
            "Whether a run stops at its skeleton until somebody has approved, edited or rejected it (an interrupt of "
            "LangGraph's). Needs a checkpointer."
        ),
    ] = False
    frame: Annotated[
        FrameChoice,
        Doc(
            "What is written around the points: an introduction, from the skeleton alone and beside the points "
            "(intro), and a conclusion, from their texts and after them."
        ),
    ] = "none"
    on_point_failure: Annotated[
        OnPointFailure,
        Doc(
            "What a point that could not be written becomes: a mark in its place (mark), nothing (skip), or an "
            "ExpansionError after all its siblings have finished (raise)."
        ),
    ] = "mark"
    stream: Annotated[
        Literal["auto", True, False],
        Doc(
            "Whether the model's replies are streamed; auto: when somebody listens (astream_answer, run.answer, the "
            "stream modes custom and messages), or with a deadline."
        ),
    ] = "auto"
    stream_max_delay: Annotated[
        _Delay,
        Doc("Seconds that a piece of streamed text may wait to be sent together with the next; the first never waits."),
    ] = 0.03
    max_question_chars: Annotated[
        _Positive,
        Doc("Characters of the question and its history together; more is refused."),
    ] = 200_000

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


if TYPE_CHECKING:

    class SotContext(TypedDict, total=False):
        """What one run may set, by `graph.invoke(..., context={...})`: laid over the graph's own `SotOptions`."""

        min_points: int
        max_points: int
        title_length: str
        point_length: str
        skeleton_format: Literal["structured", "list"]
        dispatch: Literal["send", "pipelined"]
        dependent: Literal["direct", "graph"]
        max_reasks: int
        max_retries: int
        rate_limit_patience: float
        max_concurrency: int | None
        router_timeout: float | None
        speculative: Literal[False, True, "both"]
        skeleton_timeout: float | None
        point_timeout: float | None
        deadline: float | None
        on_point_failure: OnPointFailure
        stream: Literal["auto", True, False]
        stream_max_delay: float
        max_question_chars: int

else:

    def _context_keys() -> dict[str, Any]:
        """The options with their bounds, and with defaults and descriptions, which Studio makes a form of.

        The defaults are those of `SotOptions()`. They are never applied over a graph's settings.
        """
        hints = get_type_hints(SotOptions, include_extras=True)
        keys = {}
        for field in fields(SotOptions):
            if field.name not in _SET_WITH_THE_GRAPH:
                (description,) = (doc for doc in hints[field.name].__metadata__ if isinstance(doc, Doc))
                shown = Field(default=field.default, description=description.documentation)
                keys[field.name] = Annotated[hints[field.name], shown]
        return keys

    SotContext = TypedDict("SotContext", _context_keys(), total=False)
    SotContext.__doc__ = "What one run may set, by `graph.invoke(..., context={...})`: laid over the graph's options."


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
