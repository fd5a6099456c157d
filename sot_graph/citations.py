"""Sources of the points: read from what an expander gave, and renumbered into one list for the whole answer.

A point's text cites its sources by their place in the point's own list, `[1]`, `[1-3]` or `[^1]`, or by their `id`,
`[soil.md]`. Points are written at the same time, so only the whole answer knows a source's number in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

from langchain_core.documents import Document
from pydantic import AnyUrl

from sot_graph.prompts.messages import clean_text
from sot_graph.types import Expansion, Source

_DASH = r"\s?[-\u2010-\u2015]\s?"
_PLACE = re.compile(r"\d{1,3}")
_RANGE = re.compile(rf"(\d{{1,3}}){_DASH}(\d{{1,3}})")
_PAGE = re.compile(r"(?:pp?\.|§)\s?\d.*")
"""Where in a source: `[1, p. 3]`."""
_LONGEST = 200
"""Characters between the brackets. Only a known id may be longer."""
_UNUSUAL = re.compile(rf"[\s,;\[\]^]|.{{{_LONGEST}}}")
"""Ids that hold separators or brackets, or are very long: they are found only by their exact text."""
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
    fields = _fields(item)
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
    return source


def _fields(item: object) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return item
    if not isinstance(item, Document):
        return vars(item) if hasattr(item, "__dict__") else {}
    about = item.metadata
    origin = _text(about.get("url") or about.get("source"))
    named = {"title": about.get("title") or origin, "id": about.get("id") if item.id is None else item.id}
    return {**named, "url": origin} if _is_link(origin) else named


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


class Numbering:
    """Gives numbers to sources, in the order in which the points bring them; one that is known keeps its own.

    Examples:
        >>> numbering = Numbering()
        >>> numbering.take("Loosen it [2].", [{"title": "Sun"}, {"title": "Soil"}])
        'Loosen it [2].'
        >>> numbering.take("Dig [1] deep [soil.md].", [{"title": "Spade"}, {"title": "Soil", "id": "soil.md"}])
        'Dig [3] deep [2].'
    """

    def __init__(self) -> None:
        self.sources: list[Source] = []
        """All of them, each with its `number`."""
        self._numbers: dict[str, int] = {}

    def take(self, text: str, sources: Sequence[Source]) -> str:
        """A point's text with the numbers of the whole answer. A number that none of its sources has becomes `[?]`."""
        if not sources:
            return text
        numbers = {str(place): self._number_of(source) for place, source in enumerate(sources, start=1)}
        numbers |= {source["id"]: self._number_of(source) for source in sources if source.get("id")}

        def numbered(keys: list[str]) -> str:
            found = (str(numbers[key]) if key in numbers else key if _PAGE.fullmatch(key) else "?" for key in keys)
            return f"[{', '.join(dict.fromkeys(found))}]"  # however many of them are unknown, one `?` says so

        return _Citations(numbers).replaced(text, numbered)

    def numbered(self, sources: Sequence[Source]) -> list[Source]:
        """A point's sources with their numbers."""
        return [Source(**{**source, "number": self._number_of(source)}) for source in sources]

    def _number_of(self, source: Source) -> int:
        key = source.get("url") or source["title"].casefold()
        if key not in self._numbers:
            self._numbers[key] = len(self.sources) + 1
            self.sources.append(Source(**{**source, "number": len(self.sources) + 1}))
        return self._numbers[key]


class _Citations:
    """Finds the citations in one point's text.

    Args:
        ids: Of its sources. Whatever looks like a place counts as one.
        before: A pattern of what belongs to a citation before its bracket.
    """

    def __init__(self, ids: Collection[str], *, before: str = "") -> None:
        self._ids = ids
        unusual = sorted(filter(_UNUSUAL.search, ids), key=len, reverse=True)
        exact = "|".join(r"\s+".join(map(re.escape, key.split())) for key in unusual) or r"(?!)"
        self._pattern = re.compile(
            rf"{before}(?:"
            # What stands in code is no citation, and [text](link) isn't one either.
            rf"(?P<none>```.*?(?:```|\Z)|`[^`\n]*`|\[(?:{exact})\](?=\())"
            rf"|\[\^?(?P<first>\d{{1,3}})\]{_DASH}\[\^?(?P<last>\d{{1,3}})\](?!\()"
            rf"|\[(?P<keys>(?:{exact}|[^\[\]\n]){{1,{_LONGEST}}}+)\](?!\()"
            r")",
            re.DOTALL,
        )
        self._part = re.compile(rf"\s*((?:{exact})(?=\s*(?:[,;]|\Z))|[^,;]+)")

    def replaced(self, text: str, written: Callable[[list[str]], str]) -> str:
        """The text with each citation replaced by what `written` makes of the keys that it names."""

        def instead(match: re.Match[str]) -> str:
            keys = self._keys(match)
            return written(keys) if keys else match[0]

        return self._pattern.sub(instead, text)

    def keys_in(self, text: str) -> set[str]:
        """All keys that the text cites."""
        return {key for match in self._pattern.finditer(text) for key in self._keys(match)}

    def _keys(self, match: re.Match[str]) -> list[str]:
        """The places and ids that a citation names, ranges written out, with its pages; nothing if it is none."""
        if match["none"] is not None:
            return []
        if match["keys"] is None:
            ends = match["first"], match["last"]
            return _written_out(*ends) or list(ends)
        keys: list[str] = []
        for found in self._part.finditer(match["keys"]):
            part = " ".join(found[1].split())
            key = part if part in self._ids else part.removeprefix("^")
            span = _RANGE.fullmatch(key)
            if key in self._ids or _PLACE.fullmatch(key) or (keys and _PAGE.fullmatch(key)):
                keys.append(key)
            elif span is not None and (places := _written_out(*span.groups())):
                keys += places
            else:
                return []
        return keys


def _written_out(first: str, last: str) -> list[str]:
    """The places of a range; nothing if it begins at 0, for places are counted from 1."""
    return [str(place) for place in range(int(first), int(last) + 1)] if int(first) else []


def without_citations(text: str, sources: Sequence[Source]) -> str:
    """A point's text for the prompt of another point, whose own sources have the same numbers.

    Examples:
        >>> without_citations("Loosen it [1].", [{"title": "Soil"}])
        'Loosen it.'
    """
    if not sources:
        return text
    ids = {source["id"] for source in sources if source.get("id")}
    return _Citations(ids, before=r"(?<![ \t])[ \t]*").replaced(text, lambda _: "")


def cited_keys(text: str, ids: Collection[str]) -> set[str]:
    """The places and ids that a text cites.

    Examples:
        >>> sorted(cited_keys("Dig [soil.md], then water [1-2].", {"soil.md"}))
        ['1', '2', 'soil.md']
    """
    return {key for key in _Citations(ids).keys_in(text) if key in ids or not _PAGE.fullmatch(key)}


def number_sources(expansions: Iterable[Expansion]) -> tuple[list[Expansion], list[Source]]:
    """The expansions with their citations renumbered, and the one list of their sources."""
    numbering = Numbering()
    result: list[Expansion] = []
    for expansion in expansions:
        sources = expansion.get("sources") or []
        text = numbering.take(expansion["text"], sources)
        numbered: Any = {**expansion, "text": text, "sources": numbering.numbered(sources)} if sources else expansion
        result.append(numbered)
    return result, numbering.sources


def list_sources(sources: Iterable[Source]) -> str:
    """A numbered Markdown list. What a title or an address holds can't become other Markdown."""
    return "\n".join(f"{source['number']}. {_line(source)}" for source in sources)


def _line(source: Source) -> str:
    title = re.sub(r"([\[\]\\<>`])", r"\\\1", source["title"])
    url = source.get("url", "")
    if not url:
        return title
    if _is_link(url):
        return f"[{title}]({quote(url, safe=_URL_SAFE)})"
    return title if url == source["title"] else f"{title} ({quote(url, safe=_URL_SAFE)})"
