"""Which documents concern a query: BM25, by the full-text index of the SQLite that comes with Python."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias
from weakref import finalize

from langchain_core.documents import Document

Ranker: TypeAlias = Callable[[str, Sequence[Document]], Sequence[Document] | Awaitable[Sequence[Document]]]
"""`(query, documents) -> documents`, those that concern the query, best first; also async. What it leaves out isn't
shown."""

_MOST_WORDS = 128
"""Of a query: SQLite bounds how deep an expression may be."""
_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


class TextIndex:
    """A full-text index over some texts, in memory.

    Args:
        texts: The texts.

    Examples:
        >>> TextIndex(["Loose soil.", "Water twice a week.", "Soil and water."]).search("watering the soil")
        [2, 0, 1]
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        finalize(self, self._index.close)
        # Without their content: only their words are kept. Porter's stemmer, so that "plants" finds "plant".
        self._index.execute("CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='porter unicode61')")
        rows = ((position, _with_pairs(text)) for position, text in enumerate(texts, start=1))
        self._index.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", rows)

    def search(self, query: str) -> list[int]:
        """The places, from 0, of the texts that have a word of the query, best first."""
        words = list(dict.fromkeys(_WORD.findall(_with_pairs(query.lower()))))[:_MOST_WORDS]
        if not words:
            return []
        any_word = " OR ".join(f'"{word}"' for word in words)
        found = self._index.execute("SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank, rowid", (any_word,))
        return [row - 1 for (row,) in found]


def _with_pairs(text: str) -> str:
    """The text, with pairs of characters in place of words where a script has no spaces between them."""
    return text if text.isascii() else _UNSPACED.sub(_as_pairs, text)


def _as_pairs(run: re.Match[str]) -> str:
    text = run[0]
    pairs = [text[start : start + 2] for start in range(len(text) - 1)] or [text]
    return f" {' '.join(pairs)} "
