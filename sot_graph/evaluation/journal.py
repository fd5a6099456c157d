"""`Journal`: what a study has paid for, a line each, so that a study that was killed goes on from there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeAlias

from langgraph.cache.base import FullKey

from sot_graph.batch.call_journal import SyncCache
from sot_graph.batch.line_file import LineFile
from sot_graph.errors import SotConfigError

Key: TypeAlias = tuple[str, ...]

_place: ContextVar[Key | None] = ContextVar("sot_graph_journal_place", default=None)
"""The arm and the question that are being answered."""


def _not_by_link(path: str, flags: int) -> int:
    """Open a file, but not what a link leads to: the folder may be one that others may write to."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def write_anew(path: Path, text: str) -> None:
    """Write a file beside, and put it in the place of what is there, be that a link."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.write_text(text, encoding="utf-8", errors="replace")
    os.replace(beside, path)


class Journal(LineFile):
    """Values under keys, a line `[key, value]` each; of several lines with the same key, the last one counts.

    Args:
        path: The file; made if it isn't there.
        settings: What a study must not change on the way. They are the first line.

    Raises:
        SotConfigError: The file is of a study with other settings, another study writes to it, or it is a link or
            something else.
    """

    owner, advice = "study", "Give each its own folder."
    kind, opener = list, staticmethod(_not_by_link)

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._kept: dict[Key, Any] = {}
        super().__init__(path, self._note)
        before = self.get(("settings",))
        if before is None:
            self.put(("settings",), dict(settings))
        elif changed := [name for name in settings if before.get(name) != settings[name]]:
            self.close()
            name = changed[0]
            message = (
                f"{path.parent} holds a study with {name} {before.get(name)!r}, not {settings[name]!r}: "
                "name another folder, or the same settings."
            )
            raise SotConfigError(message)

    def get(self, key: Key) -> Any:
        """What is kept under a key; `None`: nothing."""
        return self._kept.get(key)

    def put(self, key: Key, value: Any) -> None:
        """Keep a JSON value. It is in the file when this returns: only the machine's own end can take it away."""
        self._kept[key] = value
        self.append((key, value))

    def _note(self, line: Sequence[Any], _place: int) -> None:
        key, value = line
        self._kept[tuple(key)] = value


@contextmanager
def answering(*place: str) -> Iterator[None]:
    """Within this block, pieces of answers are kept for this arm and question, and for no other."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


class PieceCache(SyncCache):
    """LangGraph's cache, in a journal: the skeleton and the points of an answer that was cut off by a kill.

    They are read by the same arm for the same question only, so that no arm is spared a call by another one.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """What is kept of these."""
        place = _place.get()
        kept = {} if place is None else {key: self._journal.get(("piece", *place, key[1])) for key in keys}
        return {key: value for key, value in kept.items() if value is not None}

    def set(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Keep these."""
        if (place := _place.get()) is not None:
            for (_, key), (value, _seconds) in pairs.items():
                self._journal.put(("piece", *place, key), value)

    def clear(self, namespaces: Sequence[tuple[str, ...]] | None = None) -> None:
        """Nothing is taken out of a journal."""
