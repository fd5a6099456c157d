"""Keeping the prompts' delimiters to the prompts: data that looks like one of them is escaped.

A model reads over what a comparison of strings would stop at: characters that can't be seen, other widths and
cases, letters that look alike. So the text is compared in a folded form, and changed in its own.

A model also reads what a person can't see at all: letters of Unicode's tags, bytes as variation selectors, bits as
white characters. What can only be such a text is escaped, too, so that whoever reads the prompt or the answer sees it.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

_NAMES = (
    *("question", "point", "skeleton", "history", "comment", "tool_result", "written", "note", "document", "said"),
    *("first_answer", "second_answer"),
)
_ONE_STROKE = dict.fromkeys("il", "[il]")
"""One stroke is one letter or the other, depending on who reads it."""
_DELIMITER = re.compile(
    # One gap before the name that holds the slashes too: two side by side would try every split of a long run.
    # A quotation mark or a bracket of another kind around a name is ordinary, unless there is a slash.
    r"(?:<[ /]*|‹ *(?=/)[ /]*)"
    rf"(?:{'|'.join(' *'.join(_ONE_STROKE.get(letter, letter) for letter in name) for name in _NAMES)})(?![a-z0-9_])"
)
_LEFT_ANGLE = re.compile(r"\bLEFT\b.*\b(?:ANGLE|ARROWHEAD|TRIANGLE)\b|\bNORMAL SUBGROUP OF$")
_LATIN = re.compile(r"\bLETTER (?:SMALL CAPITAL |[A-Z]{2,} )*([A-Z])(?: WITH\b|$)")
_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Hangul fillers and a blank braille pattern: letters and a symbol by their category, but nothing is printed."""
_IGNORED = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Unicode's `Default_Ignorable_Code_Point`: nothing is drawn for them."""
_HIDDEN_TEXT = re.compile(
    # A flag such as Scotland's, and one form of a Chinese character, are spelled with them.
    "(?P<spelling>\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f"
    rf"|[\u3400-\u9fff\U00020000-\U0003ffff][\U000e0100-\U000e01ef](?![{_IGNORED}]))"
    rf"|[\U000e0000-\U000e0fff]+|[\ufe00-\ufe0f]{{2,}}|[{_IGNORED}]{{4,}}"
)
_NOT_IN_A_TITLE = re.compile(f"(?![\u200b-\u200f\ufe0e\ufe0f])[{_IGNORED}]")
"""All but what Persian and emoji are spelled with, and what becomes a space in a title."""


def escape_delimiters(text: str) -> str:
    """Text in which the prompts' own tags can't begin: `</question>` becomes `&lt;/question>`."""
    if text.isascii() and "<" not in text:
        return text
    forms: dict[str, str | int | None] = {char: _folded(char) for char in set(text)}
    openers = [char for char, form in forms.items() if form in {"<", "‹"}]
    if not openers:
        return _escape_hidden_text(text)
    folded = text.translate(str.maketrans(forms))
    # Folding changes lengths, but not how many opening characters there are: the third of `folded` is the third of
    # `text`.
    nth_at = {found.start(): nth for nth, found in enumerate(re.finditer("[<‹]", folded))}
    escaped = {nth_at[found.start()] for found in _DELIMITER.finditer(folded)}
    if escaped:
        pieces = re.split(f"([{re.escape(''.join(openers))}])", text)
        for nth in escaped:
            pieces[2 * nth + 1] = "&lt;"
        text = "".join(pieces)
    return _escape_hidden_text(text)


def _escape_hidden_text(text: str) -> str:
    """Each character of a text that nobody can see as HTML writes it: `&#xE0041;`."""

    def escaped(found: re.Match[str]) -> str:
        return found["spelling"] or "".join(f"&#x{ord(char):X};" for char in found[0])

    return _HIDDEN_TEXT.sub(escaped, text)


def without_hidden_text(title: str) -> str:
    """A title without what can't be seen in it."""
    return _NOT_IN_A_TITLE.sub("", title)


@lru_cache(maxsize=4096)
def _folded(char: str) -> str:
    """What a reader takes a character for: a lower-case Latin letter, a slash, an opening bracket, a gap."""
    if char in _FILLERS or unicodedata.category(char)[0] in "CMZ":
        return " "
    plain = unicodedata.normalize("NFKC", char).casefold()
    # A capital may fold into a letter and its dot.
    plain = "".join(_base(each) for each in plain if plain == each or not unicodedata.combining(each))
    # Of several characters none opens: `escape_delimiters` counts one opener for each character that is one.
    return plain if len(plain) == 1 else re.sub("[<‹]", "", plain)


def _base(char: str) -> str:
    """The Latin letter, or the mark, that a character is a variant of, or looks like."""
    if char.isascii():
        return "/" if char == "\\" else char
    if like := _look_alikes().get(char) or _look_alikes().get(char.upper()):
        return like
    name = unicodedata.name(char, "")
    if "SOLIDUS" in name or "SLASH" in name:
        return "/"
    if _LEFT_ANGLE.search(name):
        return "‹"
    if letter := _LATIN.search(name):
        return letter[1].lower()
    bare = unicodedata.normalize("NFD", char)[0]
    return _base(bare) if bare != char and bare.isalpha() else char


@cache
def _look_alikes() -> dict[str, str]:
    """Unicode's table of confusable characters: those that look like one of ASCII, and that one.

    Read once, which takes 40 ms, and only where a text isn't ASCII.
    """
    from confusable_homoglyphs.confusables import confusables_data

    found = {"п": "n", "η": "n"}  # which the table calls different
    for char, others in confusables_data.items():
        like = next((other["c"] for other in others if len(other["c"]) == 1 and other["c"].isascii()), None)
        if like is not None and len(char) == 1 and not char.isascii():
            found.setdefault(char, {"\\": "/", "<": "‹"}.get(like, like.lower()))
    return found
