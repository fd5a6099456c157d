"""How long an answer a question itself asks for."""

from __future__ import annotations

import re

__all__ = ["LONGEST", "stated_tokens", "within_hints"]

LONGEST = 4000
"""No estimate is above this, in tokens."""

_TOKENS = {"word": 1.35, "sentence": 28.0, "line": 14.0, "paragraph": 110.0, "page": 650.0}
_NUMBERS = {
    "a": 1, "a single": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10,
}  # fmt: skip
_COUNT = r"(?P<count>\d{1,5}|a single|a|one|two|three|four|five|six|seven|eight|nine|ten)"
_UNIT = r"(?P<unit>word|sentence|line|paragraph|page)s?"
_LIMITS = (
    re.compile(
        rf"\b(?:in|with|within|using|under|about|around|of|most|maximum|max|than)\s+(?:just\s+|only\s+)?{_COUNT}[\s-]{_UNIT}\b",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b{_COUNT}[\s-]{_UNIT}\s+(?:answer|article|email|essay|letter|poem|post|report|story|summary|text)\b",
        re.IGNORECASE,
    ),
)
_ONE_WORD = re.compile(r"\b(?:yes or no|true or false|one[- ]word answer|(?:just|only) the (?:number|name))\b", re.I)
_BRIEF = re.compile(r"\b(?:briefly|in brief|in short|tl;?dr|keep it short|short answer|concise(?:ly)?)\b", re.I)
_FULL = re.compile(r"\b(?:in detail|detailed|comprehensive|in[- ]depth|at length|thorough(?:ly)?)\b", re.I)
_ONE_WORD_TOKENS = 5
_BRIEF_TOKENS = 90
_FULL_TOKENS = 350


def stated_tokens(text: str) -> int | None:
    """The tokens that an answer may have where the question says it ("in 100 words"), else None."""
    if _ONE_WORD.search(text):
        return _ONE_WORD_TOKENS
    found = [_tokens(match) for limit in _LIMITS for match in limit.finditer(text)]
    return min(found) if found else None


def _tokens(match: re.Match[str]) -> int:
    count = match["count"].lower()
    number = _NUMBERS[count] if count in _NUMBERS else int(count)
    return max(1, min(LONGEST, round(number * _TOKENS[match["unit"].lower()])))


def within_hints(text: str, tokens: float) -> float:
    """An estimate, drawn towards what words such as "briefly" or "in detail" ask for."""
    if _BRIEF.search(text):
        return min(tokens, _BRIEF_TOKENS)
    if _FULL.search(text):
        return max(tokens, _FULL_TOKENS)
    return tokens
