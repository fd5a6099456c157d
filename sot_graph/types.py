"""Plain values that go in and out of the graph: JSON all through, so that any checkpointer keeps them."""

from typing import Any, Literal, NotRequired, TypeAlias, get_args

from typing_extensions import TypedDict

RouteName: TypeAlias = Literal["skeleton", "direct"]
"""How a question is answered: by a skeleton and its expansions, or by one ordinary call."""

SkeletonFormat: TypeAlias = Literal["structured", "list", "draft"]
"""How a skeleton is asked for: as JSON, as numbered lines, or as numbered lines that may be an answer (`"draft"`)."""

Stage: TypeAlias = Literal["route", "skeleton", "expansion", "frame", "direct"]
"""What a model call was made for."""

ExpansionStatus: TypeAlias = Literal["ok", "failed", "timed_out"]

FinishReason: TypeAlias = Literal["stop", "length"]
"""How an answer ends, in a provider's words: as it should, or with a text that ran into a token limit."""

CitationStyle: TypeAlias = Literal["brackets", "footnotes"]


class SkeletonPoint(TypedDict):
    """One entry of a skeleton."""

    index: int
    """From 1, without gaps. Given by code, never by a model."""
    title: str
    """A few words on one line, without numbering or markup."""
    depends_on: list[int]
    """Indices of the points whose text this one needs."""
    note: NotRequired[str]
    """What the point needs of the conversation, where it is written without that (`point_context="question"`)."""


class ChatTurn(TypedDict):
    """One earlier message of the conversation, as the prompts show it."""

    role: str
    """`"user"`, `"assistant"` or `"system"`."""
    content: Any
    """Text, or a provider's content blocks as they came."""


class SourceDocument(TypedDict):
    """A document that an answer may rest on: plain JSON, in the form of LangChain's."""

    number: int
    """What the prompts call it."""
    page_content: str
    metadata: dict[str, Any]
    id: NotRequired[str]


class Material(TypedDict):
    """The documents of a run."""

    documents: list[SourceDocument]
    """Those that were given, and those that were found for the question."""
    shared: list[int]
    """The numbers of those that every prompt of the run shows: all of them, where they fit."""
    detail: NotRequired[str]
    """Why the retriever failed for the question, if it did."""


class Source(TypedDict):
    """What a text rests on: a document, or what an expander named."""

    title: str
    url: NotRequired[str]
    id: NotRequired[str]
    """What the point's text may cite it by, beside its place in the point's list."""
    place: NotRequired[int]
    """The number by which the point's text cites this source. If it is missing: its position in the list, from 1."""
    page: NotRequired[int | str]
    page_content: NotRequired[str]
    """Of a document: its text, shortened."""
    metadata: NotRequired[dict[str, Any]]
    """Of a document."""
    fingerprint: NotRequired[str]
    """Of a document: tells it apart from others with the same title, or, without one, with the same beginning."""
    number: NotRequired[int]
    """In the whole answer: given by the join. Not there: the answer doesn't cite it."""


class SectionMarks(TypedDict):
    """What is said of a text where there is something to say."""

    truncated: NotRequired[bool]
    """`True` where the model ran into a token limit, so that the text ends too early. Not there otherwise."""
    sources: NotRequired[list[Source]]
    """The documents that it cites, or what its expander gave. `text` cites them by their place here, from 1, or by
    their `place` or `id`."""
    detail: NotRequired[str]
    """What it had to do without, in one line: its retriever failed, or found nothing."""


class WrittenSection(SectionMarks):
    """What all texts of an answer have in common."""

    text: str
    """What the model wrote, cleaned. Of a text that is not `ok`: what there is of it, often nothing."""
    status: ExpansionStatus
    """`"ok"`, `"failed"` or `"timed_out"`."""
    error: str | None
    """Why the text is not `ok`, in one line."""


class Expansion(WrittenSection):
    """One point, written out."""

    index: int
    title: str


FramePartName: TypeAlias = Literal["opening", "introduction", "conclusion"]
FRAME_PART_NAMES: tuple[FramePartName, ...] = get_args(FramePartName)

FrameChoice: TypeAlias = Literal["none", "intro", "intro+conclusion", "opening", "opening+conclusion"]


class FramePart(WrittenSection):
    """An opening, an introduction or a conclusion."""


class Frame(TypedDict, total=False):
    """What stands around the points (`SotOptions.frame`)."""

    opening: FramePart
    introduction: FramePart
    conclusion: FramePart


class StageUsage(TypedDict):
    """What one stage cost."""

    input_tokens: int
    """Tokens of the prompts, cached ones included."""
    output_tokens: int
    cached_tokens: int
    """Those of `input_tokens` that the provider read from its prompt cache."""
    cache_write_tokens: int
    """Those of `input_tokens` that it wrote into its prompt cache, as far as it tells: some take a fee for that."""
    reasoning_tokens: int
    """Those of `output_tokens` that went into thoughts, as far as the provider tells them apart."""
    calls: int
    """Model calls, repeated and failed ones included."""
    cache_hits: int
    """Results taken from the graph's own cache, or the model's: these cost neither calls nor tokens."""
    estimated: NotRequired[bool]
    """`True` if tokens of replies that broke off are estimated (4 characters each): the provider told none."""


class Cost(TypedDict, total=False):
    """What a run cost in dollars. Only stages that called a model are there."""

    route: float
    skeleton: float
    expansion: float
    frame: float
    direct: float
    total: float
    """The sum, without calls of the models in `unpriced`."""
    unpriced: list[str]
    """The models without a known price that were called."""


class Usage(TypedDict):
    """What a run cost, per stage and in total."""

    route: StageUsage
    skeleton: StageUsage
    expansion: StageUsage
    frame: StageUsage
    """Opening or introduction, and conclusion, together."""
    direct: StageUsage
    total: StageUsage
    cost: NotRequired[Cost]
    """Only with the extra `cost` installed."""


class StageTiming(TypedDict, total=False):
    """When a stage ran. In seconds from the run's start."""

    start: float
    first_token: float
    """Only where the model's answer was streamed."""
    end: float


class PointTiming(StageTiming):
    """When a point was written. In seconds from the run's start."""

    index: int
    titled: NotRequired[float]
    """When its title was there, before the skeleton was whole (`dispatch="pipelined"`)."""


class Timings(TypedDict, total=False):
    """Where a run's time went. In seconds from the run's start; a resumed run counts from its own start."""

    route: StageTiming
    skeleton: StageTiming
    points: list[PointTiming]
    """Sorted by index."""
    opening: StageTiming
    introduction: StageTiming
    conclusion: StageTiming
    direct: StageTiming
    join: StageTiming
    total: float
    """When the answer was there."""
