"""Which documents each section rests on: those that every prompt of the run shows, and those of a point's own.

Where all documents fit into a prompt, every prompt shows all of them: once, in the part that a provider's cache serves.
Where they don't, half of the room is for those that concern the question, and half for those that concern the point.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import finalize

from langchain_core.documents import Document

from sot_graph.citations import cited_sources
from sot_graph.concurrency.isolation import call_in_new_thread, in_new_thread, run_isolated
from sot_graph.errors import SotConfigError
from sot_graph.retrieval.documents import (
    as_passages,
    identity,
    length_of_documents,
    read_documents,
    show_documents,
    source_of,
)
from sot_graph.retrieval.retriever import FOUND_NOTHING, failure_of, query_for, retrieve, seconds_for_retrieval
from sot_graph.types import Material

if TYPE_CHECKING:
    from sot_graph.run import RunContext
    from sot_graph.types import SkeletonPoint, Source, SourceDocument

logger = logging.getLogger("sot_graph")

Ranker: TypeAlias = Callable[[str, Sequence[Document]], Sequence[Document] | Awaitable[Sequence[Document]]]
"""`(query, documents) -> documents`: those that concern the query, best first. No others are shown. Also async."""

_MOST_WORDS = 128
"""Of a query: SQLite bounds how deep an expression may be."""
_WORD = re.compile(
    r"[\w\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u096f\u0971-\u0df3]+"
)
"""Also with the marks that make vowels: of Hebrew, Arabic, and of India's scripts."""
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


async def find_material(given: object, question: str, run: RunContext) -> Material | None:
    """The documents of a run, and which of them all its prompts show; `None`: the answer is to rest on none.

    They are those that the caller gave, if any, and those that the retriever finds for the question.

    Raises:
        SotConfigError: What was given is no list of documents.
    """
    retriever, documents = run.retriever, read_documents(given or [])
    if not documents and retriever is None:
        return None
    run.invocation.index = None  # of an earlier try of this node
    found: list[SourceDocument] = []
    why = ""
    if retriever is not None:
        found, why = await retrieve(question, run, about="for the question", stage="skeleton")
        known = {identity(document) for document in documents}
        found = [document for document in found if identity(document) not in known]
    most = most_characters(run)
    # Where points find documents of their own, half of the room is theirs.
    room = most if retriever is None else most // 2
    if length_of_documents([*documents, *found]) > room:
        # All prompts share half of the room, and points find documents for the other half: a passage fits into either.
        documents = as_passages(documents, longest=most // 2)
        found = as_passages(found, longest=most // 2)
    documents = [*documents, *found]
    for number, document in enumerate(documents, start=1):
        document["number"] = number
    material = Material(documents=documents, shared=[document["number"] for document in documents])
    if why:
        material["detail"] = why
    if length_of_documents(documents) <= room:
        return material
    # What a retriever found for the question is ranked already.
    first = documents[len(documents) - len(found) :]
    ranked = [*first, *await _ranked(question, documents, run)]
    material["shared"] = sorted(document["number"] for document in _fitting(ranked, most // 2))
    return material


def most_characters(run: RunContext) -> int:
    """Characters of documents in one prompt."""
    own = run.parts.prompts.max_document_chars
    return run.options.max_document_chars if own is None else min(own, run.options.max_document_chars)


class Grounds:
    """What one section of an answer rests on, where its run has documents."""

    def __init__(self, material: Material, run: RunContext) -> None:
        self._material = material
        self._run = run
        shown = set(material["shared"])
        self._shared = [document for document in material["documents"] if document["number"] in shown]
        self._own: list[SourceDocument] = []
        self.own_text = ""
        """The documents that this section's prompt alone shows, as it shows them."""
        self.detail = material.get("detail", "")
        """What the section had to do without, in one line."""

    @property
    def documents(self) -> list[SourceDocument]:
        """All that its prompt shows."""
        return [*self._shared, *self._own]

    def sources(self) -> list[Source]:
        """What its text may cite."""
        return [source_of(document) for document in self.documents]

    def announced(self, event: Any) -> Any:
        """The event of the section's beginning, with what its text may cite, where that is known then.

        Of each source it has what is needed to number citations.
        """
        # Of an expander's own sources nothing is known before its end. It writes points, and no part of a frame.
        if self._run.parts.expander is not None and "part" not in event:
            return event
        sources = self.sources()
        for source in sources:
            source.pop("page_content", None)
            source.pop("metadata", None)
        return {**event, "sources": sources}

    def cited_in(self, text: str) -> list[Source]:
        """The documents that its text cites; all of them where all are to be listed."""
        sources = self.sources()
        return sources if self._run.options.sources == "all" else cited_sources(text, sources)

    async def find_for(self, question: str, point: SkeletonPoint) -> None:
        """Find a point's own documents, among those of the run and by the retriever."""
        run, documents = self._run, self._material["documents"]
        room = most_characters(run) // 2
        if len(self._shared) < len(documents):
            shared = {document["number"] for document in self._shared}
            # The title stands first: BM25 reads only the beginning of a long query (`_MOST_WORDS`).
            ranked = await _ranked(f"{point['title']} {question}", documents, run)
            self._own = _fitting([each for each in ranked if each["number"] not in shared], room)
        if run.retriever is not None:
            query, about = query_for(question, point), run.shown_point(point)
            found, why = await retrieve(query, run, about=about, stage="expansion")
            # Nothing for the whole question, and yet something for this point: nothing is missing.
            self.detail = why or self.detail.replace(FOUND_NOTHING, "")
            # The run's documents may be cut into passages, and these not, or the other way round.
            known = {identity(passage) for passage in as_passages(self.documents, longest=room)}
            passages = as_passages(found, longest=room)
            new = [passage for passage in passages if identity(passage) not in known]
            if length_of_documents(found) > room or len(new) < len(passages):
                found = new
            for number, document in enumerate(found, start=len(documents) + 1):
                document["number"] = number
            # What the retriever found for this very point goes before what a ranking thinks of the rest.
            self._own = _fitting([*found, *self._own], room)
        self.own_text = show_documents(self._own)


def _fitting(ranked: Iterable[SourceDocument], room: int) -> list[SourceDocument]:
    """The best that fit, in the order of their numbers."""
    chosen: dict[int, SourceDocument] = {}
    for document in ranked:
        length = len(document["page_content"])
        if document["number"] in chosen or length > room:
            continue
        chosen[document["number"]] = document
        room -= length
    return [chosen[number] for number in sorted(chosen)]


async def _ranked(query: str, documents: Sequence[SourceDocument], run: RunContext) -> list[SourceDocument]:
    """The documents that concern a query, best first: by BM25, if no ranker says. If none does: all, in their order."""
    ranker = run.parts.ranker
    if ranker is not None:
        limit = seconds_for_retrieval(run)
        try:
            async with asyncio.timeout(limit) as timer:
                return [documents[place] for place in await _places_by(ranker, query, documents)]
        except Exception as error:  # noqa: BLE001  (a caller's code may raise what it likes)
            warning = f"The ranker {failure_of(error, run, timer, limit)}: the documents are ranked by BM25."
            if warning not in run.invocation.logged:  # once a run, and not for each point
                logger.warning(warning)
            run.invocation.logged.add(warning)
    if run.invocation.index is None:
        texts = [document["page_content"] for document in documents]
        # Half a million characters take a tenth of a second: not on the loop that all runs share, and once for all.
        run.invocation.index = in_new_thread(lambda: TextIndex(texts))
    index = await asyncio.shield(run.invocation.index)
    return [documents[place] for place in index.search(query)] or list(documents)


async def _places_by(ranker: Any, query: str, documents: Sequence[SourceDocument]) -> list[int]:
    """Where the documents stood that a caller's ranker gives back."""
    shown = [Document(each["page_content"], metadata=each["metadata"], id=each.get("id")) for each in documents]
    places = {id(document): place for place, document in enumerate(shown)}
    ranked = await run_isolated(call_in_new_thread(ranker, query, list(shown)), "The ranker")
    found = [places.get(id(document), -1) for document in ranked]
    if -1 in found:
        message = "it returned what is none of the documents that it was given; it must return these objects"
        raise SotConfigError(message)
    return found


def shown_documents(material: Material, run: RunContext) -> str:
    """The documents that every prompt of the run shows, made once."""
    made = run.invocation.shown_documents
    if made is None or made[0] is not material:
        made = run.invocation.shown_documents = (material, show_documents(Grounds(material, run).documents))
    return made[1]


class TextIndex:
    """Which texts concern a query: BM25, by the full-text index of the SQLite that comes with Python. In memory.

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
