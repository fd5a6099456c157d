"""Titles and prose that are made up, and always the same."""

from __future__ import annotations

import random
import re

__all__ = ["make_prose", "make_titles"]

# About 15 characters each; no word stem comes twice, so that nothing takes two of them for the same.
_TITLES = (
    "Early beginnings",
    "Main causes",
    "Daily practice",
    "Hidden costs",
    "Common mistakes",
    "Useful tools",
    "Local customs",
    "Future outlook",
    "Public safety",
    "Money matters",
    "Family support",
    "Legal questions",
    "Healthy habits",
    "Natural limits",
    "Famous examples",
    "Technical basics",
    "Social effects",
    "Quiet progress",
    "Seasonal change",
    "Better planning",
    "Trusted sources",
    "Global markets",
    "Personal taste",
    "Lasting memory",
)
_SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou")

_WORD_LISTS = {
    "determiner": "the a each every this another one any that some",
    "adjective": """calm bright narrow steady rural modern simple patient careful distant open broad gentle
        sturdy curious formal ancient plain rapid mellow""",
    "noun": """river market teacher garden village engine harbour letter window forest budget student
        island bridge library winter builder kitchen signal meadow factory painter
        railway lantern orchard council ribbon compass doctor valley archive bakery""",
    "verb": """shapes guides follows supports changes reveals carries protects feeds joins explains
        rewards crosses lifts measures divides replaces invites answers outlasts""",
    "preposition": "near beyond across behind under above beside within against through",
    "conjunction": "while because although until where before after unless since and",
}
_WORDS = {kind: words.split() for kind, words in _WORD_LISTS.items()}
_PATTERN = (
    *("determiner", "adjective", "noun", "verb", "determiner", "adjective", "noun"),
    *("preposition", "determiner", "noun", "conjunction"),
)
_SENTENCE_WORDS = 11
_SHORTEST_CONTENT_WORD = 4


def make_titles(count: int) -> list[str]:
    """So many different titles of about 15 characters, with no word in common."""
    return [_TITLES[i] if i < len(_TITLES) else _invented_title(i) for i in range(count)]


def _invented_title(index: int) -> str:
    words = [_invented_word(2 * index), _invented_word(2 * index + 1)]
    return " ".join(words).capitalize()


def _invented_word(number: int) -> str:
    syllables = []
    for place in range(3):
        syllables.append(_SYLLABLES[(number * (place + 3) + number // len(_SYLLABLES)) % len(_SYLLABLES)])
    return "".join(syllables)


def make_prose(words: int, *, seed: str, title: str = "") -> str:
    """So many words of prose in whole sentences: for a seed always the same, and no two sentences alike.

    Args:
        words: At least 1.
        seed: What it depends on.
        title: One of its longer words is in the first sentence.
    """
    words = max(1, words)
    generator = random.Random(seed)
    sentences = max(1, round(words / _SENTENCE_WORDS))
    lengths = [words // sentences + (i < words % sentences) for i in range(sentences)]
    subject = max(re.findall(r"\w+", title), key=len, default="")
    written = []
    for number, length in enumerate(lengths):
        sentence = _sentence(length, generator)
        if number == 0 and len(subject) >= _SHORTEST_CONTENT_WORD:
            sentence[min(2, length - 1)] = subject.lower()
        written.append(" ".join(sentence).capitalize() + ".")
    return " ".join(written)


def _sentence(length: int, generator: random.Random) -> list[str]:
    kinds = [_PATTERN[place % len(_PATTERN)] for place in range(length)]
    kinds[-1] = "noun"
    return [generator.choice(_WORDS[kind]) for kind in kinds]
