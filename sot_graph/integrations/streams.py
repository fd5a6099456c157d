"""What comes out of the two calls behind an agent's answer: the reply that decides, and the graph's stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk

from sot_graph.errors import ExpansionError
from sot_graph.integrations.deciding import may_be_skeleton
from sot_graph.streaming import AnswerReader

if TYPE_CHECKING:
    from sot_graph.options import SotOptions

__all__ = ["Deciding", "Writing"]


class Deciding:
    """Holds back the beginning of a streamed reply until it is known to be no skeleton."""

    def __init__(self, options: SotOptions) -> None:
        self.whole: AIMessageChunk | None = None
        self.is_open = True
        """Whether it may yet be a skeleton."""
        self._options = options
        self._held: list[AIMessageChunk] = []

    def take(self, piece: AIMessageChunk) -> list[AIMessageChunk]:
        """Take the next piece; give back what may be shown."""
        if not self.is_open:
            return [piece]
        self._held.append(piece)
        self.whole = piece if self.whole is None else self.whole + piece
        if self.whole.tool_call_chunks or not may_be_skeleton(str(self.whole.text), self._options):
            self.is_open = False
            return self.rest()
        return []

    def rest(self) -> list[AIMessageChunk]:
        """What was held back."""
        held, self._held = self._held, []
        return held


class Writing:
    """Reads a graph's stream: the answer's text in reading order, and the result."""

    def __init__(self) -> None:
        self.result: Any = None
        self.length = 0
        """Characters that have been read."""
        self.error: ExpansionError | None = None
        """No point could be written."""
        self._reader = AnswerReader()

    @contextmanager
    def to_its_end(self) -> Iterator[None]:
        """Around the stream: how it ended is kept."""
        try:
            yield
        except ExpansionError as error:
            self.error = error

    def take(self, part: Any) -> str:
        """Take the next part; give back what can be read of the answer now."""
        mode, data = part
        if mode == "values":
            self.result = data
            return ""
        text = self._reader.feed(data)
        self.length += len(text)
        return text
