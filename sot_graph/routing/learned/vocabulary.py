"""What the learned router knows of a language: words and turns of phrase, kept in a file beside this module."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Vocabulary", "english"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words and turns of phrase of one language that say what kind of answer is wanted."""

    function_words: frozenset[str]
    """Words that may stand in a learned phrase as they are; every other word is a blank in it."""
    foreign_words: frozenset[str]
    """Common words of other languages that are none in this one."""
    spellings: Mapping[str, str]
    """Common misspellings, and what is meant."""
    word_classes: Mapping[str, tuple[str, ...]]
    """The classes of a word; in a learned phrase, the first of them stands for it."""
    marks: Mapping[str, re.Pattern[str]]
    """Turns of phrase by their names."""
    descriptions: Mapping[str, str]
    """What a hand-made feature, such as `h:why`, says of a question to a person: "asks why"."""


@cache
def english() -> Vocabulary:
    """The vocabulary of `english.toml`. Read once: its regular expressions take some 20 ms to compile."""
    data = tomllib.loads(Path(__file__).with_name("english.toml").read_text(encoding="utf-8"))
    classes = {name: sorted(set(words.split())) for name, words in data["word_classes"].items()}
    classes_of: dict[str, tuple[str, ...]] = {}
    for name, words in classes.items():
        for word in words:
            classes_of[word] = (*classes_of.get(word, ()), name)
    fragments = {**{name: "|".join(words) for name, words in classes.items()}, **data["fragments"]}

    def compiled(regex: str) -> re.Pattern[str]:
        one_line = "".join(line.lstrip() for line in regex.splitlines())
        filled = re.sub(r"<([A-Z_]+)>", lambda fragment: fragments[fragment[1]], one_line)
        return re.compile(filled, re.IGNORECASE)

    said = {mark["name"]: mark["says"] for mark in data["marks"]} | data["other_marks"]
    return Vocabulary(
        function_words=frozenset(data["function_words"].split()),
        foreign_words=frozenset(data["foreign_words"].split()),
        spellings=data["spellings"],
        word_classes=classes_of,
        marks={mark["name"]: compiled(mark["regex"]) for mark in data["marks"]},
        descriptions={f"h:{name}": says for name, says in said.items()},
    )
