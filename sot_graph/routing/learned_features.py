"""From a question to the learned router's features: how it asks, not what about.

Three kinds, all read by the same weights:

- `n:` phrases of one to four words in which a topic's words are blanks (`what are the SEVERAL POINTS`), from
  the sentences that ask: the first, the last, and those with a question mark
- `c:` classes of words that occur there (`english.toml` lists them), and `w:` their words
- `h:` hand-made ones: length, marks of code and formulas, who speaks, what is to be written

Long texts are cut to their beginning and end first, so that the cost has a bound.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sot_graph.routing.glossary import as_english

MAX_CHARS = 1000
"""Of a longer question, half of this is read from its beginning and half from its end."""
MAX_WORDS = 80
"""How many words of the asking sentences are read at most."""

_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]{1,200}`")
_FORMULA = re.compile(r"\$\$?[^$\n]{1,300}\$\$?")
_SENTENCE_END = re.compile(r"(?<=[.?!])[\"')\]]{0,3}\s+|\n+")
_WORD = re.compile(r"[a-z][a-z0-9'+#-]{0,40}|\d+(?:[.,]\d+)*|[^\sa-z0-9,;'\"().]")
_LETTERS = re.compile(r"[^\W\d_]+")

_ASKING_SENTENCES = 3
_LONGEST_PHRASE = 4
_LONGEST_WITH_A_BLANK_AT_THE_END = 3
_START = "^"
_BLANKS = ("_", "_s", "_ing")
_SHORT_WORD = 3
_EVEN_PHRASES = 8.0
"""Up to so many phrases weigh 1 each; of more, each weighs less."""

_WORD_LIMITS = (3, 6, 9, 13, 18, 25, 40, 70, 120, 250)
_DIGIT_LIMITS = (0, 3, 8)
_MOST_QUESTION_MARKS = 4
_MANY_LINES = 4

_BEGINNING_CHARS = 400
_BEGINNING_WORDS = 12
_FEW = 2
"""Words that are sign enough of a language."""
_ENOUGH_WORDS = 4
"""Of so many, one at least is nearly always known, if they are English; two, if two words have accents."""
_LAST_LATIN_LETTER = "\u024f"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The English words and turns of phrase that say what kind of answer is wanted."""

    function_words: frozenset[str]
    """Words that may stand in a learned phrase as they are; every other word is a blank in it."""
    foreign_words: frozenset[str]
    """Common words of other languages that are no English ones."""
    spellings: Mapping[str, str]
    """Common misspellings, and what is meant."""
    word_classes: Mapping[str, tuple[str, ...]]
    """The classes of a word; in a learned phrase, the first of them stands for it."""
    marks: Mapping[str, re.Pattern[str]]
    """Turns of phrase by their names."""
    known_words: frozenset[str]
    """Every English word that tells how somebody asks."""
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
        known_words=frozenset(data["function_words"].split()) | classes_of.keys(),
        marks={mark["name"]: compiled(mark["regex"]) for mark in data["marks"]},
        descriptions={f"h:{name}": says for name, says in said.items()},
    )


class Features(NamedTuple):
    """What `extract` found."""

    values: dict[str, float]
    """Feature name to value."""
    phrases: dict[str, str]
    """Name of a `n:`, `c:` or `w:` feature to its words in the question. A topic's words are left out of them."""
    is_readable: bool
    """Whether the question is in a language of which some words are known."""


def extract(question: str) -> Features:
    """The features of a question: any text, also an empty or a huge one."""
    text, vocabulary = shortened(question), english()
    other = as_english(text, vocabulary.known_words)
    if other is not None:
        text = shortened(other)
    plain = _FORMULA.sub(" formulamark ", _INLINE_CODE.sub(" codemark ", _CODE_BLOCK.sub(" codemark. ", text)))
    sentences = [_split_words(sentence) for sentence in _asking_sentences(plain)]
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

    marks = [name for name, regex in vocabulary.marks.items() if regex.search(text)]
    classes = {name[2:] for name in phrases if name.startswith("c:")}
    # Counted in the shortened text and scaled, so that a huge question costs no more than a long one.
    words_in_all = len(text.split()) * len(question) / max(1, min(len(question), MAX_CHARS))
    first_word = sentences[0][0] if sentences and sentences[0] else ""
    hand_made = [
        *(["another-language"] if other is not None else []),
        *marks,
        *_counted_marks(text, words_in_all),
        *_combined_marks(set(marks), classes),
        *(f"first:{name}" for name in vocabulary.word_classes.get(first_word, ())),
    ]
    values.update((f"h:{name}", 1.0) for name in hand_made)
    return Features(values, phrases, other is not None or _is_english(question))


def _is_english(question: str) -> bool:
    """Whether a question has signs of English, or, where it is too short for any, at least none of another language.

    Only its beginning is read, so that a foreign text to translate doesn't count.
    """
    beginning, vocabulary = question.strip()[:_BEGINNING_CHARS], english()
    letters = "".join(_LETTERS.findall(beginning))
    latin = len([letter for letter in letters if letter <= _LAST_LATIN_LETTER])
    words = [word for word in map(_LETTERS.findall, beginning.split()) if word][:_BEGINNING_WORDS]
    accented = len([word for word in words if not all(part.isascii() for part in word)])
    # Of "quang là gì", the "g" is no word.
    plain = " ".join(word for word in beginning.split() if all(part.isascii() for part in _LETTERS.findall(word)))
    known = len([word for word in _split_words(plain)[:_BEGINNING_WORDS] if word in vocabulary.known_words])
    if latin * 2 < len(letters):
        return known >= _FEW
    if len(words) >= _ENOUGH_WORDS and known < (_FEW if accented >= _FEW else 1):
        return False
    lower_words = _LETTERS.findall(beginning.lower())[:_BEGINNING_WORDS]
    foreign = len([word for word in lower_words if word in vocabulary.foreign_words])
    return foreign < _FEW or known >= foreign


def shortened(question: str) -> str:
    """A question's beginning and end, at most `MAX_CHARS` long."""
    if len(question) <= MAX_CHARS:
        return question.strip()
    half = MAX_CHARS // 2
    return f"{question[:half]}\n{question[-half:]}".strip()


def _split_words(sentence: str) -> list[str]:
    """A sentence's words, in lower case, with common misspellings put right."""
    found = _WORD.findall(sentence.lower().replace("\u2019", "'"))
    return [english().spellings.get(word, word) for word in found]


def _asking_sentences(text: str) -> list[str]:
    """The sentences that are likely to ask: the first, those with a question mark, and the last."""
    sentences = [part for part in _SENTENCE_END.split(text) if part.strip()]
    if not sentences:
        return []
    questions = [at for at, sentence in enumerate(sentences) if "?" in sentence]
    chosen = [0, *questions[-_ASKING_SENTENCES:], len(sentences) - 1]
    return [sentences[at] for at in dict.fromkeys(chosen)]


def _add_phrases(words: list[str], phrases: dict[str, str]) -> None:
    """Adds a sentence's phrases, word classes and their words, each with how it reads in the question."""
    shapes = [_START, *map(_shape, words)]
    shown = ["", *("..." if shape in _BLANKS else word for shape, word in zip(shapes[1:], words, strict=True))]
    for at, shape in enumerate(shapes):
        if at and (classes := english().word_classes.get(words[at - 1])):
            word = words[at - 1]
            for name in (f"w:{word}", *(f"c:{name}" for name in classes)):
                phrases.setdefault(name, word)
        if shape in _BLANKS:
            continue
        for size in range(1, min(_LONGEST_PHRASE, len(shapes) - at) + 1):
            if size > _LONGEST_WITH_A_BLANK_AT_THE_END and shapes[at + size - 1] in _BLANKS:
                continue
            name = "n:" + " ".join(shapes[at : at + size])
            phrases.setdefault(name, " ".join(shown[at : at + size]).strip())


def _shape(word: str) -> str:
    """How a word stands in a phrase: itself, its class, `#` for a number, or a blank for a topic's word."""
    if word in english().function_words or not word[0].isalnum():
        return word
    if classes := english().word_classes.get(word):
        return classes[0]
    if word[0].isdigit():
        return "#"
    if len(word) > _SHORT_WORD:
        if word.endswith("s") and not word.endswith("ss"):
            return "_s"
        if word.endswith("ing"):
            return "_ing"
    return "_"


def _counted_marks(text: str, words: float) -> Iterator[str]:
    """How long a question is, and what it is made of."""
    yield from (f"words>{limit}" for limit in _WORD_LIMITS if words > limit)
    yield f"question-marks={min(_MOST_QUESTION_MARKS, text.count('?'))}"
    if text.endswith("?"):
        yield "ends-with-question"
    if not text:
        yield "empty"
    lines = text.count("\n")
    if lines:
        yield "lines"
    if lines > _MANY_LINES:
        yield "many-lines"
    digits = len([character for character in text if "0" <= character <= "9"])
    yield from (f"digits>{limit}" for limit in _DIGIT_LIMITS if digits > limit)
    if text[:1].islower():
        yield "lower-start"


def _combined_marks(marks: set[str], classes: set[str]) -> Iterator[str]:
    """Marks and word classes that mean something else together."""
    technical = "CODE" in classes or "code-mark" in marks
    maths = "MATHS" in classes or "formula" in marks
    how_to = bool(marks & {"how-to-start", "how-can-start"})
    points = "POINTS" in classes
    own = bool(marks & {"i-am", "my"})
    one_text = marks & {"write-piece", "write-start", "transform"}
    combined = {
        "technical": technical,
        "maths": maths,
        "how-to+code": how_to and technical,
        "how-to+maths": how_to and maths,
        "how-to+plain": how_to and not technical and not maths,
        "points+code": points and technical,
        "points+plain": points and not technical and not one_text,
        "points+several": points and bool(classes & {"SEVERAL", "COUNT"}),
        "own+advice": own and "advice" in marks,
        "own+points": own and points,
        "own+yes-no": own and "yes-no-tail" in marks,
    }
    yield from (name for name, true in combined.items() if true)
