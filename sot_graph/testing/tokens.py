"""The token rule of the simulated endpoint and the scripted model."""

from __future__ import annotations

import re

__all__ = ["count_tokens", "cut_at_stop", "split_tokens"]

_JSON_START = re.compile(r'\s*(?:\{\s*["}]|\[\s*["\[{\]])')
_WORD = re.compile(r"\s*\S+(?:\s+\Z)?|\s+\Z")
_JSON_TOKEN_CHARACTERS = 4


def split_tokens(text: str) -> list[str]:
    """Split a text into its tokens; joined together they are exactly the text.

    A word of prose, with the white space before it, is a token. Four characters of JSON are a token: JSON is
    a text that begins like a JSON object or a JSON array of strings, arrays or objects.
    """
    if _JSON_START.match(text):
        return [text[i : i + _JSON_TOKEN_CHARACTERS] for i in range(0, len(text), _JSON_TOKEN_CHARACTERS)]
    return _WORD.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens `split_tokens` makes of a text."""
    if _JSON_START.match(text):
        return -(-len(text) // _JSON_TOKEN_CHARACTERS)
    return len(text.split()) or int(bool(text))


def cut_at_stop(text: str, stop: str | list[str] | None) -> str:
    """Cut a text before the first of the stop strings in it, as a model does."""
    strings = [stop] if isinstance(stop, str) else stop or []
    ends = [text.find(string) for string in strings if string]
    return text[: min((end for end in ends if end >= 0), default=len(text))]
