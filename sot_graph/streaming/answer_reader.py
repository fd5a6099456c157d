"""Putting a run's events into reading order: the text being read flows, later ones wait for their turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sot_graph.citations import CitedText, Numbering
from sot_graph.errors import SotConfigError, SotError
from sot_graph.events import FRAME_SEPARATOR

if TYPE_CHECKING:
    from sot_graph.types import Source

BETWEEN_ANSWERS = "\n\n"
"""What stands between two answers that come one after the other."""

_TEXT_EVENTS = {f"sot.{section}.{what}" for section in ("point", "frame") for what in ("start", "delta", "end")}


def is_sot_event(data: Any) -> bool:
    """Whether a piece of a `custom` stream is an event of this package. Joins and parents may write others."""
    return isinstance(data, Mapping) and str(data.get("type", "")).startswith("sot.")


@dataclass(slots=True)
class _Text:
    """A text as far as it is known: of a point, or of what stands around the points.

    Where its `sources` are known from its beginning, `cited` numbers its citations as they come. Where they come at its
    end, as those of an expander do, `uncited` keeps all of it until then.
    """

    head: str = ""
    waiting: list[str] = field(default_factory=list)
    begun: bool = False
    """Whether its head has been given out."""
    ended: bool = False
    shown: bool = True
    tail: str = ""
    sources: list[Source] | None = None
    """What it may cite, once that is known; `None`: nothing, or not yet."""
    uncited: str = ""
    uncited_shown: int = 0
    """How many characters of that have been given out."""
    cited: CitedText | None = None

    def flow(self, numbering: Numbering | None = None) -> Iterator[str]:
        """What has come of it since it was read last, and, once, what stands after it.

        A text whose sources aren't known before its end waits for that from its first citation on.
        """
        came = "".join(self.waiting)
        self.waiting.clear()
        if numbering is None:  # the answer cites nothing
            yield came
        elif self.cited is not None or (self.sources is not None and not self.uncited):
            self.cited = self.cited or CitedText(numbering, self.sources or [])
            yield self.cited.feed(came)
            if self.ended:
                yield self.cited.finish()
        else:
            self.uncited += came  # what stands before the first citation can be shown
            ready = numbering.renumber(self.uncited, self.sources) if self.ended else self.uncited.partition("[")[0]
            yield ready[self.uncited_shown :]
            self.uncited_shown = len(ready)
        if self.ended:
            yield self.tail
            self.tail = ""
            self.uncited = ""


class _Answer:
    """Turns one answer's events into its text in reading order."""

    def __init__(self) -> None:
        self._frame = {"opening": _Text(), "introduction": _Text(), "conclusion": _Text()}
        self._first: str | None = None
        """The part that stands before the points, once it is known that there is one."""
        self._points: dict[int, _Text] = {}
        self._count: int | None = None
        """How many points there are, once that is known."""
        self._current = 1
        """The index of the point that is being read."""
        self._separator = ""
        self._eager = True
        """Whether a point's head may be given out before its text is there."""
        self._any_begun = False
        """Whether a point's head has been given out."""
        self._section: str | None = None
        """To which the text belongs that was given out last; the points count as one."""
        self.given: list[str] = []
        self._numbering: Numbering | None = None
        self._frame_cites = False
        """Whether what stands around the points has citations, too."""
        self.finished = False
        """Whether the closing event has come."""

    def feed(self, event: Mapping[str, Any]) -> str:
        """Take an event; give back the text that can be read now, often none."""
        kind, text = event["type"], ""
        if kind == "sot.answer":
            self.finished = True
            given = "".join(self.given)
            if not event["answer"].startswith(given):
                message = (
                    "The streamed text is not the beginning of the answer. This is a defect of sot_graph, or of a "
                    f"PointwiseJoin that was changed in a subclass. Streamed: …{given[-80:]!r}."
                )
                raise SotError(message)
            text = event["answer"][len(given) :]
        elif kind == "sot.answer.delta":
            text = "".join(self._separated("points", [event["text"]]))
        else:
            if kind in ("sot.skeleton", "sot.skeleton.delta"):
                self._settle(event)
            elif kind in _TEXT_EVENTS:
                self._add(event)
                # Most events are of points whose turn hasn't come.
                if event.get("index", self._current) != self._current:
                    return ""
            text = "".join(self._readable())
        if text:
            self.given.append(text)
        return text

    def _settle(self, event: Mapping[str, Any]) -> None:
        """Take the skeleton, or its next point. Without heads, the join needs all points: the answer comes at once."""
        self._first = next((part for part in ("opening", "introduction") if event.get(part)), self._first)
        self._number(event)
        is_next_point = event["type"] == "sot.skeleton.delta"
        points = [event["point"]] if is_next_point else event["points"]
        heads = [event["head"]] if is_next_point else event.get("heads")
        if heads is None or None in heads:
            return
        if not is_next_point:
            self._count = len(points)
            # Its points were told one by one. A reader that missed these has missed text, too: `sot.answer` has it all.
            if event.get("grown"):
                return
        self._separator, self._eager = event["separator"], event["eager"]
        for point, head in zip(points, heads, strict=True):
            self._points.setdefault(point["index"], _Text(head))

    def _number(self, event: Mapping[str, Any]) -> None:
        """Number citations from now on, if the answer has some: what stands around the points has, too."""
        if event.get("cites") and self._numbering is None:
            self._numbering = Numbering(event["citation_style"], lists_all=event["lists_all"])
            self._frame_cites = event["frame_cites"]

    def _add(self, event: Mapping[str, Any]) -> None:
        """Take the next piece of a text, or its end."""
        if event.get("part") == "opening":  # which is there before the skeleton
            self._first = "opening"
            self._number(event)
        text = self._frame[event["part"]] if "part" in event else self._points.get(event["index"])
        if text is None:
            return
        if "text" in event:
            text.waiting.append(event["text"])
            return
        if text.cited is None:
            text.sources = event.get("sources", text.sources)
        if "tail" in event:
            text.ended, text.shown, text.tail = True, event.get("shown", True), event["tail"]

    def _readable(self) -> Iterator[str]:
        """What can be read by now: of what stands first, then of the points, then of the conclusion."""
        numbering = self._numbering if self._frame_cites else None
        if self._first is not None:
            yield from self._separated(self._first, self._frame[self._first].flow(numbering))
            if not self._frame[self._first].ended:
                return
        yield from self._separated("points", self._readable_points())
        if self._count is not None and self._current > self._count:  # what is cited is listed by the closing event
            yield from self._separated("conclusion", self._frame["conclusion"].flow(numbering))

    def _separated(self, section: str, pieces: Iterable[str]) -> Iterator[str]:
        for piece in filter(None, pieces):
            if self._section not in (None, section):
                yield FRAME_SEPARATOR
            self._section = section
            yield piece

    def _readable_points(self) -> Iterator[str]:
        while (point := self._points.get(self._current)) is not None:
            if not point.begun and (point.shown or not point.ended):
                if not (self._eager or point.ended or point.waiting):
                    return  # it may yet be left out of the answer
                point.begun = True
                if self._any_begun:
                    yield self._separator
                self._any_begun = True
                yield point.head
            if point.begun:
                yield from point.flow(self._numbering)
            if not point.ended:
                return
            self._current += 1


class AnswerReader:
    """Turns custom events, fed in any interleaving, into the answer's text in reading order.

    What `feed` gives back, joined, is exactly the answer of the closing `sot.answer` event: events that never came
    (a resumed run's finished points) are made up for by it, and a join that can't be streamed comes as one piece.
    When the events of a next answer come, such as in a loop, that is read: joined, the pieces are the answers with a
    blank line between them. Of an answer that failed, they have what was written.

    Examples:
        >>> reader = AnswerReader()
        >>> points = [{"index": 1, "title": "A", "depends_on": []}, {"index": 2, "title": "B", "depends_on": []}]
        >>> layout = {"heads": ["A: ", "B: "], "separator": " ", "eager": True}
        >>> reader.feed({"type": "sot.skeleton", "points": points, **layout})
        'A: '
        >>> reader.feed({"type": "sot.point.delta", "index": 2, "text": "two"})
        ''
        >>> reader.feed({"type": "sot.point.delta", "index": 1, "text": "one"})
        'one'
        >>> reader.feed({"type": "sot.point.end", "index": 1, "status": "ok", "shown": True, "tail": ""})
        ' B: two'
    """

    def __init__(self) -> None:
        self._answer = _Answer()
        self._begun: set[str] = set()
        """The ids of all answers that have begun. A node that LangGraph tries again answers anew, by another id."""
        self.answer_id = ""
        """The latest answer's: its message has it, too."""
        self.has_begun = False
        """Whether an answer has begun."""
        self.has_given = False
        """Whether any text was given back."""

    @property
    def finished(self) -> bool:
        """Whether the closing event of the latest answer has come."""
        return self._answer.finished

    @property
    def text(self) -> str:
        """What was given back of the latest answer."""
        return "".join(self._answer.given)

    def has_begun_before(self, event: Mapping[str, Any]) -> bool:
        """Whether the event is of an answer that had begun before the latest one."""
        answer_id = _answer_id(event)
        return answer_id != self.answer_id and answer_id in self._begun

    def feed(self, event: Any) -> str:
        """Take an event; give back the text that can be read now, often none. Events of others say nothing.

        Raises:
            SotConfigError: Two answers come at once: each needs a reader of its own.
            SotError: The closing event's answer doesn't begin with what was given back: a defect, never silent.
        """
        if not is_sot_event(event):
            return ""
        answer_id = _answer_id(event)
        if answer_id and (answer_id != self.answer_id or self.finished):
            if self.has_begun_before(event):
                message = (
                    "Two answers come at once: give each an AnswerReader of its own, by the namespace, or by what "
                    'stands before the last ":" of an event\'s id.'
                )
                raise SotConfigError(message)
            self._answer, self.answer_id = _Answer(), answer_id
            self._begun.add(answer_id)
        self.has_begun = True
        between = BETWEEN_ANSWERS if self.has_given and not self._answer.given else ""
        text = self._answer.feed(event)
        self.has_given |= bool(text)
        return between + text if text else ""


def _answer_id(event: Mapping[str, Any]) -> str:
    """Of the answer that an event is of; empty where it doesn't say."""
    return str(event.get("id", "")).rpartition(":")[0]
