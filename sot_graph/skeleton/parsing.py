"""From what a model wrote to clean titles: lists of any kind, JSON somewhere in a text, titles with markup."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from sot_graph.types import SkeletonPoint

__all__ = [
    "TitleSieve",
    "clean_title",
    "clean_titles",
    "number_points",
    "numbered_item",
    "parse_skeleton",
    "title_of",
    "titles_from_json",
]

MAX_TITLE_CHARS = 120
"""A title is a few words on one line; what is longer would only carry text into the other points' prompts."""
_LONG_TITLE_WORDS = 8
_SIMILAR = 0.6
MOST_ITEMS = 2000
"""Twice what `max_points` may be: a reply that never ends must not cost more than it can give."""
_MOST_JSON_STARTS = 64
_LONGEST_ITEM = 1000

# An item's mark must not be followed by a digit ("2.5x", "12:30") and may stand behind markup ("## 1.", "**1.").
_MARKUP = r"[#>*_`~\s]{0,8}"
_MARK = (
    r"(?:[(\[（]?(?:(?:point|step)\s+)?\d{1,3}\s?[.)\]）、．:：](?!\d)"
    r"|\d{1,3}\s?[-–—](?=\s+\D)"  # "1 - Title"
    r"|第?[一二三四五六七八九十]{1,3}[点點]?[、．.:：])"
)
_NUMBERED = re.compile(rf"^(?P<indent>\s*){_MARKUP}{_MARK}(?P<title>.*)$", re.IGNORECASE)
_BULLETED = re.compile(r"^(?P<indent>\s*)(?:[-*+•‣◦·–—])\s+(?P<title>.*)$")
_LEADING_NUMBER = re.compile(rf"^\s*{_MARK}\s*", re.IGNORECASE)
_LEADING_MARKUP = " \t#>*_`~-+•‣◦·–—"
_TRAILING_MARKUP = " \t*_`~:：.;,、。，；"
_QUOTES = {
    '"': '"',
    "'": "'",
    "“": "”",
    "„": "“”",
    "‘": "’",
    "«": "»",
    "»": "«",
    "「": "」",
    "『": "』",
    "《": "》",
}
_BOLD_HEAD = re.compile(r"^\s*(?:\*\*|__)(?P<title>[^*_]+?)(?P<colon>[:：]?)(?:\*\*|__)(?P<dash>\s*[:：–—-])?")
_SPACES = re.compile(r"\s+")
# Without U+200C and U+200D, which are spelling in Persian and glue in emoji; with lone surrogates, which nothing takes.
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DESCRIPTION = re.compile(r"[:：]\s|\s[-–—]\s")
_WORD = re.compile(r"[^\W_]+")
_TITLE_KEYS = ("title", "point", "name", "heading", "description", "text")
_STEM_SUFFIXES = ("ing", "ed", "es", "s", "ly")


def parse_skeleton(text: str) -> list[str]:
    """The raw titles in a model's free text: JSON if there is some, else a numbered, else a bulleted list.

    Text before and after, lines that continue an item, and sub-items are left out.
    """
    lines = text.splitlines()
    numbered = _items(lines, _NUMBERED)
    titles = titles_from_json(text)
    if titles is not None and len(titles) >= len(numbered):  # else it is an example within an item: '2. Use ["a"]'
        return titles
    if len(numbered) > 1:
        return numbered
    return max(numbered, _items(lines, _BULLETED), key=len)  # "Step 1: here is a list" is no list


def _items(lines: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
    """The items at the outermost indentation."""
    matches = (match for line in lines if (match := pattern.match(line[:_LONGEST_ITEM])))
    found = list(islice(matches, MOST_ITEMS))
    if not found:
        return []
    outermost = min(_indentation(match) for match in found)
    return [match["title"] for match in found if _indentation(match) <= outermost + 1]


def numbered_item(line: str) -> tuple[int, str] | None:
    """The indentation and the raw title of a line that is an item of a numbered list."""
    match = _NUMBERED.match(line[:_LONGEST_ITEM])
    return None if match is None else (_indentation(match), match["title"])


def _indentation(match: re.Match[str]) -> int:
    return len(match["indent"].expandtabs(4))


def titles_from_json(text: str) -> list[str] | None:
    """The titles in the first JSON value of a text that holds a list of them; `None` if there is none."""
    decoder = json.JSONDecoder()
    for start in islice((position for position, char in enumerate(text[:2000]) if char in "{["), _MOST_JSON_STARTS):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        titles = _titles_in(value)
        if titles:
            return titles
    return None


def _titles_in(value: Any) -> list[str] | None:
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        value = value.get("points") if isinstance(value.get("points"), list) else next(iter(lists), None)
    if not isinstance(value, list):
        return None
    titles = [title for item in value[:MOST_ITEMS] if (title := title_of(item)) is not None]
    return titles or None


def title_of(item: Any) -> str | None:
    """The title in one item of a list: a string, or an object with one."""
    if isinstance(item, str):
        return item
    if isinstance(item, dict):
        for key in _TITLE_KEYS:
            if isinstance(item.get(key), str):
                return str(item[key])
    return None


def clean_title(raw: str, *, max_words: int | None = None) -> str:
    """One line of plain words: no numbering, markup, quotes, invisible characters, or description behind it."""
    title = _SPACES.sub(" ", _INVISIBLE.sub(" ", raw[:_LONGEST_ITEM])).strip()
    title = _bold_head(title)
    previous = None
    while title != previous:  # "**1. "Title"**" wears several layers
        previous = title
        title = _LEADING_NUMBER.sub("", title.lstrip(_LEADING_MARKUP))
        title = _unquoted(title.rstrip(_TRAILING_MARKUP))
        title = _SPACES.sub(" ", title.replace("**", "").replace("__", "").replace("`", ""))
    title = _shortened(title, max_words)
    return title if _WORD.search(title) or any(ord(char) > 0x2FFF for char in title) else ""  # noqa: PLR2004


def _bold_head(title: str) -> str:
    """What is bold at the start, where the rest is about it: "**Title**: and more"."""
    bold = _BOLD_HEAD.match(_LEADING_NUMBER.sub("", title.lstrip("#> ")))
    if bold is None:
        return title
    # "**Eat** more vegetables" is a title with a bold word in it; a long one is a title and a sentence.
    is_head = bold["colon"] or bold["dash"] or len(title.split()) > _LONG_TITLE_WORDS
    return bold["title"] if is_head else title


def _unquoted(title: str) -> str:
    """Without a pair of quotes around the whole; those of '"A" and "B"' stay."""
    if len(title) < 2 or title[-1] not in _QUOTES.get(title[0], ""):  # noqa: PLR2004
        return title
    inner = title[1:-1]
    is_whole = title[0] not in (re.sub(r"\b'\b", "", inner) if title[0] == "'" else inner)
    return inner.strip() if is_whole else title


def _shortened(title: str, max_words: int | None) -> str:
    """Without the description behind it where it is long, and within the limits of words and characters."""
    if len(title.split()) > (max_words or _LONG_TITLE_WORDS) or (max_words and _DESCRIPTION.search(title)):
        title = _DESCRIPTION.split(title, maxsplit=1)[0].rstrip(_TRAILING_MARKUP) or title
    if max_words:
        title = " ".join(title.split()[:max_words]).rstrip(_TRAILING_MARKUP)
    if len(title) > MAX_TITLE_CHARS:
        title = title[: MAX_TITLE_CHARS - 1].rstrip(_TRAILING_MARKUP) + "…"
    return title


class TitleSieve:
    """Takes raw titles one by one, and gives back those that are clean and new.

    Args:
        max_words: Titles are cut after so many words; `None`: not cut.
        drop_similar: Whether a title that says much the same as an earlier one is left out.
    """

    def __init__(self, *, max_words: int | None = None, drop_similar: bool = False) -> None:
        self._max_words = max_words
        self._drop_similar = drop_similar
        self._stems: list[frozenset[str]] = []
        self._keys: set[str] = set()

    def take(self, raw: str) -> str | None:
        """The clean title; `None`: there is nothing in it, or nothing new."""
        title = clean_title(raw, max_words=self._max_words)
        words = _WORD.findall(title.casefold())
        key = " ".join(words) or title.casefold()
        stems = frozenset(map(_stem, words))
        if not title or key in self._keys or (self._drop_similar and any(_similar(stems, one) for one in self._stems)):
            return None
        self._keys.add(key)
        self._stems.append(stems)
        return title


def clean_titles(raw: Iterable[str], *, max_words: int | None = None, drop_similar: bool = False) -> list[str]:
    """Clean titles, without empty ones and without repetitions."""
    sieve = TitleSieve(max_words=max_words, drop_similar=drop_similar)
    return [title for item in islice(raw, MOST_ITEMS) if (title := sieve.take(item)) is not None]


def _similar(left: frozenset[str], right: frozenset[str]) -> bool:
    """Whether two titles say much the same: one within the other, or most words shared (Jaccard)."""
    if not left or not right:
        return False
    return left <= right or right <= left or len(left & right) / len(left | right) >= _SIMILAR


def _stem(word: str) -> str:
    for suffix in _STEM_SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:  # noqa: PLR2004
            return word.removesuffix(suffix)
    return word


def number_points(titles: Iterable[str]) -> list[SkeletonPoint]:
    """Points with the indices 1, 2, ... A model's own numbers are never used."""
    return [SkeletonPoint(index=index, title=title, depends_on=[]) for index, title in enumerate(titles, start=1)]
