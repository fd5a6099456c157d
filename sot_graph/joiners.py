"""Joins, which make one answer of the expansions: three of them, and `PointwiseJoin` to make others that stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sot_graph.citations import list_sources, number_sources
from sot_graph.errors import SotConfigError
from sot_graph.events import FRAME_SEPARATOR
from sot_graph.options import OnPointFailure
from sot_graph.types import Expansion, Frame, FramePart, SkeletonPoint, Source

Join: TypeAlias = Callable[[str, Sequence[SkeletonPoint], Sequence[Expansion]], str]
"""`(question, skeleton, expansions) -> answer`. The expansions are sorted by index; look at their `status`.

Where an expander gave sources, the texts cite them by the numbers of the whole answer, and each of an expansion's
`sources` has its `number`.
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
        sources: What goes between the last point and the list of the sources that an expander gave.

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

    def head_of(self, point: SkeletonPoint | Expansion) -> str:
        """What goes before the text of this point."""
        return self.head.replace("{index}", str(point["index"])).replace("{title}", point["title"])

    def tail_of(self, expansion: Expansion) -> str:
        """What goes after, or in place of, the text of a point that isn't `ok`."""
        if expansion["text"]:
            return self.cut
        return self.late if expansion["status"] == "timed_out" else self.missing

    def __call__(
        self,
        question: str,
        skeleton: Sequence[SkeletonPoint],
        expansions: Sequence[Expansion],
    ) -> str:
        """Join the expansions, in their order."""
        if any("number" not in source for expansion in expansions for source in expansion.get("sources") or []):
            expansions, _ = number_sources(expansions)
        points = self.separator.join(
            self.head_of(expansion)
            + expansion["text"]
            + ("" if expansion["status"] == "ok" else self.tail_of(expansion))
            for expansion in expansions
        )
        listed = {source["number"]: source for expansion in expansions for source in expansion.get("sources") or []}
        return points + self.sources + list_sources(listed[number] for number in sorted(listed)) if listed else points


join_markdown = PointwiseJoin(head="**{index}. {title}**\n\n")
"""Bold numbered titles, each with its text below. The default."""

join_plain = PointwiseJoin(head="{index}. {title}: ", separator="\n", sources="\n\nSources:\n")
"""A numbered list, as in the paper."""

join_headings = PointwiseJoin(head="## {title}\n\n", sources="\n\n## Sources\n\n")
"""A Markdown heading for each point."""


def shown_expansions(expansions: Iterable[Expansion], on_point_failure: OnPointFailure) -> list[Expansion]:
    """The points that stand in the answer: `"skip"` leaves out those that have no text at all."""
    return [each for each in expansions if each["status"] == "ok" or on_point_failure != "skip" or each["text"]]


def heads_and_separator(join: Join, points: Sequence[SkeletonPoint]) -> tuple[list[str] | None, str]:
    """What a stream of the answer needs to know of its join; `(None, "")` for one that needs all points."""
    if not isinstance(join, PointwiseJoin):
        return None, ""
    return [join.head_of(point) for point in points], join.separator


def join_answer(
    join: Join,
    question: str,
    skeleton: Sequence[SkeletonPoint],
    expansions: Sequence[Expansion],
    on_point_failure: OnPointFailure,
) -> tuple[str, list[Source]]:
    """Join those points that stand in the answer, their sources renumbered into one list, which comes beside it.

    Raises:
        SotConfigError: A custom join returned something else than a string.
    """
    shown = shown_expansions(expansions, on_point_failure)
    sources: list[Source] = []
    if any(expansion.get("sources") for expansion in shown):
        shown, sources = number_sources(shown)
    # Copies: a join may do what it wants with them, and the result stays what it is.
    points = [SkeletonPoint(**{**point, "depends_on": list(point["depends_on"])}) for point in skeleton]
    answer = join(question, points, [Expansion(**expansion) for expansion in shown])
    if not isinstance(answer, str):
        message = f"The join returned {type(answer).__name__}; it must return the answer as a string."
        raise SotConfigError(message)
    return answer, sources


def frame_tail(join: Join, part: FramePart) -> str:
    """What stands after a text around the points: a mark if it breaks off."""
    if part["status"] == "ok" or not part["text"]:
        return ""
    return join.frame_cut if isinstance(join, PointwiseJoin) else join_markdown.frame_cut


def frame_answer(join: Join, points: str, frame: Frame) -> str:
    """The joined points and what stands around them. A part without a text is left out, without a mark."""
    opening, introduction, conclusion = (
        part["text"] + frame_tail(join, part) if part else ""
        for part in (frame.get("opening"), frame.get("introduction"), frame.get("conclusion"))
    )
    return FRAME_SEPARATOR.join(text for text in (opening, introduction, points, conclusion) if text)
