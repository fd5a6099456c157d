"""Sources: read from what somebody gave, cited by their names, and listed at an answer's end."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import PurePath
from typing import Any, cast
from urllib.parse import quote, urlsplit
from uuid import UUID

from langchain_core.documents import Document
from pydantic import AnyUrl

from sot_graph.prompts.messages import clean_text
from sot_graph.state import fields_of, plain_value
from sot_graph.types import CitationStyle, Source

PLACE = re.compile(r"\d{1,3}")
"""A source's place in a list, from 1."""
LONGEST_NAME = 200
"""Characters that a text cites a source by. Only an id may be longer."""
_SNIPPET = 300
"""Characters of a document's text that its source keeps, and of each text in its metadata."""
_TITLE_CHARS = 60
"""Characters of a document's text that stand for a title."""
_MARKDOWN = re.compile(r"[\[\]\\<>`*]|~(?=~)|(?<![^\W_])_|_(?![^\W_])|^[#+-]+(?=\s|$)")
"""What could make other Markdown of a title. An underscore within a word can't."""
_LIST_ITEM = re.compile(r"^\d{1,9}(?=[.)](?:\s|$))")
"""What could make an item of a list of it: a number and its dot."""
_URL_SAFE = "/:?#@!$&'*+,;=%~-._"
"""What an address may hold in a Markdown link. Brackets would end the link."""


def read_sources(given: object) -> list[Source]:
    """Sources from what somebody gave: texts, LangChain's documents, or mappings or objects with `title`, `url`, `id`.

    Raises:
        ValueError: It is no list of these.
    """
    if not isinstance(given, (list, tuple)):
        message = f"the sources are {type(given).__name__}, not a list"
        raise ValueError(message)  # noqa: TRY004  (nobody's program is wrong: an output doesn't fit)
    return [_source(item, position) for position, item in enumerate(given, start=1)]


def _source(item: object, position: int) -> Source:
    if text := _text(item):
        return Source(title=text, url=text) if _is_link(text) and " " not in text else Source(title=text)
    if isinstance(item, Document) and has_name(item.metadata):
        return document_source(plain_value(item.page_content), plain_value(item.metadata), item.id)
    # A document that gets here has neither a title nor an address.
    fields = {} if isinstance(item, Document) else fields_of(item)
    title, url = _text(fields.get("title")), _text(fields.get("url"))
    if not (title or url):
        message = (
            f'source {position} is {item!r:.80}; it must be a text, or a mapping such as {{"title": ..., "url": ...}}'
        )
        raise ValueError(message)
    source = Source(title=title or url)
    if url:
        source["url"] = url
    key = fields.get("id")
    if type(key) is int or isinstance(key, UUID):  # databases number their rows
        key = str(key)
    if key is not None and not isinstance(key, str):
        message = f"source {position} has the id {key!r:.80}; it must be a text or a whole number"
        raise ValueError(message)
    if key := _text(key):
        source["id"] = key
    kept = _kept_fields(fields)
    if (origin := _origin(kept.get("metadata", {}))) not in {"", title} and not url:
        kept.setdefault("fingerprint", _hash(origin))  # a result lists its sources without
    return cast("Source", {**source, **kept})


def _kept_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What else a source may hold, as far as it is of the right kind: sources of an earlier result come back whole."""
    page = _page_of(fields)
    kinds = {"place": int, "page_content": str, "metadata": Mapping, "fingerprint": str}
    kept = {name: plain_value(fields[name]) for name, kind in kinds.items() if isinstance(fields.get(name), kind)}
    return kept if page is None else {**kept, "page": page}


def has_name(metadata: Mapping[str, Any]) -> bool:
    """Whether a document has a title or an address. Another one is named after its own beginning."""
    return bool(_text(metadata.get("title")) or _origin(metadata))


def _origin(metadata: Mapping[str, Any]) -> str:
    return _text(metadata.get("url") or metadata.get("source"))


def _page_of(about: Mapping[str, Any]) -> int | str | None:
    """A page as its reader counts it: `page_label` is what is printed on it, `page_number` counts from 1."""
    for name in ("page_label", "page_number", "page"):
        page = about.get(name)
        page = int(page) if isinstance(page, float) and page.is_integer() else page  # a table's column
        if type(page) is int or (isinstance(page, str) and page.strip()):
            return _text(page)[:20] if isinstance(page, str) else page
    return None


def document_source(text: str, metadata: Mapping[str, Any], key: object = None) -> Source:
    """The source that a document is: its title, address and page from its metadata, and the beginning of its text.

    Args:
        text: The document's.
        metadata: `title`, `source` or `url`, `page`, and whatever else there is.
        key: The document's `id`.
    """
    origin, title = _origin(metadata), _text(metadata.get("title"))
    opening = " ".join(text[: _SNIPPET * 2].split())
    source = Source(title=title or origin or _shortened(opening, _TITLE_CHARS) or "Untitled")
    if _is_link(origin):
        source["url"] = origin
    key = metadata.get("id") if key is None else key
    # A file is cited by its name, too, whatever title it has.
    name = _text(key if isinstance(key, str) else "" if key is None else str(key)) or (title and _file_name(origin))
    if name:
        source["id"] = name
    if (page := _page_of(metadata)) is not None:
        source["page"] = page
    if not (title or origin):
        source["fingerprint"] = _hash(text)
    # Files may have equal titles, and where they are is nobody's business who reads the answer.
    elif title not in {"", origin} and "url" not in source:
        source["fingerprint"] = _hash(origin)
    if opening:
        source["page_content"] = _shortened(opening, _SNIPPET)
    if metadata:
        source["metadata"] = {
            str(name): _shortened(value, _SNIPPET) if isinstance(value, str) else value
            for name, value in metadata.items()
        }
    return source


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _file_name(origin: str) -> str:
    return re.split(r"[/\\]", origin.rstrip("/\\"))[-1]


def names_of(source: Source) -> list[str]:
    """What a text may cite a source by, beside its place: its id, its title, its address, its file's name.

    Nobody cites by a title of more than 200 characters, and each bracket of a text would be compared with all of it.
    """
    title, url = source["title"], source.get("url", "")
    named = [source.get("id", "")]
    named += [each for each in (title, url, _file_name(title), _file_name(url)) if 0 < len(each) <= LONGEST_NAME]
    # A title `2` would be taken for the second source. So would an id, where a prompt shows places.
    may_be_number = "place" not in source
    return [name for at, name in enumerate(named) if name and ((may_be_number and at == 0) or not is_number(name))]


def is_number(name: str) -> bool:
    """Whether a name reads like a source's place in a list."""
    return PLACE.fullmatch(name) is not None


def _text(value: object) -> str:
    """A text, a path or an address on one line; of anything else nothing."""
    text = str(value) if isinstance(value, (str, PurePath, AnyUrl)) else ""
    return " ".join(clean_text(text).split())


def _is_link(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)


def list_sources(sources: Iterable[Source], style: CitationStyle = "brackets") -> str:
    """A numbered Markdown list, or footnotes. What a title or an address holds can't become other Markdown."""
    mark = "[^{}]: {}" if style == "footnotes" else "{}. {}"
    origins: defaultdict[str, set[str]] = defaultdict(set)
    for source in (listed := list(sources)):
        origins[source["title"]].add(_origin(source.get("metadata", {})))
    return "\n".join(
        mark.format(each["number"], _listed_source(each, is_alone=len(origins[each["title"]]) == 1)) for each in listed
    )


def _listed_source(source: Source, *, is_alone: bool) -> str:
    """A line of the list. `is_alone`: no other file there has the same title; else its name tells them apart."""
    title, url, name = source["title"], source.get("url", ""), _file_name(_origin(source.get("metadata", {})))
    if not is_alone and name and not url:
        title = f"{title} ({name})"
    title = _LIST_ITEM.sub(r"\g<0>\\", _MARKDOWN.sub(r"\\\g<0>", title))
    if _is_link(url):
        title = f"[{title}]({quote(url, safe=_URL_SAFE)})"
    elif url and url != source["title"]:
        title = f"{title} ({quote(url, safe=_URL_SAFE)})"
    page = re.sub(r"[^\w.,/ \u2010-\u2015-]", "", str(source.get("page", "")))
    return f"{title}, p. {page}" if page else title
