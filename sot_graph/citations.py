"""Citations of the points' texts, renumbered over the whole answer.

A point's text cites its sources by their place in the point's own list, `[1]`, `[1-3]` or `[^1]`, or by their name,
`[soil.md]`. Points are written at the same time, so only the whole answer knows a source's number in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import zip_longest
from typing import Any

from sot_graph.sources import LONGEST_NAME, PLACE, list_sources, names_of
from sot_graph.types import CitationStyle, Expansion, Source

_DASH = r"\s?[-\u2010-\u2015]\s?"
_RANGE = re.compile(rf"(\d{{1,3}}){_DASH}(\d{{1,3}})")
_PAGE = re.compile(r"(?:(?:pp?|pg|S|pág|стр)\.|pages?\b|Seiten?\b|página\b|第|§)\s?\d.*", re.IGNORECASE)
"""Where in a source: `[1, p. 3]`."""
_PLACES = re.compile(rf"{_RANGE.pattern}|\d{{1,3}}|{_PAGE.pattern}", re.IGNORECASE)
"""One of several that stand together: a place, a range, or a page."""
_AND = re.compile(r"\s*(?:[&\u3001\uff0c\uff1b]|\b(?:and|und|et|y|e)\b)\s*", re.IGNORECASE)
_PLACE_AND_PAGE = re.compile(rf"(\d{{1,3}})(?::\s?|\s)({_PAGE.pattern})", re.IGNORECASE)
_FILE = re.compile(r"\S\.[A-Za-z]\w{1,4}$")
"""The end of a file's name. With a page behind it, it is meant as a citation, whether there is such a source or not."""
_MAY_GO_ON = re.compile(r"(?:\s?[-\u2010-\u2015]?\s?(?:\[[^\[\]\n]*)?)?")
"""What may stand behind a citation that isn't whole yet: it may become a range, or a link."""
_RESCANNED = 1.1
"""A text that is held back is looked at again once it has grown by so much: so all looks together take linear time."""
_UNUSUAL = re.compile(rf"[\s,;\[\]^]|.{{{LONGEST_NAME}}}")
"""Ids that hold separators or brackets, or are very long: they are found only by their exact text."""


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
            number = str(int(page)) if page else ""  # in the digits of any script
            return self._pages.get((key, page)) or self._pages.get((key, number)) or self._known.get(key)

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
            rf"(?P<none>(?P<fence>`{{3,}}).*?(?:(?P=fence)`*|\Z)|`[^`\n]*`|\[(?:{exact})\](?=\())"
            rf"|\[\^?(?P<first>\d{{1,3}})\]{_DASH}\[\^?(?P<last>\d{{1,3}})\](?!\()"
            rf"|\[(?P<keys>(?:{exact}|[^\[\]\n]){{1,{LONGEST_NAME}}}+)\](?!\()"
            r")",
            re.DOTALL,
        )
        self._part = re.compile(rf"\s*((?:{exact})(?=\s*(?:[,;]|\Z))|[^,;]+)")
        self._has_brackets = any(re.search(r"[\[\]]", key) for key in unusual)
        inside = r"[^\[\]]" if any(" " in key for key in unusual) else r"[^\[\]\n]"
        # What may open something at a text's end. Two backticks are the beginning of a fence.
        self._opened = re.compile(r"``\Z"), re.compile(r"`[^`\n]*\Z"), re.compile(rf"\[{inside}*\Z")

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

    def _parts(self, inside: str) -> list[str]:
        """What stands between the separators of a citation: places, ranges, names and pages."""
        parts: list[str] = []
        for found in self._part.finditer(inside):
            part = " ".join(found[1].split())
            if part in self._known or _PAGE.fullmatch(part):
                parts.append(part)
            elif both := _PLACE_AND_PAGE.fullmatch(part):
                parts += both.groups()
            else:
                several = _AND.split(part)
                if parts and not several[0]:  # "2, and 3"
                    several = several[1:]
                are_known = all(_PLACES.fullmatch(each) or each in self._known for each in several)
                parts += several if are_known else [part]
        return parts

    def _keys(self, match: re.Match[str]) -> list[str]:
        """The places and ids that a citation names, ranges written out, with its pages; nothing if it is none."""
        if match["none"] is not None:
            return []
        if match["keys"] is None:
            ends = [int(match["first"]), int(match["last"])]
            return _places_of_range(*ends) or [str(place) for place in ends if all(ends)]
        keys: list[str] = []
        parts = self._parts(match["keys"])
        for part, following in zip_longest(parts, parts[1:], fillvalue=""):
            key = part if part in self._known else part.removeprefix("^")
            span = _RANGE.fullmatch(key)
            is_page, is_file = keys and _PAGE.fullmatch(key), _FILE.search(key) and _PAGE.fullmatch(following)
            if key in self._known or is_page or is_file:
                keys.append(key)
            elif PLACE.fullmatch(key) and int(key):  # in the digits of any script; an interval may begin at 0
                keys.append(str(int(key)))
            elif span is not None and (places := _places_of_range(*map(int, span.groups()))):
                keys += places
            else:
                return []
        return keys


def _places_of_range(first: int, last: int) -> list[str]:
    """The places of a range; nothing if it begins at 0, for places are counted from 1."""
    return [str(place) for place in range(first, last + 1)] if first else []


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
    return Expansion(**{**expansion, "text": text if text == expansion["text"] else text.strip()})


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
