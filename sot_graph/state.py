"""The graph's state: what goes in, what comes out, and what the nodes keep for each other.

Everything is plain JSON but for `messages`, which are LangChain's own: any checkpointer keeps it, in strict
mode too. Input-only keys are `EphemeralValue` channels, so that a second turn on the same thread, or a parent
graph with keys of the same names, never hands on an old value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Annotated, Any, NotRequired

from langchain_core.documents import Document
from langchain_core.messages import AnyMessage
from langgraph.channels import EphemeralValue
from langgraph.graph.message import add_messages
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from sot_graph.types import (
    FRAME_PART_NAMES,
    ChatTurn,
    Expansion,
    FinishReason,
    Frame,
    FrameChoice,
    FramePartName,
    Material,
    RouteName,
    SectionMarks,
    SkeletonPoint,
    Source,
    Timings,
    Usage,
)
from sot_graph.usage import add_usage

SCHEMA_VERSION = 5
"""Of the state below. A checkpoint of another version is refused with an error that names both."""


def merge_expansions(left: list[Expansion] | None, right: list[Expansion] | None) -> list[Expansion]:
    """Reducer: one expansion a point, sorted by index; an `ok` one is never replaced by one that is not."""
    if not right:
        return left or []
    if not left:
        left = []
    if len(right) == 1 and (not left or left[-1]["index"] < right[0]["index"]):
        return [*left, right[0]]  # LangGraph applies writes in Send order: nearly always this
    merged = {expansion["index"]: expansion for expansion in left}
    for expansion in right:
        known = merged.get(expansion["index"])
        if known is None or expansion["status"] == "ok" or known["status"] != "ok":
            merged[expansion["index"]] = expansion
    return [merged[index] for index in sorted(merged)]


def current_expansions(state: Mapping[str, Any]) -> list[Expansion]:
    """The expansions of the skeleton's points. If somebody has edited the skeleton, the state holds others, too."""
    titles = {point["index"]: point["title"] for point in state["skeleton"]}
    return [one for one in state["expansions"] if titles.get(one["index"]) == one["title"]]


def marks_of(section: Mapping[str, Any]) -> SectionMarks:
    """`truncated`, `sources` and `detail` of a text, or of its last event, where there is something to say."""
    marks: SectionMarks = {}
    if section.get("truncated"):
        marks["truncated"] = True
    if section.get("sources") is not None:
        marks["sources"] = section["sources"]
    if section.get("detail"):
        marks["detail"] = section["detail"]
    return marks


def merge_frame(left: Frame | None, right: Frame | None) -> Frame:
    """Reducer: an `ok` part is never replaced by one that is not."""
    merged: Frame = {**left} if left else {}
    for name in FRAME_PART_NAMES:
        part, known = (right or {}).get(name), merged.get(name)
        if part is not None and (known is None or part["status"] == "ok" or known["status"] != "ok"):
            merged[name] = part
    return merged


def merge_timings(left: Timings | None, right: Timings | None) -> Timings:
    """Reducer: a stage's later timing replaces its earlier one; points are kept sorted by index."""
    if not right:
        return left or {}
    if not left:
        return right
    result: Timings = {**left, **right}
    if "points" in left and "points" in right:
        points = {point["index"]: point for point in (*left["points"], *right["points"])}
        result["points"] = [points[index] for index in sorted(points)]
    return result


def plain_value(value: Any, *, keeps_others: bool = False) -> Any:
    """A value as JSON: objects of Pydantic's and dataclasses as mappings, and what JSON doesn't know (times) as a text.

    With `keeps_others`, the value and the items of its lists may be what JSON doesn't know: these stay as they are.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, int) and not -(2**63) <= value < 2**64:  # which no checkpointer keeps
        value = str(Decimal(value))  # `str` refuses a very long one
    if isinstance(value, Document):
        about: dict[str, Any] = {"page_content": value.page_content, "metadata": value.metadata}
        return plain_value(about if value.id is None else {**about, "id": value.id})
    if isinstance(value, BaseModel):
        value = dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        value = fields_of(value)
    if isinstance(value, Mapping):
        return {plain_value(str(key)): plain_value(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(each, keeps_others=keeps_others) for each in value]
    if value is None or isinstance(value, bool) or (keeps_others and not isinstance(value, str)):
        return value
    if isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return int(value) if isinstance(value, int) else float(value)
    return (
        (str.__str__(value) if isinstance(value, str) else str(value))
        .replace("\x00", "")
        .encode("utf-8", "replace")
        .decode("utf-8")
    )


def fields_of(given: Any) -> Mapping[str, Any]:
    """Of a mapping, or of an object of Pydantic's or a dataclass, such as a model with structured output gives."""
    if isinstance(given, Mapping):
        return given
    if is_dataclass(given) and not isinstance(given, type):  # with slots it has no `__dict__`
        return {each.name: getattr(given, each.name, None) for each in fields(given)}
    return vars(given) if hasattr(given, "__dict__") else {}


class PlainChannel(EphemeralValue[Any]):
    """What a caller gave, for the one step that reads it, as plain JSON: no checkpoint keeps a class.

    A NUL or half a surrogate pair would fail the checkpoint of the input, before any node could have cleaned it.
    """

    def update(self, values: Sequence[Any]) -> bool:
        """Take the value. What is neither a text nor a list is refused later as it is, by the node that reads it."""
        plain = (str, list, tuple)
        return super().update(
            [plain_value(value, keeps_others=True) if isinstance(value, plain) else value for value in values]
        )


class SotInput(TypedDict, total=False):
    """What a caller gives: a question, or messages whose last human one is the question."""

    # The descriptions reach the input form of LangGraph Studio; docstrings don't.
    question: Annotated[
        str, Field(description="What is to be answered. Without it: the last human message."), PlainChannel(str)
    ]
    messages: Annotated[list[AnyMessage], Field(description="The conversation, if there is one."), add_messages]
    documents: Annotated[
        list[Any],
        Field(
            description="What the answer is to rest on, and cites as [1]: texts, or mappings with page_content and "
            "metadata, as LangChain's documents are."
        ),
        PlainChannel(list),
    ]
    given_skeleton: Annotated[
        list[Any],
        Field(description="Titles, or points, to use as they are: no skeleton is drafted."),
        EphemeralValue(list),
    ]
    given_expansions: Annotated[
        list[Expansion],
        Field(description="Of an earlier run: those that are ok are kept, the others are written."),
        EphemeralValue(list),
    ]
    given_frame: Annotated[
        Frame,
        Field(description="The frame of an earlier run: what is ok is kept, but a conclusion only if all points are."),
        EphemeralValue(dict),
    ]


class SotOutput(TypedDict, total=False):
    """What a caller gets."""

    messages: Annotated[list[AnyMessage], add_messages]
    """The history and one `AIMessage` with the answer and its usage."""
    skeleton: list[SkeletonPoint]
    expansions: Annotated[list[Expansion], merge_expansions]
    """Sorted by index."""
    frame: Annotated[Frame, merge_frame]
    """Opening or introduction, and conclusion, as far as `SotOptions.frame` asks for them."""
    answer: str
    """Markdown."""
    sources: list[Source]
    """Those that the answer cites, each with its `number` there, in their order (`SotOptions.sources`)."""
    unsupported_citations: int
    """How many citations name a document or source that there isn't: the answer has `[?]` in their places."""
    finish_reason: FinishReason | None
    """`"length"` where a text of the answer ran into a token limit, else `"stop"`; `None`: there is no answer yet."""
    route: RouteName
    """`"skeleton"` or `"direct"`."""
    route_reason: str
    usage: Annotated[Usage, add_usage]
    timings: Annotated[Timings, merge_timings]


class RunFacts(TypedDict):
    """What is settled as a run begins. One channel: each checkpoint stores each channel's name and version, too."""

    schema_version: int
    run_key: str
    """Finds this run's clock and limits in the process that runs it (`Invocation` in `run.py`)."""
    question_text: str
    """The question, cleaned, wherever it came from."""
    may_depend: bool
    """Whether points may say which others they need."""
    wanted_frame: FrameChoice
    """What is written around the points: a run that is resumed keeps to it, whatever its new context says."""
    sends_all: bool
    """Whether each `Send` carries all that its text is written from, since the state can't be read there."""
    answer_id: str
    """The answer message's id, made for the run: a retry replaces the message."""
    question_id: str
    """The id of the human message that goes before it; empty if the history holds the question already."""


class DraftFacts(TypedDict):
    """How the skeleton came about."""

    skeleton_text: str
    """The skeleton to the letter as the model wrote it: a shared prompt prefix for the expansions."""
    skeleton_format: str
    """The format that `skeleton_text` was asked for in."""
    is_written: bool
    """Whether the points were written while the skeleton was (`dispatch="pipelined"`): there is nothing to fan out."""


class SotState(SotInput, SotOutput, total=False):
    """All channels: input, output, and others that the nodes keep for themselves."""

    run_facts: RunFacts
    draft_facts: DraftFacts
    material: Material | None
    """The documents of this run, kept once for all of its prompts; `None`: the answer rests on none."""
    review_comment: Annotated[str, EphemeralValue(str)]
    """Why a reviewer rejected the skeleton, for the one step that drafts again: a new question never finds it."""


class ExpandPointInput(TypedDict):
    """What a `Send` carries to `expand_point`. Checkpoints keep one a section: no more than needed."""

    run_key: str
    schema_version: int
    run_facts: NotRequired[RunFacts]
    """This and what follows up to `material` is carried only where the state, which has it, can't be read."""
    draft_facts: NotRequired[DraftFacts]
    history: NotRequired[list[ChatTurn]]
    skeleton: NotRequired[list[SkeletonPoint]]
    material: NotRequired[Material | None]
    point: NotRequired[SkeletonPoint]
    needed: NotRequired[list[Expansion]]
    """Those of the points that it needs, whatever became of them."""
    part: NotRequired[FramePartName]
    """In a point's place: what is to be written around the points."""
    expansions: NotRequired[list[Expansion]]
    """For a conclusion: the points' texts."""
