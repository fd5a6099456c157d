"""Titles in a reply that is JSON, be it of another form than was asked for, or nearly JSON."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from itertools import islice
from typing import Any

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


def titles_from_json(text: str) -> list[str] | None:
    """The titles in the first JSON value of a text that holds a list of them; `None` if there is none.

    It may be JSON in a string, or nearly JSON: with comments, a comma at a list's end, or single quotes.
    """
    if text.lstrip().startswith('"{'):
        with suppress(ValueError, RecursionError):
            text = str(json.loads(text))
    titles = _titles_in(text)
    if titles is None and len(text) < _LONGEST_MENDED:
        titles = _titles_in(_NEARLY_JSON.sub(lambda it: it[1] or ("" if it[2] is None else json.dumps(it[2])), text))
    return titles


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
