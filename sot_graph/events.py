"""The custom events that a run emits (`stream_mode="custom"`): typed, JSON all through.

A new one gets a class here and a place in `SotEvent`. `RunContext.emit` sends it. docs/architecture.md ("Where do I
change ...?") says what else reads events.
"""

from typing import Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from sot_graph.types import (
    CitationStyle,
    ExpansionStatus,
    FramePartName,
    RouteName,
    SectionMarks,
    SkeletonPoint,
    Source,
)

BREAKS_OFF = " … *(The answer breaks off here.)*"
"""What stands behind an answer that nobody could finish."""

FRAME_SEPARATOR = "\n\n"
"""What stands in the answer between the points and what is written before and after them."""


class _Event(TypedDict):
    id: NotRequired[str]
    """The same in all events of a run about one point, one part of its frame, or the answer: front ends keep what has
    one."""


class RouteEvent(_Event):
    """How the question is answered."""

    type: Literal["sot.route"]
    route: RouteName
    reason: str
    confidence: float | None
    """How sure the router is, from 0 to 1; `None`: it can't say."""


class _Citing(_Event):
    cites: NotRequired[bool]
    """True if points may cite. Documents are in a point's start event, an expander's sources in its end event."""
    frame_cites: NotRequired[bool]
    """True if the opening, the introduction and the conclusion may cite, too."""
    citation_style: NotRequired[CitationStyle]
    lists_all: NotRequired[bool]
    """Whether sources that nothing cites have numbers, too."""


class _Layout(_Citing):
    separator: str
    """What stands between two points in the answer."""
    eager: bool
    """Whether a head may be shown before its point has a text. Not with `on_point_failure="skip"`."""
    introduction: bool
    """Whether an introduction stands before the points."""
    opening: NotRequired[bool]
    """`True` where an opening stands before the points; text of it may have come already."""


class SkeletonDeltaEvent(_Layout):
    """The next point of a skeleton that is still being written (`dispatch="pipelined"`). It stays."""

    type: Literal["sot.skeleton.delta"]
    point: SkeletonPoint
    head: str | None
    """What stands before the point's text in the answer, as in `SkeletonEvent`."""


class SkeletonEvent(_Layout):
    """The skeleton is settled."""

    type: Literal["sot.skeleton"]
    points: list[SkeletonPoint]
    heads: list[str] | None
    """What stands before each point's text in the answer; `None`: the join needs all points, and can't be streamed."""
    grown: bool
    """Whether its points were told one by one before (`dispatch="pipelined"`)."""


class PointStartEvent(_Event):
    """A model call for a point's text begins: its first, one after a failure, or one that goes on after a break."""

    type: Literal["sot.point.start"]
    index: int
    title: str
    attempt: int
    """1, 2, ..."""
    sources: NotRequired[list[Source]]
    """What the text may cite, where that is known before it is written."""


class PointDeltaEvent(_Event):
    """The next piece of a point's text. What was sent is never taken back."""

    type: Literal["sot.point.delta"]
    index: int
    text: str


class _TextEnd(_Event, SectionMarks):
    status: ExpansionStatus
    tail: str
    """What stands after the text in the answer: the mark of one that is missing or breaks off, mostly nothing."""


class PointEndEvent(_TextEnd):
    """A point is done."""

    type: Literal["sot.point.end"]
    index: int
    shown: bool
    """Whether the point stands in the answer (`on_point_failure="skip"` leaves out those without a text)."""


class PointToolEvent(_Event):
    """A point's expander calls a tool, and the tool has answered or failed."""

    type: Literal["sot.point.tool"]
    index: int
    call: str
    """The same in the call's events."""
    name: str
    input: str
    """What the tool was given."""
    state: Literal["start", "end", "error"]


class FrameStartEvent(_Citing):
    """A try at the opening, the introduction or the conclusion begins. That of an opening says how the answer cites."""

    type: Literal["sot.frame.start"]
    part: FramePartName
    attempt: int
    """1, 2, ..."""
    sources: NotRequired[list[Source]]
    """As in `PointStartEvent`."""


class FrameDeltaEvent(_Event):
    """The next piece of the opening, the introduction or the conclusion. What was sent is never taken back."""

    type: Literal["sot.frame.delta"]
    part: FramePartName
    text: str


class FrameEndEvent(_TextEnd):
    """The opening, the introduction or the conclusion is done. Without a text it is left out of the answer."""

    type: Literal["sot.frame.end"]
    part: FramePartName


class AnswerDeltaEvent(_Event):
    """The next piece of an answer that is written directly, without a skeleton."""

    type: Literal["sot.answer.delta"]
    text: str


class AnswerEvent(_Event):
    """The whole answer, once, at the end."""

    type: Literal["sot.answer"]
    answer: str


SotEvent: TypeAlias = (
    RouteEvent
    | SkeletonDeltaEvent
    | SkeletonEvent
    | PointStartEvent
    | PointToolEvent
    | PointDeltaEvent
    | PointEndEvent
    | FrameStartEvent
    | FrameDeltaEvent
    | FrameEndEvent
    | AnswerDeltaEvent
    | AnswerEvent
)
"""Any event; `event["type"]` tells which."""
