"""Sources of the points: read from what an expander gave, and renumbered into one list for the whole answer.

A point's text cites its sources by their place in the point's own list, `[1]`, `[1-3]` or `[^1]`, or by their `id`,
`[soil.md]`. Points are written at the same time, so only the whole answer knows a source's number in it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from sot_graph.prompts.rendering import clean_text
from sot_graph.types import Expansion, Source

__all__ = ["Numbering", "cited_keys", "list_sources", "number_sources", "read_sources", "without_citations"]

_DASH = r"\s?[-\u2010-\u2015]\s?"
_CITATION = re.compile(
    r"(?P<code>```.*?(?:```|\Z)|`[^`\n]*`)"  # what stands in code is no citation
    rf"|\[\^?(?P<first>\d{{1,3}})\]{_DASH}\[\^?(?P<last>\d{{1,3}})\](?!\()"
    r"|\[(?P<keys>[^\[\]\n]{1,200})\](?!\()",  # and [text](link) isn't one either
    re.DOTALL,
)
_BETWEEN_KEYS = re.compile(r"\s*[,;]\s*")
_PLACE = re.compile(r"\d{1,3}")
_RANGE = re.compile(rf"(\d{{1,3}}){_DASH}(\d{{1,3}})")
_PAGE = re.compile(r"(?:pp?\.|§)\s?\d.*")
"""Where in a source: `[1, p. 3]`."""
_LINKED = frozenset({"http", "https"})


def read_sources(given: object) -> list[Source]:
    """Sources from what somebody gave: strings, or mappings with `title`, `url`, `id`.

    Raises:
        ValueError: It is no list of these.
    """
    if not isinstance(given, (list, tuple)):
        message = f"the sources are {type(given).__name__}, not a list"
        raise ValueError(message)  # noqa: TRY004  (nobody's program is wrong: an output doesn't fit)
    return [_source(item, position) for position, item in enumerate(given, start=1)]


def _source(item: object, position: int) -> Source:
    if text := _text(item):
        return _of_text(text)
    if isinstance(item, Mapping):
        title, url, key = _text(item.get("title")), _text(item.get("url")), _id(item.get("id"))
        if title or url:
            source = Source(title=title or url)
            if url:
                source["url"] = url
            if key:
                source["id"] = key
            return source
    message = f'source {position} is {item!r:.80}; it must be a text, or a mapping such as {{"title": ..., "url": ...}}'
    raise ValueError(message)


def _id(value: object) -> str:
    return str(value) if type(value) is int else _text(value)  # databases number their rows


def _text(value: object) -> str:
    return " ".join(clean_text(value).split()) if isinstance(value, str) else ""


def _of_text(text: str) -> Source:
    return Source(title=text, url=text) if _is_link(text) and " " not in text else Source(title=text)


def _is_link(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in _LINKED and bool(parts.netloc)


class Numbering:
    """Gives numbers to sources, in the order in which the points bring them; one that is known keeps its own.

    Example:
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

        def renumbered(match: re.Match[str]) -> str:
            keys = _keys(match, numbers)
            return "[" + ", ".join(_numbered(keys, numbers)) + "]" if keys else match[0]

        return _CITATION.sub(renumbered, text)

    def numbered(self, sources: Sequence[Source]) -> list[Source]:
        """A point's sources with their numbers."""
        return [Source(**{**source, "number": self._number_of(source)}) for source in sources]

    def _number_of(self, source: Source) -> int:
        key = source.get("url") or source["title"].casefold()
        if key not in self._numbers:
            self._numbers[key] = len(self.sources) + 1
            self.sources.append(Source(**{**source, "number": len(self.sources) + 1}))
        return self._numbers[key]


def _keys(match: re.Match[str], known: Container[str]) -> list[str]:
    """The places and ids that a citation names, ranges written out, with pages as they are; none: it is no citation."""
    if match["code"] is not None:
        return []
    if match["keys"] is None:
        ends = match["first"], match["last"]
        return _written_out(*ends) or list(ends)
    keys: list[str] = []
    for part in _BETWEEN_KEYS.split(match["keys"].strip()):
        key = part.removeprefix("^")
        span = _RANGE.fullmatch(key)
        if key in known or _PLACE.fullmatch(key) or (keys and _PAGE.fullmatch(key)):
            keys.append(key)
        elif span is not None and (places := _written_out(*span.groups())):
            keys += places
        else:
            return []
    return keys


def _written_out(first: str, last: str) -> list[str]:
    """The places of a range; none: it isn't one of places."""
    return [str(place) for place in range(int(first), int(last) + 1)] if int(first) else []


def _numbered(keys: Iterable[str], numbers: Mapping[str, int]) -> list[str]:
    """The keys as the answer has them. However many of them are unknown, one mark says so."""
    found = (str(numbers[key]) if key in numbers else key if _PAGE.fullmatch(key) else "?" for key in keys)
    return list(dict.fromkeys(found))


def without_citations(text: str, sources: Sequence[Source]) -> str:
    """A point's text for one who writes another point: its numbers would mean others there.

    Example:
        >>> without_citations("Loosen it [1].", [{"title": "Soil"}])
        'Loosen it.'
    """
    known = {str(place) for place in range(1, len(sources) + 1)} | {source.get("id", "") for source in sources}

    def left(match: re.Match[str]) -> str:
        return "" if _keys(match, known) else match[0]

    return re.sub(rf"[ \t]*(?:{_CITATION.pattern})", left, text, flags=re.DOTALL) if sources else text


def cited_keys(text: str, ids: Container[str]) -> set[str]:
    """The places and ids that a text cites.

    Example:
        >>> sorted(cited_keys("Dig [soil.md], then water [1-2].", {"soil.md"}))
        ['1', '2', 'soil.md']
    """
    keys = {key for match in _CITATION.finditer(text) for key in _keys(match, ids)}
    return {key for key in keys if key in ids or not _PAGE.fullmatch(key)}


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


_URL_SAFE = "/:?#@!$&'*+,;=%~-._"
"""What an address may hold; not brackets, which would end the link."""
