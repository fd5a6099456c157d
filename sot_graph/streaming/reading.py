"""Putting a run's events into reading order: the point being read flows, later ones wait for their turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sot_graph.citations import Numbering
from sot_graph.errors import SotError

if TYPE_CHECKING:
    from sot_graph.types import Source

__all__ = ["AnswerReader"]


@dataclass(slots=True)
class _Point:
    head: str
    waiting: list[str] = field(default_factory=list)
    begun: bool = False
    """Whether its head has been given out."""
    ended: bool = False
    shown: bool = True
    tail: str = ""
    sources: list[Source] = field(default_factory=list)
    text: str = ""
    """Of a point that may cite sources: all that is there, as its expander wrote it."""
    given: int = 0
    """How many characters of that have been given out."""

    def readable(self, numbering: Numbering | None) -> Iterable[str]:
        """What can be read of its text now. From the first citation on, that waits for the sources, at its end."""
        if numbering is None:
            yield from self.waiting
        else:
            self.text += "".join(self.waiting)
            ready = numbering.take(self.text, self.sources) if self.ended else self.text.partition("[")[0]
            yield ready[self.given :]
            self.given = len(ready)
        self.waiting.clear()


class AnswerReader:
    """Turns one run's custom events, fed in any interleaving, into the answer's text in reading order.

    What `feed` gives back, joined, is exactly the answer of the closing `sot.answer` event: events that never came
    (a resumed run's finished points) are made up for by it, and a join that can't be streamed comes as one piece.

    Example:
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
        self._points: dict[int, _Point] = {}
        self._current = 1
        self._separator = ""
        self._eager = True
        self._any_begun = False
        self._given: list[str] = []
        self._numbering: Numbering | None = None
        self.finished = False
        """Whether the closing event has come."""

    def feed(self, event: Mapping[str, Any]) -> str:
        """Take an event; give back the text that can be read now, often none.

        Raises:
            SotError: The closing event's answer doesn't begin with what was given back: a defect, never silent.
        """
        kind = event["type"]
        if kind == "sot.skeleton":
            self._settle(event)
        elif kind == "sot.skeleton.delta":
            self._grow(event)
        elif kind == "sot.point.delta":
            self._on_delta(event)
        elif kind == "sot.point.end":
            self._on_end(event)
        elif kind == "sot.answer.delta":
            return self._give([event["text"]])
        elif kind == "sot.answer":
            return self._finish(event["answer"])
        return self._give(self._readable())

    def _settle(self, event: Mapping[str, Any]) -> None:
        # Without heads, the join needs all points: the closing event brings everything. Points that were told one by
        # one are known, unless this reader came late: then it has missed some of their text, too.
        if event.get("heads") is not None and not event.get("grown"):
            for point, head in zip(event["points"], event["heads"], strict=True):
                self._expect(point["index"], head, event)

    def _grow(self, event: Mapping[str, Any]) -> None:
        if event["head"] is not None:
            self._expect(event["point"]["index"], event["head"], event)

    def _expect(self, index: int, head: str, event: Mapping[str, Any]) -> None:
        self._separator = event["separator"]
        self._eager = event["eager"]
        if event.get("cites") and self._numbering is None:
            self._numbering = Numbering()
        self._points.setdefault(index, _Point(head))

    def _on_delta(self, event: Mapping[str, Any]) -> None:
        point = self._points.get(event["index"])
        if point is not None:
            point.waiting.append(event["text"])

    def _on_end(self, event: Mapping[str, Any]) -> None:
        point = self._points.get(event["index"])
        if point is not None:
            point.ended, point.shown, point.tail = True, event["shown"], event["tail"]
            point.sources = event.get("sources") or []

    def _readable(self) -> Iterable[str]:
        while (point := self._points.get(self._current)) is not None:
            if not point.begun:
                if point.ended and not point.shown:
                    self._current += 1
                    continue
                if not (self._eager or point.ended or point.waiting):
                    return  # it may yet be left out of the answer
                point.begun = True
                if self._any_begun:
                    yield self._separator
                self._any_begun = True
                yield point.head
            yield from point.readable(self._numbering)
            if not point.ended:
                return
            yield point.tail
            self._current += 1

    def _give(self, pieces: Iterable[str]) -> str:
        text = "".join(pieces)
        if text:
            self._given.append(text)
        return text

    def _finish(self, answer: str) -> str:
        self.finished = True
        given = "".join(self._given)
        if not answer.startswith(given):
            message = (
                "The streamed text is not the beginning of the answer. This is a defect of sot_graph, or of a "
                f"PointwiseJoin that was changed in a subclass. Streamed: …{given[-80:]!r}."
            )
            raise SotError(message)
        return self._give([answer[len(given) :]])
