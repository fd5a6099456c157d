"""Joins, which make one answer of the expansions: three of them, and `PointwiseJoin` to make others that stream.

A new join is a `PointwiseJoin` beside these three, or a function. docs/architecture.md says where its name has to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias, TypeGuard

from sot_graph.citations import Numbering, number_sources
from sot_graph.errors import SotConfigError
from sot_graph.events import FRAME_SEPARATOR
from sot_graph.options import OnPointFailure
from sot_graph.types import Expansion, Frame, FramePart, FramePartName, SkeletonPoint, Source

Join: TypeAlias = Callable[[str, Sequence[SkeletonPoint], Sequence[Expansion]], str]
"""`(question, skeleton, expansions) -> answer`. The expansions are sorted by index; look at their `status`.

Where points rest on documents, or an expander gave sources, the texts cite them by the numbers of the whole answer, and
each of an expansion's `sources` has its `number`.
"""


@dataclass(frozen=True, kw_only=True)
class PointwiseJoin:
    r"""A join that writes one point after the other, and so can be streamed while the points are written.

    Called, it is an ordinary join: `(question, skeleton, expansions) -> answer`.

    Args:
        head: What goes before a point's text; may hold `{index}` and `{title}`.
        separator: What goes between two points.
        missing: In place of the text of a point that could not be written.
        late: In place of the text of a point that was not finished in time.
        cut: After the text of a point that breaks off.
        frame_cut: After the text of an opening, an introduction or a conclusion that breaks off.
        sources: What goes before the list of the sources, which stands at the answer's end.

    Raises:
        SotConfigError: One of them is no string.

    Examples:
        >>> join = PointwiseJoin(head="* {title}: ", separator="\n")
        >>> point = {"index": 1, "title": "Sleep", "text": "Eight hours.", "status": "ok", "error": None}
        >>> join("?", [], [point])
        '* Sleep: Eight hours.'
    """

    head: str
    separator: str = "\n\n"
    missing: str = "*(This point is missing: it could not be written.)*"
    late: str = "*(This point is missing: it was not finished in time.)*"
    cut: str = " … *(This point breaks off here.)*"
    frame_cut: str = " … *(This part breaks off here.)*"
    sources: str = "\n\n**Sources**\n\n"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, str):
                message = f"PointwiseJoin: {name} is {type(value).__name__}; it must be a string."
                raise SotConfigError(message)

    def below(self) -> PointwiseJoin:
        """The same one level deeper: `###` below `##`, and italics below what is no heading."""
        if self.head.startswith("#"):
            return replace(self, head=f"#{self.head}")
        return replace(self, head="*{index}. {title}*\n\n", separator="\n\n")

    def head_of(self, point: SkeletonPoint | Expansion) -> str:
        """What goes before the text of this point."""
        return self.head.replace("{index}", str(point["index"])).replace("{title}", point["title"])

    def tail_of(self, expansion: Expansion) -> str:
        """What goes after, or in place of, the text of a point that isn't `ok`."""
        if expansion["text"]:
            return self.cut
        return self.late if expansion["status"] == "timed_out" else self.missing

    def __call__(self, question: str, skeleton: Sequence[SkeletonPoint], expansions: Sequence[Expansion]) -> str:
        """Join the expansions, in their order.

        Code of the caller's calls it with a result's expansions, whose sources have no numbers yet or the answer's own.
        So does a custom join, whose expansions have the answer's numbers: their list must not count anew.
        """
        if any("number" not in source for expansion in expansions for source in expansion.get("sources") or []):
            expansions = number_sources(expansions, Numbering())
        points = self.join_points(expansions)
        listed = {source["number"]: source for expansion in expansions for source in expansion.get("sources") or []}
        if not listed:
            return points
        # Only a custom join that calls this one gets here with the answer's own numbers, and it isn't told their style.
        as_footnotes = any(f"[^{number}]" in points for number in listed)
        numbering = Numbering(
            "footnotes" if as_footnotes else "brackets", sources=[listed[number] for number in sorted(listed)]
        )
        return points + numbering.listed(self.sources)

    def join_points(self, expansions: Sequence[Expansion]) -> str:
        """The points alone, without the list of the sources."""
        return self.separator.join(
            self.head_of(expansion)
            + expansion["text"]
            + ("" if expansion["status"] == "ok" else self.tail_of(expansion))
            for expansion in expansions
        )


join_markdown = PointwiseJoin(head="**{index}. {title}**\n\n")
"""Bold numbered titles, each with its text below. The default."""

join_plain = PointwiseJoin(head="{index}. {title}: ", separator="\n", sources="\n\nSources:\n")
"""A numbered list, as in the paper."""

join_headings = PointwiseJoin(head="## {title}\n\n", sources="\n\n## Sources\n\n")
"""A Markdown heading for each point."""


def shown_expansions(expansions: Iterable[Expansion], on_point_failure: OnPointFailure) -> list[Expansion]:
    """The points that stand in the answer: `"skip"` leaves out those that have no text at all."""
    return [each for each in expansions if each["status"] == "ok" or on_point_failure != "skip" or each["text"]]


def is_pointwise(join: Join) -> TypeGuard[PointwiseJoin]:
    """Whether points can be joined, and streamed, one by one. Not by a subclass that joins them in another way."""
    if not isinstance(join, PointwiseJoin):
        return False
    own = (PointwiseJoin.__call__, PointwiseJoin.join_points)
    return (type(join).__call__, type(join).join_points) == own


def pointwise_or_default(join: Join) -> PointwiseJoin:
    """What says how marks and sources look: the join, or the default beside one that joins in another way."""
    return join if is_pointwise(join) else join_markdown


class JoinedAnswer(NamedTuple):
    """A whole answer, and what it cites."""

    text: str
    sources: list[Source]
    unsupported: int
    """How many citations name a source that there isn't."""


def join_answer(
    join: Join,
    question: str,
    skeleton: Sequence[SkeletonPoint],
    expansions: Sequence[Expansion],
    on_point_failure: OnPointFailure,
    *,
    frame: Frame | None = None,
    numbering: Numbering | None = None,
) -> JoinedAnswer:
    """Join those points that stand in the answer, with what stands around them and the list of the sources.

    A part of the frame without a text is left out, without a mark.

    Raises:
        SotConfigError: A custom join returned something else than a string.
    """
    numbering = Numbering() if numbering is None else numbering
    frame = frame or {}
    before: tuple[FramePartName, ...] = ("opening", "introduction")
    texts = [frame_text(join, part, numbering) for name in before if (part := frame.get(name))]
    shown = shown_expansions(expansions, on_point_failure)
    if any(each.get("sources") is not None for each in shown):
        shown = number_sources(shown, numbering)
    if is_pointwise(join):
        points, sources_heading = join.join_points(shown), join.sources
    else:  # it lists the sources as it likes
        # Copies: a join may do what it wants with them, and the result stays what it is.
        copies = [SkeletonPoint(**{**point, "depends_on": list(point["depends_on"])}) for point in skeleton]
        points, sources_heading = join(question, copies, [Expansion(**expansion) for expansion in shown]), None
        if not isinstance(points, str):
            message = f"The join returned {type(points).__name__}; it must return the answer as a string."
            raise SotConfigError(message)
    texts.append(points)
    if conclusion := frame.get("conclusion"):
        texts.append(frame_text(join, conclusion, numbering))
    text = FRAME_SEPARATOR.join(filter(None, texts))
    if numbering.sources and sources_heading is not None:
        text += numbering.listed(sources_heading)
    return JoinedAnswer(text, numbering.sources, numbering.unsupported)


def frame_tail(join: Join, part: FramePart) -> str:
    """What stands after a text around the points: a mark if it breaks off."""
    if part["status"] == "ok" or not part["text"]:
        return ""
    return pointwise_or_default(join).frame_cut


def frame_text(join: Join, part: FramePart, numbering: Numbering) -> str:
    """A text around the points as it stands in the answer."""
    return numbering.renumber(part["text"], part.get("sources")) + frame_tail(join, part)
