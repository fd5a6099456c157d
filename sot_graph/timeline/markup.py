"""Safe HTML and SVG: whatever isn't `Markup` is escaped when it goes into an element."""

from __future__ import annotations

import re
from html import escape

__all__ = ["Markup", "clean", "element", "shorten", "with_bold"]

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters, and what can't be written as UTF-8: no XML holds them."""
_BIDI_CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""They turn the text around them, too. The marks that right-to-left text is spelled with stay."""
_BOLD = re.compile(r"\*\*([^\n*]+)\*\*")


class Markup(str):
    """HTML that is ready to be put into a page."""

    __slots__ = ()


def clean(text: str) -> str:
    """The text without characters that a page can't hold, or that would turn others around."""
    return _BIDI_CONTROLS.sub("", _UNWANTED.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n")))


def element(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """An element; attributes that are `None` are left out, and `_` stands for `-` (`class_` for `class`).

    Example:
        >>> element("b", "1 < 2", element("i", "!"), class_="x")
        '<b class="x">1 &lt; 2<i>!</i></b>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{''.join(map(_escaped, children))}</{name}>")


def with_bold(text: str) -> Markup:
    """The text with `**bold**` as such, all else as it is written."""
    return Markup(_BOLD.sub(r"<strong>\1</strong>", _escaped(text)))


def shorten(text: str, length: int) -> str:
    """The text on one line, with an ellipsis if it is longer than `length` characters."""
    line = " ".join(clean(text[: 4 * length]).split())
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


def _escaped(text: str) -> str:
    return text if isinstance(text, Markup) else escape(clean(text))
