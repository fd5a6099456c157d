"""`CallJournal`: what questions in flight have been given so far, so that a kill loses no text that was finished.

`evaluation/study.py` uses `PieceCache` with its own journal for the same purpose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from langgraph.cache.base import BaseCache, FullKey
from typing_extensions import override

from sot_graph.batch.line_file import LineFile

_MOST_DEAD_LINES = 5000
_question: ContextVar[tuple[str, ...]] = ContextVar("sot_graph_journal_question")


class PieceCache(BaseCache[Any]):
    """A graph's cache for answers in flight: each question is given what was written for it, and nothing of another's.

    Its methods take less time than beginning a thread, so the asynchronous ones are the same.

    Args:
        piece: Gives what is kept of a question under a key; `None`: nothing.
        keep: Keeps something of a question under a key.
    """

    def __init__(
        self, piece: Callable[[tuple[str, ...], str], Any], keep: Callable[[tuple[str, ...], str, Any], None]
    ) -> None:
        super().__init__()
        self._piece = piece
        self._keep = keep

    @staticmethod
    def begin(*question_key: str) -> None:
        """The calling task answers this question from now on: `get` and `set` of every such cache are about it."""
        _question.set(question_key)

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """What is kept of the calling task's question."""
        kept = {full: self._piece(_question.get(), full[1]) for full in keys}
        return {full: value for full, value in kept.items() if value is not None}

    def set(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Keep something of the calling task's question."""
        for (_, key), (value, _ttl) in pairs.items():
            self._keep(_question.get(), key, value)

    def clear(self, namespaces: Sequence[tuple[str, ...]] | None = None) -> None:
        """Nothing: what has been paid for is kept as long as its question has no answer."""

    @override
    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        return self.get(keys)

    @override
    async def aset(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        self.set(pairs)

    @override
    async def aclear(self, namespaces: Sequence[tuple[str, ...]] | None = None) -> None:
        self.clear(namespaces)


class CallJournal(PieceCache):
    """Skeletons and texts of questions that are still to be answered, in a file.

    Memory and file hold the questions in flight, however many there were before.

    Args:
        path: Made where it isn't there, and removed at the end where nothing is left in it.
        is_done: Whether nothing of a question is left to do, so that what is kept of it can be dropped.

    Raises:
        SotConfigError: It can't be written, another process writes to it, or it is something else.
    """

    def __init__(self, path: Path, is_done: Callable[[str], bool]) -> None:
        super().__init__(self._piece_of, self._append)
        self._path = path
        self._is_done = is_done
        self._kept: dict[str, dict[str, Any]] = {}
        self._dead_lines = 0
        self._file = LineFile(path, self._note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._kept:
            self._path.unlink()

    def end(self, question_id: str) -> None:
        """The question has its line in the answers, with what was written if a text of it failed."""
        self._dead_lines += len(self._kept.pop(question_id, ()))
        if self._dead_lines >= _MOST_DEAD_LINES:
            self._shrink()

    def _piece_of(self, question: tuple[str, ...], key: str) -> Any:
        return self._kept.get(question[0], {}).get(key)

    def _append(self, question: tuple[str, ...], key: str, value: Any) -> None:
        self._file.append({"id": question[0], "key": key, "value": value})

    def _note(self, line: Mapping[str, Any], _place: int) -> None:
        if self._is_done(line["id"]):
            self._dead_lines += 1
        else:
            self._kept.setdefault(line["id"], {})[line["key"]] = line["value"]

    def _shrink(self) -> None:
        """Write what is kept into a new file, which takes the old one's place when it is whole."""
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.unlink(missing_ok=True)  # of a process that was killed here
        new = LineFile(beside)
        for question_id, kept in self._kept.items():
            for key, value in kept.items():
                new.append({"id": question_id, "key": key, "value": value})
        new.close()
        self._file.close()
        os.replace(beside, self._path)
        self._dead_lines = 0
        self._file = LineFile(self._path, self._note)
