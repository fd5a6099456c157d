"""`SotOptions`, every limit and switch of a graph, and `SotContext`, those of them that a run may change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sot_graph.errors import SotConfigError, brief, kind_of
from sot_graph.types import CitationStyle, FrameChoice, FramePartName

_Points: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=1000)]
_Words: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
_Seconds: TypeAlias = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_Delay: TypeAlias = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
_Count: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=100)]
_Positive: TypeAlias = Annotated[int, Field(strict=True, ge=1)]
_Room: TypeAlias = Annotated[int, Field(strict=True, ge=1000)]
_Depth: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=3)]
_Switch: TypeAlias = Annotated[bool, Field(strict=True)]
OnPointFailure: TypeAlias = Literal["mark", "skip", "raise"]

_SET_WITH_THE_GRAPH = frozenset({"depth", "on_router_failure", "review_skeleton", "structured_mode"})
"""The options that a run can't change."""


_DESCRIPTIONS: Mapping[str, str] = {
    "min_points": "A skeleton with fewer points is asked for again.",
    "max_points": "A skeleton is cut after so many points, with one warning a run.",
    "title_length": "How long a title is to be, as the model is told.",
    "point_length": "How long a point's text is to be, as the model is told.",
    "depth": "Levels of points: below 1, a point that is too long for point_length may be a skeleton of its own.",
    "skeleton_format": (
        "How the skeleton is asked for: validated JSON (structured), or numbered lines (list); each is "
        "the other's fallback."
    ),
    "dispatch": "When points are begun: when the skeleton is whole (send), or each with its own title (pipelined).",
    "dependent": "Points that build on each other: answered directly, or each written after those it needs (graph).",
    "structured_mode": (
        "How JSON is asked for. auto: in the prompt alone where the provider's cache keeps that (prompt); else "
        "json_schema for OpenAI-compatible models, tools for others that take them, else md_json."
    ),
    "prompt_cache": (
        "Whether long prompts are marked for the provider's cache, where it wants that, and a run's calls get one key."
    ),
    "point_context": (
        "What points are written from: the conversation, or the question alone with what the skeleton says that they "
        "need of the conversation."
    ),
    "max_reasks": "How often an invalid structured skeleton is asked for again, with what was wrong.",
    "max_retries": "How often a call that failed on the way is repeated, in place of the client's own retries.",
    "rate_limit_patience": (
        "Seconds that a call waits, in all, for a provider that says it is busy (429, 498, 503, 529). max_retries does "
        "not count these attempts."
    ),
    "max_concurrency": "Model calls of this run in flight at once; empty: no limit.",
    "router_timeout": "Seconds for the router; then the question is answered directly. Empty: no limit.",
    "on_router_failure": (
        "What a router that fails, is late or says nonsense leads to: a direct answer, or a RoutingError."
    ),
    "speculative": (
        "Begin the skeleton (true), or the direct answer too (both), while the router decides. Points then begin when "
        "the skeleton is whole, also with dispatch pipelined."
    ),
    "skeleton_timeout": "Seconds for the skeleton, all attempts included; then a SkeletonError. Empty: no limit.",
    "point_timeout": "Seconds for one point, all attempts included; then it is timed_out. Empty: no limit.",
    "deadline": "Seconds from the run's start until the answer is there; what isn't is timed_out. Empty: no limit.",
    "review_skeleton": "Whether a run stops at its skeleton until somebody has approved it. Needs a checkpointer.",
    "frame": (
        "What is written around the points: nothing; before them an introduction, or an opening that answers in short "
        "and is begun with the skeleton; a conclusion after them."
    ),
    "on_point_failure": (
        "What a point that could not be written becomes: a mark in its place, nothing, or an ExpansionError at the end."
    ),
    "stream": "Whether the model's replies are streamed; auto: when somebody listens, or with a deadline.",
    "stream_max_delay": (
        "Seconds that a piece of text may wait to be sent with the next; the first never waits, and in a long text "
        "pieces of less than 1/500 of it wait up to 1 s."
    ),
    "messages": (
        'What stream_mode="messages" and event streams hear: the answer as one message in reading order, or each model '
        "call by itself (calls)."
    ),
    "max_question_chars": "Characters of the question and its history together; more is refused.",
    "max_reply_chars": "Characters of one reply of the model's; it is closed there, and kept as one that was cut.",
    "max_document_chars": "Characters of documents in one prompt. Of more, each point gets those that concern it.",
    "retrieval_timeout": "Seconds for the retriever; then the text is written from what there is. Empty: no limit.",
    "sources": "Which sources the answer lists: those that it cites, or all that its points were written from.",
    "citation_style": "How the answer cites: [1] and a list at its end, or Markdown's footnotes, [^1].",
}
"""What each option does. Studio shows it in its form. Times are in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SotOptions:
    """Every limit and switch of a graph. Frozen; checked when it is made.

    The page "Options", docs/options.md, says what each of them does.

    Times are in seconds, per invocation; a resumed run starts new ones.

    Raises:
        SotConfigError: A value is out of its bounds, or `min_points` is above `max_points`.

    Examples:
        >>> SotOptions(max_points=6, point_length="3-4 sentences").max_points
        6
    """

    min_points: _Points = 3
    max_points: _Points = 10
    title_length: _Words = "3-5 words"
    point_length: _Words = "1-2 sentences"
    depth: _Depth = 1
    skeleton_format: Literal["structured", "list"] = "structured"
    dispatch: Literal["send", "pipelined"] = "send"
    dependent: Literal["direct", "graph"] = "direct"
    structured_mode: Literal["auto", "json_schema", "tools", "md_json", "prompt"] = "auto"
    prompt_cache: Literal["auto", "off"] = "auto"
    point_context: Literal["conversation", "question"] = "conversation"
    max_reasks: _Count = 1
    max_retries: _Count = 2
    rate_limit_patience: _Delay = 60.0
    max_concurrency: _Positive | None = None
    router_timeout: _Seconds | None = 10.0
    on_router_failure: Literal["direct", "raise"] = "direct"
    speculative: Literal[False, True, "both"] = False
    skeleton_timeout: _Seconds | None = 300.0
    point_timeout: _Seconds | None = 300.0
    deadline: _Seconds | None = None
    review_skeleton: _Switch = False
    frame: FrameChoice = "none"
    on_point_failure: OnPointFailure = "mark"
    stream: Literal["auto", True, False] = "auto"
    stream_max_delay: _Delay = 0.03
    messages: Literal["answer", "calls"] = "answer"
    max_question_chars: _Positive = 200_000
    max_reply_chars: _Positive = 200_000
    max_document_chars: _Room = 40_000
    retrieval_timeout: _Seconds | None = 10.0
    sources: Literal["cited", "all"] = "cited"
    citation_style: CitationStyle = "brackets"

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
        """What one run may set, by `graph.invoke(..., context={...})`: the options with a "yes" in docs/options.md."""

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
        frame: FrameChoice
        on_point_failure: OnPointFailure
        prompt_cache: Literal["auto", "off"]
        point_context: Literal["conversation", "question"]
        stream: Literal["auto", True, False]
        stream_max_delay: float
        messages: Literal["answer", "calls"]
        max_question_chars: int
        max_reply_chars: int
        max_document_chars: int
        retrieval_timeout: float | None
        sources: Literal["cited", "all"]
        citation_style: CitationStyle

else:

    def _context_keys() -> dict[str, Any]:
        """The options with their bounds, and with defaults and descriptions, which Studio makes a form of.

        The defaults are those of `SotOptions()`. They are never applied over a graph's settings.
        """
        hints = get_type_hints(SotOptions, include_extras=True)
        return {
            field.name: Annotated[
                hints[field.name], Field(default=field.default, description=_DESCRIPTIONS[field.name])
            ]
            for field in fields(SotOptions)
            if field.name not in _SET_WITH_THE_GRAPH
        }

    SotContext = TypedDict("SotContext", _context_keys(), total=False)
    SotContext.__doc__ = "What one run may set, by `graph.invoke(..., context={...})`: laid over the graph's options."


FRAME_PARTS: Mapping[FrameChoice, tuple[FramePartName, ...]] = {
    "none": (),
    "intro": ("introduction",),
    "intro+conclusion": ("introduction", "conclusion"),
    "opening": ("opening",),
    "opening+conclusion": ("opening", "conclusion"),
}
"""The parts that are written around the points."""


@cache
def _adapters() -> Mapping[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(SotOptions, include_extras=True).items()}


def with_changes(options: SotOptions, changes: Mapping[str, Any]) -> SotOptions:
    """The options with some of them changed. Fewer points than `min_points` lower that, too.

    Raises:
        SotConfigError: A value out of its bounds.
    """
    lower: dict[str, Any] = {}
    most = changes.get("max_points")
    if isinstance(most, int) and "min_points" not in changes and 1 <= most < options.min_points:
        lower["min_points"] = most  # who asks for two points wants two, not an error about a default
    return replace(options, **changes, **lower) if changes else options


def context_changes(context: object, *, embedded: bool, repeated: Collection[str] = ()) -> dict[str, Any]:
    """What a run's context sets.

    Args:
        context: What LangGraph hands over: a dict, an object with attributes, or `None`.
        embedded: Whether the graph runs inside a parent. Only what the parent's context has as `sot` is meant for it.
        repeated: Keys that are no mistake at the root: some servers repeat a run's `configurable` as its context.

    Raises:
        SotConfigError: An unknown key.
    """
    known = SotContext.__annotations__
    own = context.get("sot") if isinstance(context, Mapping) else getattr(context, "sot", None)
    if own is None and not embedded:
        own = {key: context[key] for key in context if key != "sot"} if isinstance(context, Mapping) else context
    if own is None:
        return {}
    if isinstance(own, (str, int, float, list, tuple, set)):
        message = f"The run's context, in a parent its `sot`, is {kind_of(own)}; pass a dict or an object of options."
        raise SotConfigError(message)
    if not isinstance(own, Mapping):
        return {name: getattr(own, name) for name in known if hasattr(own, name)}
    changes = {str(key): value for key, value in own.items()}
    if unknown := sorted(changes.keys() - known.keys() - set(repeated)):
        message = (
            f"context has the unknown key {unknown[0]!r}; a run may set: {', '.join(sorted(known))}. "
            "Everything else is set by SotOptions when the graph is made."
        )
        raise SotConfigError(message)
    return {name: value for name, value in changes.items() if name in known}
