"""Whether a question is in the language that the learned router reads: English."""

from __future__ import annotations

import re

from sot_graph.routing.features import split_words
from sot_graph.routing.lexicon import FUNCTION_WORDS, WORD_CLASSES

__all__ = ["is_english"]

_READ_CHARS = 400
_READ_WORDS = 12
_FEW = 2
_LETTERS = re.compile(r"[^\W\d_]+")
_LATIN_END = "\u024f"

# The commonest small words of other languages that are none in English.
_FOREIGN_WORDS = """
    der das und ist nicht wie sind ein eine einen mit f\u00fcr auf zu den dem im ich kann wir warum welche von wer wo
    gibt zum zur
    le la les des est une pour dans et quels quelles quel comment pourquoi du que qui sont
    el los las una por para qu\u00e9 cu\u00e1les c\u00f3mo es y del de en
    il che gli di della quali perch\u00e9
    os um uma n\u00e3o s\u00e3o quais da dos das como
    het een hoe wat zijn van waarom voor
"""
_FOREIGN = frozenset(_FOREIGN_WORDS.split())


def is_english(question: str) -> bool:
    """Tells whether a question has signs of English, or at least none of another language.

    Args:
        question: Any text. Only its beginning is read, so that a foreign text to translate doesn't count.
    """
    beginning = question.strip()[:_READ_CHARS]
    letters = "".join(_LETTERS.findall(beginning))
    latin = len([letter for letter in letters if letter <= _LATIN_END])
    words = split_words(beginning)[:_READ_WORDS]
    english = len([word for word in words if word in FUNCTION_WORDS or word in WORD_CLASSES])
    if latin * 2 < len(letters):
        return english >= _FEW
    foreign = len([word for word in _LETTERS.findall(beginning.lower())[:_READ_WORDS] if word in _FOREIGN])
    return foreign < _FEW or english >= foreign
