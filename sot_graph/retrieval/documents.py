"""Documents as the prompts show them: read from what was given or found, cut into passages where they are too long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from sot_graph.errors import SotConfigError, kind_of
from sot_graph.prompts.delimiters import escape_delimiters
from sot_graph.prompts.messages import clean_text
from sot_graph.sources import document_source, has_name, is_number
from sot_graph.state import plain_value
from sot_graph.types import Source, SourceDocument

_PASSAGE = 2000
"""Characters of a passage: about 500 tokens, which is what most retrievers work with."""
_BREAKS = ("\n\n", "\n", ". ", " ")
"""Where a passage may end, best first."""


def read_documents(given: object, *, what: str = "documents") -> list[SourceDocument]:
    """Documents from what somebody gave: LangChain's, mappings or objects of the same form, or plain texts.

    Empty ones are left out, and of equal ones all but the first. A store's search may give each with its score, as a
    pair. `what` names them in the error.

    Raises:
        SotConfigError: It is no list of these.
    """
    if isinstance(given, (str, Mapping, Document)) or not isinstance(given, Iterable):
        message = f"{what}: {kind_of(given)}; it must be a list of texts, LangChain documents or mappings."
        raise SotConfigError(message)
    documents: dict[tuple[str, ...], SourceDocument] = {}
    for position, entry in enumerate(given, start=1):
        match entry:
            case (Document() as item, _):
                pass
            case item:
                pass
        plain = plain_value(item, keeps_others=True)
        fields = {"page_content": plain} if isinstance(plain, str) else plain
        text = _text_of(fields)
        if text is None:
            message = (
                f'{what}: entry {position} is {kind_of(item)}; it must be a text, or hold one as "page_content", with '
                'whatever is known of it as "metadata".'
            )
            raise SotConfigError(message)
        if text.strip():
            record = _record(clean_text(text), fields, number=len(documents) + 1)
            documents.setdefault(identity(record), record)
    return list(documents.values())


def _text_of(fields: Any) -> str | None:
    if not isinstance(fields, Mapping):
        return None
    text = next((fields[name] for name in ("page_content", "text", "content") if name in fields), None)
    return text if isinstance(text, str) else None


def _record(text: str, fields: Mapping[str, Any], *, number: int) -> SourceDocument:
    about = fields.get("metadata")
    # Search engines give title and address beside the text.
    beside = {key: fields[key] for key in ("title", "url", "source", "page") if fields.get(key)}
    metadata = {**beside, **(about if isinstance(about, Mapping) else {})}
    record = SourceDocument(number=number, page_content=text, metadata=metadata)
    if isinstance(fields.get("id"), (str, int)):
        record["id"] = str(fields["id"])
    return record


def identity(document: SourceDocument) -> tuple[str, ...]:
    """What a document is told from others by: two with the same identity are one document."""
    source = source_of(document)
    return source.get("url") or source["title"], str(source.get("page", "")), document["page_content"]


def source_of(document: SourceDocument) -> Source:
    """The source that a document is, cited by its number."""
    source = document_source(document["page_content"], document["metadata"], document.get("id"))
    return Source(**{**source, "place": document["number"]})


def length_of_documents(documents: Iterable[SourceDocument]) -> int:
    """How many characters they have together."""
    return sum(len(document["page_content"]) for document in documents)


def as_passages(documents: Iterable[SourceDocument], *, longest: int) -> list[SourceDocument]:
    """The documents, long ones cut into passages, each with a number of its own.

    A passage is of the same source as all others of its document, and is cited as that. `longest` is how many
    characters can be shown.
    """
    longest = min(longest, _PASSAGE)
    passages: list[SourceDocument] = []
    for document in documents:
        text, about = document["page_content"], document["metadata"]
        source = document_source(text, about, document.get("id"))
        # Without a title it is known by its beginning. Passages begin differently, and keep its title to be one source.
        if not has_name(about) and len(text) > longest:
            about = {**about, "title": source["title"]}
        for piece in _pieces(text, longest):
            passages.append({**document, "number": len(passages) + 1, "page_content": piece, "metadata": about})
    return passages


def _pieces(text: str, longest: int) -> list[str]:
    pieces: list[str] = []
    start = 0
    while len(text) - start > longest:
        # The second half of a passage is where it may end.
        middle, end = start + longest // 2, start + longest
        ends = (text.rfind(mark, middle, end) + len(mark) for mark in _BREAKS if mark in text[middle:end])
        end = next(ends, end)
        pieces.append(text[start:end])
        start = end
    pieces.append(text[start:])
    return [piece for piece in pieces if piece.strip()]


def show_documents(documents: Sequence[SourceDocument]) -> str:
    """The documents as a prompt shows them: data, each in a block that it can't close."""
    return "\n".join(
        f'<document number="{document["number"]}">\n{escape_delimiters(_shown(document))}\n</document>'
        for document in documents
    )


def _shown(document: SourceDocument) -> str:
    source = source_of(document)
    if not has_name(document["metadata"]):
        return document["page_content"]
    key = source.get("id", "")
    names = [source["title"], *([key] if key not in {"", source["title"]} and not is_number(key) else [])]
    page = f", p. {source['page']}" if "page" in source else ""
    return f"({' | '.join(names)}{page})\n{document['page_content']}"
