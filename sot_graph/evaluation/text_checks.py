"""What is wrong with an answer's form, found without a judge: in milliseconds, by rules that anybody can read.

Each figure is a share from 0 to 1 where less is better, but for `language_match`. The sections of an answer by its
skeleton are its points; those of a direct answer are its paragraphs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz import fuzz, process

CHECKS: Mapping[str, str] = {
    "repeated_4grams": "four words in a row that another section has, too",
    "near_double_sentences": "sentences that another section has, almost to the letter",
    "equal_openings": "sections that begin like another one",
    "introductions": "sections that begin with an introduction to the whole answer",
    "conclusions": "sections that end with a conclusion of the whole answer",
    "headings_left": "sections with a heading, or their own title, left in their text",
    "failed": "points that could not be written",
    "cut": "points that end in the middle",
    "language_match": "answers in the language of their question (more is better)",
}
"""The figures, and what each counts."""

_GRAM = 4
_OPENING_WORDS = 3
_STEM = 5  # letters that stand for a word, whatever its ending
_SHORTEST_SENTENCE = 25
"""In characters: below, "It is free." is alike by chance."""
_LONGEST_SENTENCE, _MOST_SENTENCES = 500, 500
"""What is compared, each with each: a model that loops writes more of them."""
_ALMOST_EQUAL = 90
"""Of 100: rapidfuzz's ratio of two sentences."""
_SHORTEST_FOR_LANGUAGE = 20
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])[\s\"'”)]*(?=\S)")
_HEADING = re.compile(r"^[^\S\n]*(?:#{1,6} |\*\*[^*\n]+\*\*:?[^\S\n]*$|\d+[.)] +\*\*)", re.MULTILINE)
_ARTICLES = frozenset({"a", "an", "the"})
_INTRODUCTION = re.compile(
    r"^\W*(?:(?:sure|certainly|of course)\b|(?:here are|here's|the following|below are|below is|in this "
    r"(?:answer|article|post|section|guide|essay))\b|(?:let's|let us|we will|we'll) "
    r"(?:explore|look|discuss|examine|dive))",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(
    r"^\W*(?:in (?:conclusion|summary|short|closing|the end)|to (?:conclude|sum up|summari[sz]e)|overall|all in all|"
    r"in essence|ultimately)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TextSection:
    """What was written in one go: a point with its title, or a direct answer's paragraph without one."""

    text: str
    title: str = ""


def check_answer(question: str, answer: str, expansions: Sequence[Mapping[str, Any]] = ()) -> dict[str, float | None]:
    """Every figure of `CHECKS` for one answer; `None`: the text is too short to tell.

    `expansions` are the answer's points as the graph returns them; a direct answer has none.

    Examples:
        >>> points = [{"title": t, "text": f"{t} is a must.", "status": "ok"} for t in ("Sleep", "Food")]
        >>> check_answer("How do I stay healthy?", "...", points)["equal_openings"]
        1.0
    """
    points = [TextSection(each["text"], each["title"]) for each in expansions]
    sections = points or [TextSection(paragraph) for paragraph in re.split(r"\n\s*\n", answer)]
    written = [section for section in sections if section.text.strip()]
    cut = [each for each in expansions if each.get("truncated") or each["status"] == "timed_out"]
    text = "\n".join(section.text for section in written) or answer

    def share(has: Callable[[TextSection], object]) -> float:
        return sum(bool(has(section)) for section in written) / max(1, len(written))

    return {
        "repeated_4grams": repeated_4grams([section.text for section in written]),
        "near_double_sentences": near_double_sentences([section.text for section in written]),
        "equal_openings": equal_openings(written),
        "introductions": share(lambda section: _INTRODUCTION.search(section.text)),
        "conclusions": share(lambda section: _CONCLUSION.search(_sentences(section.text)[-1])),
        "headings_left": share(_has_heading),
        "failed": sum(each["status"] == "failed" for each in expansions) / max(1, len(expansions)),
        "cut": len(cut) / max(1, len(expansions)),
        "language_match": _same_language(question, text),
    }


def repeated_4grams(texts: Sequence[str]) -> float:
    """The share of all runs of four words that stand in more than one text."""
    words = [_words(text) for text in texts]
    grams = [list(zip(*(each[offset:] for offset in range(_GRAM)), strict=False)) for each in words]
    places = Counter(gram for each in grams for gram in set(each))
    total = sum(map(len, grams))
    return sum(places[gram] > 1 for each in grams for gram in each) / total if total else 0.0


def near_double_sentences(texts: Sequence[str]) -> float:
    """The share of all sentences that another text has, too, up to a few letters."""
    owned = [
        (owner, sentence.casefold()[:_LONGEST_SENTENCE])
        for owner, text in enumerate(texts)
        for sentence in _sentences(text)
        if len(sentence) >= _SHORTEST_SENTENCE
    ][:_MOST_SENTENCES]
    if not owned:
        return 0.0
    sentences = [sentence for _, sentence in owned]
    scores = process.cdist(sentences, sentences, scorer=fuzz.ratio, score_cutoff=_ALMOST_EQUAL)
    owners = [owner for owner, _ in owned]
    doubled = sum(
        any(score and other != owner for score, other in zip(row, owners, strict=True))
        for row, owner in zip(scores, owners, strict=True)
    )
    return doubled / len(owned)


def equal_openings(sections: Sequence[TextSection]) -> float:
    """The share of sections whose first three words another one begins with, too.

    A section's own title counts as one word, whatever it is, and an article at the beginning for nothing: "A regular
    bedtime is a ..." and "Exercise is a ..." both begin with "X is a".
    """
    openings = [_opening(section) for section in sections]
    times = Counter(openings)
    return sum(times[opening] > 1 for opening in openings) / len(openings) if openings else 0.0


def _opening(section: TextSection) -> tuple[str, ...]:
    title = {word[:_STEM] for word in _words(section.title)} - _ARTICLES
    opening: list[str] = []
    for word in _words(section.text):
        named = "X" if word[:_STEM] in title else word
        # The title's words in a row count as one, and an article as none before there is a word.
        if (named == "X" and opening[-1:] == ["X"]) or (not opening and word in _ARTICLES):
            continue
        opening.append(named)
        if len(opening) == _OPENING_WORDS:
            break
    return tuple(opening)


def _has_heading(section: TextSection) -> bool:
    if _HEADING.search(section.text):
        return True
    first_line = section.text.strip().partition("\n")[0].strip(" *#:.").casefold()
    return bool(section.title) and first_line == section.title.strip(" *#:.").casefold()


def _same_language(question: str, text: str) -> float | None:
    if min(len(question), len(text)) < _SHORTEST_FOR_LANGUAGE:
        return None
    from py3langid.langid import classify  # which takes a while

    return float(classify(question)[0] == classify(text)[0])


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence] or [""]


def average(checks: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each figure over many answers; `None` where none of them could tell."""
    rows = list(checks)
    means: dict[str, float | None] = {}
    for name in CHECKS:
        known = [value for row in rows if (value := row.get(name)) is not None]
        means[name] = sum(known) / len(known) if known else None
    return means
