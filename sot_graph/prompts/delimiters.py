"""Keeping the prompts' delimiters to the prompts: data that looks like one of them is escaped.

A model reads over what a comparison of strings would stop at: characters that can't be seen, other widths and
cases, letters that look alike. So the text is compared in a folded form, and changed in its own.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_NAMES = ("question", "point", "skeleton", "history", "comment", "tool_result", "written")
_DELIMITER = re.compile(
    # One gap before the name that holds the slashes too: two side by side would try every split of a long run.
    # A quotation mark or a bracket of another kind around a name is ordinary, unless there is a slash.
    rf"(?:<[ /]*|‹ *(?=/)[ /]*)(?:{'|'.join(' *'.join(name) for name in _NAMES)})(?![a-z0-9_])"
)
_LEFT_ANGLE = re.compile(r"\bLEFT\b.*\b(?:ANGLE|ARROWHEAD)\b")
_LATIN = re.compile(r"\bLETTER (?:SMALL CAPITAL |[A-Z]{2,} )*([A-Z])(?: WITH\b|$)")
_LOOK_ALIKE = str.maketrans(
    "ᐸ" + "асеһнікӏмпоԛрѕтуг" + "АСЕНІКӀМОԚРЅТУ" + "αεηικνορτυγ" + "ΑΕΗΙΚΜΝΟΡΤΥ" + "օսոհ",
    "‹" + "acehhiklmnoqpstyr" + "acehiklmoqpsty" + "aenikvoptuy" + "aehikmnopty" + "ounh",
)
"""Where names don't tell: Canadian syllabics, Cyrillic, Greek and Armenian, small and capital."""
_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and a symbol by their category, and white in print."""


def escape_delimiters(text: str) -> str:
    """Text in which the prompts' own tags can't begin: `</question>` becomes `&lt;/question>`."""
    forms: dict[str, str | int | None] = {char: _folded(char) for char in set(text)}
    openers = [char for char, form in forms.items() if form in {"<", "‹"}]
    if not openers:
        return text
    folded = text.translate(str.maketrans(forms))
    # Folding moves positions, but an opening character stays one: the third here is the third there.
    nth_at = {found.start(): nth for nth, found in enumerate(re.finditer("[<‹]", folded))}
    escaped = {nth_at[found.start()] for found in _DELIMITER.finditer(folded)}
    if not escaped:
        return text
    pieces = re.split(f"([{re.escape(''.join(openers))}])", text)
    for nth in escaped:
        pieces[2 * nth + 1] = "&lt;"
    return "".join(pieces)


@lru_cache(maxsize=4096)
def _folded(char: str) -> str:
    """What a reader takes a character for: a lower-case Latin letter, a slash, an opening bracket, a gap."""
    if char in _FILLERS or unicodedata.category(char)[0] in "CMZ":
        return " "
    plain = unicodedata.normalize("NFKC", char).translate(_LOOK_ALIKE).casefold()
    plain = "".join(map(_base, plain))
    return plain if len(plain) == 1 else re.sub("[<‹]", "", plain)


def _base(char: str) -> str:
    """The Latin letter, or the mark, that a character is a variant of."""
    if char.isascii():
        return "/" if char == "\\" else char
    name = unicodedata.name(char, "")
    if "SOLIDUS" in name or "SLASH" in name:
        return "/"
    if _LEFT_ANGLE.search(name):
        return "‹"
    if letter := _LATIN.search(name):
        return letter[1].lower()
    bare = unicodedata.normalize("NFD", char)[0]
    return _base(bare) if bare != char and bare.isalpha() else char
