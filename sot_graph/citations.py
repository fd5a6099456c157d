"""Sources of the points: read from what an expander gave, and renumbered into one list for the whole answer.

A point's text cites its sources by their place in the point's own list, `[1]`, or by their `id`, `[soil.md]`. Points
are written at the same time, so only the whole answer knows a source's number in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from sot_graph.types import Expansion, Source

__all__ = ["Numbering", "list_sources", "number_sources", "read_sources"]

_CITATION = re.compile(
    r"(?P<code>```.*?(?:```|\Z)|`[^`\n]*`)"  # what stands in code is no citation
    r"|\[(?P<keys>[^\[\]\n]{1,200})\](?!\()",  # and [text](link) isn't one either
    re.DOTALL,
)
_BETWEEN_KEYS = re.compile(r"\s*[,;]\s*")
_PLACE = re.compile(r"\d{1,3}")
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
    if isinstance(item, str) and item.strip():
        return _of_text(item.strip())
    if isinstance(item, Mapping):
        title, url, key = (_text(item.get(name)) for name in ("title", "url", "id"))
        if title or url:
            source = Source(title=title or url)
            if url:
                source["url"] = url
            if key:
                source["id"] = key
            return source
    message = f'source {position} is {item!r:.80}; it must be a text, or a mapping such as {{"title": ..., "url": ...}}'
    raise ValueError(message)


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _of_text(text: str) -> Source:
    text = " ".join(text.split())
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
            if match["code"] is not None:
                return match[0]
            keys = _BETWEEN_KEYS.split(match["keys"].strip())
            if not all(key in numbers or _PLACE.fullmatch(key) for key in keys):
                return match[0]
            return "[" + ", ".join(str(numbers.get(key, "?")) for key in keys) + "]"

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
