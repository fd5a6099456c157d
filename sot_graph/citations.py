"""Sources of the points: read from what an expander gave, and renumbered into one list for the whole answer.

A point's text cites its sources by their place in the point's own list, `[1]`, `[1-3]` or `[^1]`, or by their name,
`[soil.md]`. Points are written at the same time, so only the whole answer knows a source's number in it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from hashlib import sha256
from itertools import zip_longest
from pathlib import PurePath
from typing import Any, cast
from urllib.parse import quote, urlsplit
from uuid import UUID

from langchain_core.documents import Document
from pydantic import AnyUrl

from sot_graph.prompts.messages import clean_text
from sot_graph.state import fields_of, plain_value
from sot_graph.types import CitationStyle, Expansion, Source

_DASH = r"\s?[-\u2010-\u2015]\s?"
_PLACE = re.compile(r"\d{1,3}")
_RANGE = re.compile(rf"(\d{{1,3}}){_DASH}(\d{{1,3}})")
_PAGE = re.compile(r"(?:(?:pp?|pg|S|pág|стр)\.|pages?\b|Seiten?\b|página\b|第|§)\s?\d.*", re.IGNORECASE)
"""Where in a source: `[1, p. 3]`."""
_PLACES = re.compile(r"\d{1,3}(?:\s?(?:[&\u3001\uff0c]|(?:and|und|et|y|e)\b)\s?\d{1,3})+", re.IGNORECASE)
"""Several places without a comma between them."""
_PLACE_AND_PAGE = re.compile(rf"(\d{{1,3}})(?:[:\u3001\uff0c]\s?|\s)({_PAGE.pattern})", re.IGNORECASE)
_FILE = re.compile(r"\S\.[A-Za-z]\w{1,4}$")
"""The end of a file's name. With a page behind it, it is meant as a citation, whether there is such a source or not."""
_LONGEST_CITATION = 200
"""Characters between the brackets. Only a known id may be longer."""
_MAY_GO_ON = re.compile(r"(?:\s?[-\u2010-\u2015]?\s?(?:\[[^\[\]\n]*)?)?")
"""What may stand behind a citation that isn't whole yet: it may become a range, or a link."""
_SNIPPET = 300
"""Characters of a document's text that its source keeps, and of each text in its metadata."""
_TITLE_CHARS = 60
"""Characters of a document's text that stand for a title."""
_RESCANNED = 1.1
"""A text that is held back is looked at again once it has grown by so much: so all looks together take linear time."""
_UNUSUAL = re.compile(rf"[\s,;\[\]^]|.{{{_LONGEST_CITATION}}}")
"""Ids that hold separators or brackets, or are very long: they are found only by their exact text."""
_MARKDOWN = re.compile(r"[\[\]\\<>`*]|~(?=~)|(?<![^\W_])_|_(?![^\W_])")
"""What could make other Markdown of a title. An underscore within a word can't."""
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
    return cast("Source", {**source, **_kept_fields(fields)})


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
    # Files may have equal titles, and where they are is nobody's business who reads the answer.
    if told_by := text if not (title or origin) else origin if title and "url" not in source else "":
        source["fingerprint"] = sha256(told_by.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if opening:
        source["page_content"] = _shortened(opening, _SNIPPET)
    if metadata:
        source["metadata"] = {
            str(name): _shortened(value, _SNIPPET) if isinstance(value, str) else value
            for name, value in metadata.items()
        }
    return source


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
    named += [each for each in (title, url, _file_name(title), _file_name(url)) if 0 < len(each) <= _LONGEST_CITATION]
    # A title `2` would be taken for the second source. So would an id, where a prompt shows places.
    has_number = "place" not in source
    return [name for place, name in enumerate(named) if name and ((has_number and place == 0) or not is_number(name))]


def is_number(name: str) -> bool:
    """Whether a name reads like a source's place in a list."""
    return _PLACE.fullmatch(name) is not None


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


@dataclass(slots=True)
class Numbering:
    """Gives numbers to sources, in the order in which the answer cites them; one that is known keeps its own.

    Examples:
        >>> numbering = Numbering()
        >>> numbering.renumber("Loosen it [2].", [{"title": "Sun"}, {"title": "Soil"}])
        'Loosen it [1].'
        >>> numbering.renumber("Dig [1] deep [soil.md].", [{"title": "Spade"}, {"title": "Soil", "id": "soil.md"}])
        'Dig [2] deep [1].'
    """

    style: CitationStyle = "brackets"
    """`"brackets"`: `[1, 2]`; `"footnotes"`: `[^1][^2]`."""
    _: KW_ONLY
    lists_all: bool = False
    """Whether sources that nothing cites have numbers, too."""
    sources: list[Source] = field(default_factory=list)
    """All that have a number, each with its `number`."""
    unsupported: int = 0
    """How many citations name a source that there isn't: each number of a range counts."""
    _numbers: dict[tuple[str, ...], int] = field(default_factory=dict)

    def renumber(self, text: str, sources: Sequence[Source] | None) -> str:
        """A text with the numbers of the whole answer. A number that none of its sources has becomes `[?]`.

        Args:
            text: A point's, or another section's.
            sources: What it may cite; `None`: it cites nothing, whatever stands in brackets.
        """
        if sources is None:
            return text
        cited = CitedText(self, sources)
        return cited.feed(text) + cited.finish()

    def rendered(self, keys: Sequence[str], find: Callable[[str, str], Source | None]) -> str:
        """A citation as it stands in the answer. It names `keys`: places, names, and pages behind these.

        `find` gives the source of a place or a name, and of the page that is named behind it.
        """
        numbers: list[str] = []
        pages: list[str] = []
        for key, following in zip_longest(keys, keys[1:], fillvalue=""):
            page = re.search(r"\d+", following) if _PAGE.fullmatch(following) else None
            source = find(key, page[0] if page else "")
            if source is not None:
                numbers.append(str(self.number_of(source)))
            elif _PAGE.fullmatch(key) and self.style == "footnotes":
                pages.append(key)
            elif _PAGE.fullmatch(key):
                numbers = [*numbers[:-1], ", ".join([*numbers[-1:], key])]  # of the source before it
            else:
                self.unsupported += 1
                numbers.append("?")
        numbers = list(dict.fromkeys(numbers))  # however many of them are unknown, one `?` says so
        if self.style == "brackets":
            return f"[{', '.join(numbers)}]"
        marks = "".join("[?]" if number == "?" else f"[^{number}]" for number in numbers)
        return f"{marks} ({', '.join(pages)})" if pages else marks

    def numbered(self, sources: Sequence[Source]) -> list[Source]:
        """Those of a point's sources that the answer has, with their numbers."""
        numbers = [(source, self._numbers.get(_identity(source))) for source in sources]
        return [Source(**{**source, "number": number}) for source, number in numbers if number is not None]

    def knows(self, source: Source) -> bool:
        """Whether the source has a number."""
        return _identity(source) in self._numbers

    def number_of(self, source: Source) -> int:
        """The number of a source, the next one if it has none yet."""
        key = _identity(source)
        if key not in self._numbers:
            self._numbers[key] = len(self.sources) + 1
            listed = Source(**{**source, "number": len(self.sources) + 1})
            listed.pop("place", None)
            listed.pop("fingerprint", None)
            self.sources.append(listed)
        return self._numbers[key]

    def listed(self, head: str) -> str:
        """The list of the sources, as it stands at the answer's end, behind a head; nothing where there are none."""
        if not self.sources:
            return ""
        return ("\n\n" if self.style == "footnotes" else head) + list_sources(self.sources, self.style)


def _identity(source: Source) -> tuple[str, ...]:
    """What a source is told from others by: two with the same identity are one source."""
    # A file's passages are one source, its pages are not.
    return (source.get("url") or source["title"].casefold(), str(source.get("page", "")), source.get("fingerprint", ""))


class CitedText:
    """Numbers the citations of one text, also while it is written: what may yet become one waits until it can't.

    Args:
        numbering: Of the whole answer. Texts are begun in the answer's order.
        sources: What the text may cite.
    """

    def __init__(self, numbering: Numbering, sources: Sequence[Source]) -> None:
        names: dict[str, Source] = {}
        self._pages: dict[tuple[str, str], Source] = {}
        """By a name and a page: a file of many pages is as many sources of one name."""
        for source in sources:
            for name in names_of(source):
                names.setdefault(name, source)
                if "page" in source:
                    self._pages.setdefault((name, str(source["page"])), source)
        places = {str(source.get("place", place)): source for place, source in enumerate(sources, start=1)}
        # An id may be a number, too. Documents are cited by what a prompt shows (`place`), others by their ids.
        ids = {source["id"]: source for source in sources if source.get("id") and "place" not in source}
        self._known: Mapping[str, Source] = {**names, **places, **ids}
        self._citations = _Citations(self._known.keys())
        self._numbering = numbering
        self._waiting = ""
        self._looked_at = 0
        if numbering.lists_all:
            for source in sources:
                numbering.number_of(source)

    def feed(self, piece: str) -> str:
        """Take the next piece; give back what can be read now."""
        self._waiting += piece
        if len(self._waiting) < self._looked_at * _RESCANNED:
            return ""
        length = self._citations.decided_length(self._waiting)
        ready, self._waiting = self._waiting[:length], self._waiting[length:]
        self._looked_at = len(self._waiting)
        return self._numbered(ready)

    def finish(self) -> str:
        """What is left when the text has ended."""
        ready, self._waiting = self._waiting, ""
        return self._numbered(ready)

    def _numbered(self, text: str) -> str:
        def find(key: str, page: str) -> Source | None:
            return self._pages.get((key, page)) or self._known.get(key)

        return self._citations.replaced(text, lambda keys: self._numbering.rendered(keys, find))


class _Citations:
    """Finds the citations in one point's text.

    Args:
        known: What its sources are cited by: names, places and ids. Whatever else looks like a place counts as one.
        before: A pattern of what belongs to a citation before its bracket.
    """

    def __init__(self, known: Collection[str], *, before: str = "") -> None:
        self._known = known
        unusual = sorted(filter(_UNUSUAL.search, known), key=len, reverse=True)
        exact = "|".join(r"\s+".join(map(re.escape, key.split())) for key in unusual) or r"(?!)"
        self._pattern = re.compile(
            rf"{before}(?:"
            # What stands in code is no citation, and [text](link) isn't one either.
            rf"(?P<none>(?P<fence>`{{3,}}|~{{3,}}).*?(?:(?P=fence)|\Z)|`[^`\n]*`|\[(?:{exact})\](?=\())"
            rf"|\[\^?(?P<first>\d{{1,3}})\]{_DASH}\[\^?(?P<last>\d{{1,3}})\](?!\()"
            rf"|\[(?P<keys>(?:{exact}|[^\[\]\n]){{1,{_LONGEST_CITATION}}}+)\](?!\()"
            r")",
            re.DOTALL,
        )
        self._part = re.compile(rf"\s*((?:{exact})(?=\s*(?:[,;]|\Z))|[^,;]+)")
        self._has_brackets = any(re.search(r"[\[\]]", key) for key in unusual)
        inside = r"[^\[\]]" if any(" " in key for key in unusual) else r"[^\[\]\n]"
        # What may open something at a text's end. Two backticks, or tildes, are the beginning of a fence.
        self._opened = re.compile(r"(?:``|~~?)\Z"), re.compile(r"`[^`\n]*\Z"), re.compile(rf"\[{inside}*\Z")

    def decided_length(self, text: str) -> int:
        """How many characters of an unfinished text nothing that follows can change.

        The rest begins with what may yet become a citation, a range of them, a link, or code.
        """
        if self._has_brackets:  # of an id: then a bracket inside one can't be told from one that ends it
            return len(text.partition("[")[0].partition("`")[0])
        end, opened = 0, [found.start() for pattern in self._opened if (found := pattern.search(text))]
        for match in self._pattern.finditer(text):
            undecided = [start for start in opened if end <= start < match.start()]
            if undecided or _MAY_GO_ON.fullmatch(text, match.end()):
                return min([*undecided, match.start()])
            end = match.end()
        return min([start for start in opened if start >= end], default=len(text))

    def replaced(self, text: str, written: Callable[[list[str]], str]) -> str:
        """The text with each citation replaced by what `written` makes of the keys that it names."""

        def instead(match: re.Match[str]) -> str:
            keys = self._keys(match)
            return written(keys) if keys else match[0]

        return self._pattern.sub(instead, text)

    def _keys(self, match: re.Match[str]) -> list[str]:
        """The places and ids that a citation names, ranges written out, with its pages; nothing if it is none."""
        if match["none"] is not None:
            return []
        if match["keys"] is None:
            ends = match["first"], match["last"]
            return _places_of_range(*ends) or [str(int(place)) for place in ends if int(place)]
        keys: list[str] = []
        parts: list[str] = []
        for found in self._part.finditer(match["keys"]):
            part = " ".join(found[1].split())
            both = None if part in self._known else _PLACE_AND_PAGE.fullmatch(part)
            several = part not in self._known and _PLACES.fullmatch(part)
            parts += both.groups() if both else _PLACE.findall(part) if several else [part]
        for part, following in zip_longest(parts, parts[1:], fillvalue=""):
            key = part if part in self._known else part.removeprefix("^")
            span = _RANGE.fullmatch(key)
            is_page, is_file = keys and _PAGE.fullmatch(key), _FILE.search(key) and _PAGE.fullmatch(following)
            if key in self._known or is_page or is_file:
                keys.append(key)
            elif _PLACE.fullmatch(key) and int(key):  # in the digits of any script; an interval may begin at 0
                keys.append(str(int(key)))
            elif span is not None and (places := _places_of_range(*span.groups())):
                keys += places
            else:
                return []
        return keys


def _places_of_range(first: str, last: str) -> list[str]:
    """The places of a range; nothing if it begins at 0, for places are counted from 1."""
    return [str(place) for place in range(int(first), int(last) + 1)] if int(first) else []


def without_its_citations(expansion: Expansion) -> Expansion:
    """A point without its citations, for the prompts of other texts, whose own sources have the same numbers.

    Examples:
        >>> without_its_citations({"text": "Loosen it [1].", "sources": [{"title": "Soil"}]})["text"]
        'Loosen it.'
    """
    if not (sources := expansion.get("sources")):
        return expansion
    names = {name for source in sources for name in names_of(source)}
    text = _Citations(names, before=r"(?<![ \t])[ \t]*").replaced(expansion["text"], lambda _: "")
    return Expansion(**{**expansion, "text": text})


def cited_sources(text: str, sources: Sequence[Source]) -> list[Source]:
    """Those of its sources that a text cites."""
    numbering = Numbering()
    numbering.renumber(text, sources)
    return [source for source in sources if numbering.knows(source)]


def number_sources(expansions: Iterable[Expansion], numbering: Numbering) -> list[Expansion]:
    """The expansions with their citations renumbered over the whole answer."""
    result: list[Expansion] = []
    for expansion in expansions:
        sources = expansion.get("sources")
        if sources is None:
            result.append(expansion)
            continue
        text = numbering.renumber(expansion["text"], sources)
        numbered: Any = {**expansion, "text": text, "sources": numbering.numbered(sources)}
        result.append(numbered)
    return result


def list_sources(sources: Iterable[Source], style: CitationStyle = "brackets") -> str:
    """A numbered Markdown list, or footnotes. What a title or an address holds can't become other Markdown."""
    mark = "[^{}]: {}" if style == "footnotes" else "{}. {}"
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for source in (listed := list(sources)):
        ids[source["title"]].add(source.get("id", ""))
    return "\n".join(
        mark.format(each["number"], _listed_source(each, is_alone=len(ids[each["title"]]) == 1)) for each in listed
    )


def _listed_source(source: Source, *, is_alone: bool) -> str:
    """A line of the list. `is_alone`: no other source there has the same title; else a file's name tells them apart."""
    title, name, url = source["title"], source.get("id", ""), source.get("url", "")
    if not (is_alone or url) and name != title and _FILE.search(name):
        title = f"{title} ({name})"
    title = _MARKDOWN.sub(r"\\\g<0>", title)
    if _is_link(url):
        title = f"[{title}]({quote(url, safe=_URL_SAFE)})"
    elif url and url != source["title"]:
        title = f"{title} ({quote(url, safe=_URL_SAFE)})"
    page = re.sub(r"[^\w.,/ \u2010-\u2015-]", "", str(source.get("page", "")))
    return f"{title}, p. {page}" if page else title
