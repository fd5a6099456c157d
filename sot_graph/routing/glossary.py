"""Reading a question in another language as English: the words that tell how it asks, and blanks for its topic."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice, pairwise
from pathlib import Path

_UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
"""Scripts without spaces between words."""
_WORD = re.compile(r"[^\s.,;:!?¿¡।؟،、。！？：；\"'’«»„“”‘「」『』()（）\[\]{}…|/`]+")  # noqa: RUF001
_TOPIC = "thema"
"""Stands for a word of the topic: the English vocabulary hasn't it, so that it becomes a blank in a phrase."""
_BLANK = f" {_TOPIC} "
_EMPTY_WORDS = frozenset(["the", "a", "and", "or", "of", "in", "is", "it", "not", "i", "me", "my"])
"""English words that are no sign of another language: what they translate looks alike in several."""
_SHORTEST_STEM = 3
_LONGEST_FOLLOW_UP = 60
_BEGINNING_WORDS = 12
"""Words at the beginning by which a language is told."""
_PUNCTUATION = str.maketrans({"。": ".", "？": "?", "！": "!", "：": ":", "，": ",", "、": ",", "؟": "?", "।": "."})  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Glossary:
    """The words of all languages, with the English ones."""

    words: Mapping[str, str]
    stems: Mapping[str, str]
    """Beginnings of words."""
    unspaced: Mapping[str, int]
    """In scripts without spaces: by a word's first character, how long the longest such word is."""
    follow_ups: re.Pattern[str]
    """How a question begins that leans on the one before."""

    def find(self, word: str) -> str | None:
        """The English word, or words, for one in another language."""
        if (found := self.words.get(word)) is not None:
            return found
        for end in range(len(word), _SHORTEST_STEM - 1, -1):
            if (found := self.stems.get(word[:end])) is not None:
                return found
        return None


@cache
def glossary() -> Glossary:
    """That of `glossary.toml`."""
    data = tomllib.loads(Path(__file__).with_name("glossary.toml").read_text(encoding="utf-8"))
    beginnings = "|".join(data.pop("follow_ups"))
    words: dict[str, str] = {}
    stems: dict[str, str] = {}
    for text in data.values():
        for line in text.strip().splitlines():
            english, _, others = line.partition(": ")
            for other in others.split():
                kept = stems if other.endswith("*") else words
                kept.setdefault(other.removesuffix("*").casefold(), english)
    unspaced: dict[str, int] = {}
    for word in words:
        if re.match(f"[{_UNSPACED}]", word):
            unspaced[word[0]] = max(len(word), unspaced.get(word[0], 0))
    # Not the beginning of a longer word. In scripts without spaces nothing tells where one ends.
    follow_ups = re.compile(rf"\W*(?:please\s+)?(?:{beginnings})(?:(?<=[{_UNSPACED}])|(?![^\W\d_]))", re.IGNORECASE)
    return Glossary(words, stems, unspaced, follow_ups)


def leans_on_the_last(question: str) -> bool:
    """Whether a short question is understood only with the one before it."""
    return len(question) <= _LONGEST_FOLLOW_UP and glossary().follow_ups.match(question) is not None


def as_english(text: str, known: Collection[str]) -> str | None:
    """A question as English words (`known` are some) and blanks; `None`: it is English, or nothing of it is known."""
    terms = glossary()
    text = text.casefold().translate(_PUNCTUATION)
    if re.search(f"[{_UNSPACED}]", text):
        return _without_spaces(text, terms)
    words = [match[0] for match in islice(_WORD.finditer(text), _BEGINNING_WORDS)]
    beginning = [(word, terms.find(word)) for word in words]
    others = [english for word, english in beginning if english is not None and word not in known]
    if len(others) <= len([word for word, _ in beginning if word in known]) or set(others) <= _EMPTY_WORDS:
        return None
    words = _WORD.findall(text)
    # Two words that mean one thing stand in the glossary with a hyphen between them.
    pairs = {f"{first}-{second}" for first, second in pairwise(words)} & terms.words.keys()
    for pair in sorted(pairs):
        text = text.replace(pair.replace("-", " "), pair)

    def read(match: re.Match[str]) -> str:
        word = match[0]
        if (english := terms.find(word)) is not None:
            return english
        return word if word in known or word[0].isdigit() else _TOPIC

    return _WORD.sub(read, text)


def _without_spaces(text: str, terms: Glossary) -> str | None:
    """The same for a script whose words have no spaces between them: of those that begin at a place, the longest."""
    read: list[str] = []
    at, found_any = 0, False
    while at < len(text):
        longest = terms.unspaced.get(text[at], 0)
        length = next((size for size in range(longest, 0, -1) if text[at : at + size] in terms.words), 0)
        if length:
            found_any = True
            read.append(f" {terms.words[text[at : at + length]]} ")
        elif "\u3040" <= text[at] <= "\u9fff":
            if read[-1:] != [_BLANK]:
                read.append(_BLANK)
        else:
            read.append(text[at])
        at += length or 1
    return "".join(read) if found_any else None
