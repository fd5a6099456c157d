"""From a question to features: how it asks, not what about.

Three kinds, all read by the same weights:

- `n:` phrases of one to four words in which a topic's words are blanks (`what are the SEVERAL POINTS`), from
  the sentences that ask: the first, the last, and those with a question mark
- `c:` classes of words that occur there (see `lexicon`), and `w:` their words
- `h:` hand-made ones: length, marks of code and formulas, who speaks, what is to be written

Long texts are cut to their beginning and end first, so that the cost has a bound.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sot_graph.routing.lexicon import FUNCTION_WORDS, WORD_CLASSES
from sot_graph.routing.marks import marks

__all__ = ["MAX_CHARS", "MAX_WORDS", "Features", "extract", "shortened", "split_words"]

MAX_CHARS = 1000
"""Of a longer question, half of this is read from its beginning and half from its end."""
MAX_WORDS = 80
"""How many words of the asking sentences are read at most."""

_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]{1,200}`")
_FORMULA = re.compile(r"\$\$?[^$\n]{1,300}\$\$?")
_SENTENCE_END = re.compile(r"(?<=[.?!])[\"')\]]{0,3}\s+|\n+")
_WORD = re.compile(r"[a-z][a-z0-9'+#-]{0,40}|\d+(?:[.,]\d+)*|[^\sa-z0-9,;'\"().]")
_SPELLINGS = {
    "benifits": "benefits", "advantges": "advantages", "cant": "can't", "diffrence": "difference",
    "diffrences": "differences", "dont": "don't", "explane": "explain", "hows": "how", "hw": "how", "im": "i'm",
    "ive": "i've", "pls": "please", "plz": "please", "r": "are", "u": "you", "ur": "your", "wat": "what",
    "whats": "what's", "whos": "who", "whys": "why", "wich": "which",
}  # fmt: skip
_ASKING_SENTENCES = 3
_LONGEST_PHRASE = 4
_LONGEST_WITH_A_BLANK_AT_THE_END = 3
_START = "^"
_BLANKS = ("_", "_s", "_ing")
_SHORT_WORD = 3
_EVEN_PHRASES = 8.0


class Features(NamedTuple):
    """What `extract` found."""

    values: dict[str, float]
    """Feature name to value."""
    phrases: dict[str, str]
    """Name of a `n:`, `c:` or `w:` feature to its words in the question. A topic's words are left out of them."""


def extract(question: str) -> Features:
    """Reads a question's features.

    Args:
        question: Any text, also an empty or a huge one.
    """
    text = shortened(question)
    plain = _FORMULA.sub(" formulamark ", _INLINE_CODE.sub(" codemark ", _CODE_BLOCK.sub(" codemark. ", text)))
    sentences = [split_words(sentence) for sentence in _asking(plain)]
    phrases: dict[str, str] = {}
    left = MAX_WORDS
    for words in sentences:
        _add_phrases(words[:left], phrases)
        left -= len(words)
        if left <= 0:
            break
    count = len([name for name in phrases if name.startswith("n:")])
    # Else a long post would outvote everything else by its number of phrases alone.
    weight = (_EVEN_PHRASES / max(count, _EVEN_PHRASES)) ** 0.5
    values = {name: weight if name.startswith("n:") else 1.0 for name in phrases}
    classes = {name[2:] for name in phrases if name.startswith("c:")}
    # Counted in the shortened text and scaled, so that a huge question costs no more than a long one.
    words_in_all = len(text.split()) * len(question) / max(1, min(len(question), MAX_CHARS))
    first = sentences[0] if sentences else []
    values.update((f"h:{name}", 1.0) for name in marks(text, words_in_all, first, classes))
    return Features(values, phrases)


def shortened(question: str) -> str:
    """A question's beginning and end, at most `MAX_CHARS` long."""
    if len(question) <= MAX_CHARS:
        return question.strip()
    half = MAX_CHARS // 2
    return f"{question[:half]}\n{question[-half:]}".strip()


def split_words(sentence: str) -> list[str]:
    """The words of a sentence, in lower case and with common misspellings put right."""
    found = _WORD.findall(sentence.lower().replace("\u2019", "'"))
    return [_SPELLINGS.get(word, word) for word in found]


def _asking(text: str) -> list[str]:
    """The sentences that are likely to ask: the first, those with a question mark, and the last."""
    sentences = [part for part in _SENTENCE_END.split(text) if part.strip()]
    if not sentences:
        return []
    questions = [at for at, sentence in enumerate(sentences) if "?" in sentence]
    chosen = [0, *questions[-_ASKING_SENTENCES:], len(sentences) - 1]
    return [sentences[at] for at in dict.fromkeys(chosen)]


def _shape(word: str) -> str:
    """How a word stands in a phrase: itself, its class, `#` for a number, or a blank for a topic's word."""
    if word in FUNCTION_WORDS or not word[0].isalnum():
        return word
    classes = WORD_CLASSES.get(word)
    if classes:
        return classes[0]
    if word[0].isdigit():
        return "#"
    if len(word) > _SHORT_WORD:
        if word.endswith("s") and not word.endswith("ss"):
            return "_s"
        if word.endswith("ing"):
            return "_ing"
    return "_"


def _add_phrases(words: list[str], phrases: dict[str, str]) -> None:
    shapes = [_START, *map(_shape, words)]
    shown = ["", *("..." if shape in _BLANKS else word for shape, word in zip(shapes[1:], words, strict=True))]
    for at, shape in enumerate(shapes):
        if at and words[at - 1] in WORD_CLASSES:
            word = words[at - 1]
            for name in (f"w:{word}", *(f"c:{name}" for name in WORD_CLASSES[word])):
                phrases.setdefault(name, word)
        if shape in _BLANKS:
            continue
        for size in range(1, min(_LONGEST_PHRASE, len(shapes) - at) + 1):
            if size > _LONGEST_WITH_A_BLANK_AT_THE_END and shapes[at + size - 1] in _BLANKS:
                continue
            name = "n:" + " ".join(shapes[at : at + size])
            phrases.setdefault(name, " ".join(shown[at : at + size]).strip())
