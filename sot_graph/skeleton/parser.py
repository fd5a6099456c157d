"""From what a model wrote to raw titles: lists of any kind, JSON of any form, whole or while it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from pydantic_core import from_json

MOST_ITEMS = 2000
"""Items that are read of a reply, twice what `max_points` may be: one that never ends must not cost more."""
_MOST_JSON_STARTS = 64
"""Brackets of a text that are tried as the beginning of its JSON."""
_TITLE_KEYS = ("title", "point", "name", "heading", "description", "text")
_NEARLY_JSON = re.compile(
    r"""("(?:[^"\\\n]|\\.){0,300}+")|//[^\n]*|,(?=\s{0,99}[\]}])|'((?:[^'\\\n]|\\.){0,300}+)'(?=\s{0,9}[,:\]}])"""
)
"""A string as JSON has it; and what it has not: a comment, a comma behind the last item, a string in single quotes."""
_LONGEST_MENDED = 20_000
_MOST_UNREAD = 2000
"""Characters without a title, before the list or in it: what comes after them is read when the reply is whole."""
_OPENING = re.compile(r"[{\[]")
LONGEST_ITEM = 1000
"""Characters of a line that are read."""

# An item's mark must not be followed by a digit ("2.5x", "12:30") and may stand behind markup ("## 1.", "**1.").
_MARKUP = r"[#>*_`~\s\u200e\u200f\ufeff]{0,8}"
ITEM_MARK = (
    r"(?:[(\[（]?(?:(?:point|step)\s+)?\d{1,3}\s?[.)\]）、．:：](?!\d)"
    r"|\d{1,3}\s?[-–—](?=\s+\D)"  # "1 - Title"
    r"|[(（]?第(?:\d{1,3}\s?[点點]?[、．.:：)），](?!\d)|[一二三四五六七八九十]{1,3}[点點]?[、．.:：)），])"
    r"|[(（]?[一二三四五六七八九十]{1,3}[、．.:：)）]"
    r"|[\u2460-\u249b])"  # circled, in brackets, with a full stop, in one character
)
_NUMBERED = re.compile(rf"^(?P<indent>\s*){_MARKUP}{ITEM_MARK}(?P<title>.*)$", re.IGNORECASE)
_BULLETED = re.compile(r"^(?P<indent>\s*)[\u200e\u200f\ufeff]?(?:[-*+•‣◦·–—]\s+|[・●○◦■□]\s*)(?P<title>.*)$")


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


def whole_list(text: str, prefill: str, *, is_half: bool) -> str:
    """The whole list of a reply, whether the server repeats the prefill, goes on after it, or never minded it."""
    if prefill and not any(line.lstrip().startswith(prefill) for line in text.splitlines()):
        text = f"{prefill} {text.lstrip()}"
    return text.rpartition("\n")[0] if is_half else text  # half a title is worse than none


def _items(lines: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
    """The items at the outermost indentation."""
    matches = (match for line in lines if (match := pattern.match(line[:LONGEST_ITEM])))
    found = list(islice(matches, MOST_ITEMS))
    if not found:
        return []
    outermost = min(_indentation(match) for match in found)
    return [match["title"] for match in found if _indentation(match) <= outermost + 1]


def numbered_item(line: str) -> tuple[int, str] | None:
    """The indentation and the raw title of a line that is an item of a numbered list."""
    match = _NUMBERED.match(line[:LONGEST_ITEM])
    return None if match is None else (_indentation(match), match["title"])


def item_title(line: str) -> str | None:
    """The raw title of a line that is an item of a list, numbered or bulleted."""
    match = _NUMBERED.match(line[:LONGEST_ITEM]) or _BULLETED.match(line[:LONGEST_ITEM])
    return None if match is None else match["title"]


def _indentation(match: re.Match[str]) -> int:
    return len(match["indent"].expandtabs(4))


def titles_from_json(text: str) -> list[str] | None:
    """The titles in the first JSON value of a text that holds a list of them; `None` if there is none.

    It may be JSON in a string, or nearly JSON: with comments, a comma at a list's end, single or curly quotes.
    """
    if text.lstrip().startswith('"{'):
        with suppress(ValueError, RecursionError):
            text = str(json.loads(text))
    titles = _titles_in(text)
    if titles is None and len(text) < _LONGEST_MENDED:
        titles = _titles_in(_as_json(text))
        if titles is None and '"' not in text:
            titles = _titles_in(_as_json(re.sub("[“”„]", '"', text)))
    return titles


def _as_json(text: str) -> str:
    return _NEARLY_JSON.sub(lambda it: it[1] or ("" if it[2] is None else json.dumps(it[2])), text)


def _titles_in(text: str) -> list[str] | None:
    decoder = json.JSONDecoder()
    for start in islice((position for position, char in enumerate(text[:2000]) if char in "{["), _MOST_JSON_STARTS):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            lists = [item for item in map(_listed, value.values()) if isinstance(item, list)]
            points = _listed(value.get("points", value))
            value = points if isinstance(points, list) else next(iter(lists), None)
        items = value[:MOST_ITEMS] if isinstance(value, list) else ()
        if titles := [title for item in items if (title := title_of(item)) is not None]:
            return titles
    return None


def _listed(value: Any) -> Any:
    """A mapping with numbers for keys as the list that it stands for; any other value as it is."""
    is_numbered = isinstance(value, dict) and value and all(key.isdecimal() for key in value)
    return list(value.values()) if is_numbered else value


def title_of(item: Any) -> str | None:
    """The title in one item of a list: a string, or an object with one."""
    if isinstance(item, str):
        return item
    if isinstance(item, dict):
        for key in _TITLE_KEYS:
            if isinstance(item.get(key), str):
                return str(item[key])
    return None


class TitleScanner:
    """Takes a reply piece by piece, and gives back each raw title once it is whole.

    Of JSON it reads the list that is the whole reply, or that of its `"points"`, be its items strings or objects.
    Anything else is read as numbered lines, without those that are indented below the first. A reply that turns out to
    be something else is for the whole reply's reader.

    Examples:
        >>> scanner = TitleScanner()
        >>> scanner.feed('{"points":["Light", "Wa')
        ['Light']
        >>> scanner.feed('ter"]}')
        ['Water']
    """

    def __init__(self) -> None:
        self.unread = 0
        """Characters that have come since the last title."""
        self._text = ""
        """Of a reply in JSON all that has come, of one in lines the last one, which isn't whole yet."""
        self._is_json: bool | None = None
        self._titles = 0
        self._outermost: int | None = None

    def feed(self, piece: str) -> list[str]:
        """Take the next piece of the reply."""
        titles: list[str] = []
        if self.unread <= _MOST_UNREAD:
            self._text += piece
            if self._is_json is None and (start := self._text.lstrip()):
                self._is_json = start[0] in "{[`"
            titles = self._items(piece) if self._is_json else self._lines()
        self.unread = 0 if titles else self.unread + len(piece)
        return titles

    def _items(self, piece: str) -> list[str]:
        opening = _OPENING.search(self._text)
        if opening is None or not ('"' in piece or "}" in piece):  # an item ends with one of these
            return []
        try:
            value = from_json(self._text[opening.start() :], allow_partial=True)
        except ValueError:
            return []
        items = value.get("points") if isinstance(value, dict) else value
        if not isinstance(items, list):
            return []
        if items and isinstance(items[-1], dict) and not self._text.rstrip(" \t\r\n,]`").endswith("}"):
            items.pop()  # its title may still come
        titles = [title for item in items if (title := title_of(item)) is not None]
        new, self._titles = titles[self._titles :], len(titles)
        return new

    def _lines(self) -> list[str]:
        *lines, self._text = self._text.split("\n")
        titles: list[str] = []
        for item in filter(None, map(numbered_item, lines)):
            indentation, title = item
            if self._outermost is None:
                self._outermost = indentation
            if indentation <= self._outermost + 1:
                titles.append(title)
        return titles
