"""Turns of phrase that say what kind of answer is wanted, each with what it says to a person."""

from __future__ import annotations

import re
from typing import NamedTuple

from sot_graph.routing.lexicon import words_of

__all__ = ["PATTERNS", "Pattern"]

_POINTS = "|".join(words_of("POINTS"))
_PIECES = "|".join(words_of("PIECE"))
_ASKING_ME = r"^\W{0,9}(?:please\s+|can (?:you|u)\s+|could (?:you|u)\s+|help me\s+)?"
_ASKS_YES_NO = r"(?:is|are|was|were|do|does|did|can|could|should|would|will|has|have|had|may)"
_COUNT = r"(?:\d{1,2}|two|three|four|five|six|seven|eight|nine|ten)"
_SMALL_WORDS = r"to|a|an|the|of|in|on|with|and|for|from|your|off|out"


class Pattern(NamedTuple):
    """One turn of phrase."""

    name: str
    says: str
    """Said of the question: "asks why"."""
    regex: re.Pattern[str]


def _any_case(name: str, says: str, *alternatives: str) -> Pattern:
    return Pattern(name, says, re.compile("|".join(alternatives), re.IGNORECASE))


# The repeats inside have upper bounds, so that no text makes a search take long.
PATTERNS = (
    _any_case(
        "list-head",
        "asks for several points",
        rf"\b(?:what|which|list|give|name|share|any|some|several|provide|tell|the|\d{{1,3}}|ten|five|three)\b"
        rf"(?:\s+[\w'-]{{1,20}}){{0,4}}?\s+(?:{_POINTS})\b",
    ),
    _any_case(
        "what-are-plural",
        "asks for several things",
        r"\b(?:what|which)\s+(?:are|were|r)\s+(?:the\s+|some\s+)?(?:[\w'-]{1,20}\s+){0,4}?[\w-]{3,20}s\b",
    ),
    _any_case(
        "which-plural",
        "asks for several things",
        r"\b(?:what|which)\s+(?:[\w-]{1,20}\s+)?(?!is\b|was\b|does\b|this\b|has\b)[\w-]{2,20}[^s\W]s\s+(?!is|was)",
    ),
    _any_case(
        "count-of-points",
        "asks for a number of points",
        rf"\b{_COUNT}\s+(?:[\w-]{{1,20}}\s+){{0,3}}(?:{_POINTS})\b",
    ),
    _any_case("how-to-start", "asks how to do something", r"^\W{0,9}how\s+to\b"),
    _any_case(
        "how-can-start",
        "asks how something can be done",
        r"^\W{0,9}how\s+(?:can|could|do|should|would|might)\s+(?:i|you|we|one|someone|\w{1,20}s)\b",
    ),
    _any_case("how-does-start", "asks how one thing works", r"^\W{0,9}how\s+(?:does|did|is|was|come)\b"),
    _any_case(
        "how-quantity",
        "asks for a quantity",
        r"\bhow\s+(?:many|much|long|far|fast|tall|old|deep|high|heavy|often|big|large|wide|hot|cold|accurate)\b",
    ),
    _any_case(
        "estimate",
        "asks for an estimate",
        r"\b(?:estimate|roughly|approximately|reasonable guess|reason it out|step[- ]by[- ]step|show (?:your|the))\b",
    ),
    _any_case("what-if", "asks what would follow", r"\bwhat\s+if\b", r"^\W{0,9}(?:suppose|imagine if)\b"),
    _any_case(
        "counterfactual",
        "asks for the consequences of a different course of things",
        r"\bif\b[^?.]{3,60}\b(?:had|hadn't|had not|never|were)\b",
        r"\bhad\s+(?:never|not)\b",
        r"\bwould\s+\w{1,20}\s+be\s+different",
        r"\b(?:would|could|might)\s+(?:\w{1,20}\s+)?have\s+\w",
        r"\bwhat (?:would|might) (?:\w{1,20} ){1,4}(?:be|look) like",
    ),
    _any_case(
        "write-piece",
        "asks for a text to be written",
        r"\b(?:write|compose|draft|pen|create|generate|invent|tell|continue|make)\b"
        rf"(?:\s+[\w'-]{{1,20}}){{0,6}}?\s+(?:{_PIECES})\b",
    ),
    _any_case("write-start", "asks for a text to be written", rf"{_ASKING_ME}(?:write|compose|draft|pen)\b"),
    _any_case(
        "build-start",
        "asks for one thing to be made",
        rf"{_ASKING_ME}(?:implement|create|design|build|develop|generate|produce|make|code|construct)\b",
    ),
    _any_case(
        "persona",
        "asks to play a part",
        r"^\W{0,9}(?:you are|you're|act as|pretend|as an? [\w-]{1,20}|imagine (?:you|yourself)|picture yourself"
        r"|let's (?:play|role))\b",
        r"\b(?:act as|role-?play|pretend|as if you were|imagine you(?:'re| are)|if you (?:were|could be))\b",
    ),
    _any_case(
        "transform",
        "works on a given text",
        rf"{_ASKING_ME}(?:translate|summari[sz]e|paraphrase|rephrase|rewrite|reword|shorten|proofread|correct|fix|edit"
        r"|simplify|condense|extract|classify|categori[sz]e|convert|complete|fill|sort|reverse|turn|parse|reply)\b",
    ),
    _any_case(
        "given-text",
        "works on a given text",
        r"\b(?:following|below|above|this)\s+(?:\w{1,20}\s+)?(?:text|sentence|paragraph|passage|article|story|poem|code"
        r"|table|list|email|function|review|context|question|words?|equation)\b",
        r"\b(?:you (?:are|will be) given|in this task|based on the|given (?:the|an?|that|this))\b",
    ),
    _any_case("colon-text", "works on a given text", r":\s{0,9}[\"'\n\w\u201c(\[{]"),
    _any_case("quoted", "is about quoted words", r"[\"\u201c][^\"\u201d]{1,300}[\"\u201d]"),
    Pattern(
        "code-mark",
        "has code in it",
        re.compile(
            r"`|\b\w{1,40}\(\)|[{};]$|</?\w{1,20}>|\b\w{1,40}\.\w{1,40}\(|==|!=|->|::|\b[a-z]{1,30}_[a-z]"
            r"|\bdef |#include|SELECT ",
            re.MULTILINE,
        ),
    ),
    _any_case(
        "formula",
        "has a formula in it",
        r"\$[^$\n]{1,300}\$",
        r"\\[a-z]{1,20}\{",
        r"\b\w\s{0,3}[=<>^]\s{0,3}[\w\d(-]",
        r"\d\s{0,3}[+*/^x\u00d7]\s{0,3}\d",
        r"\w\^\w",
        r"\bf\(x\)",
    ),
    _any_case("url", "has an address in it", r"https?://|www\."),
    _any_case(
        "limit",
        "asks for a short answer",
        r"\b(?:in|with|of|under|within|max)\s+(?:about\s+)?(?:one|two|three|a|a single|\d{1,4})\s+"
        r"(?:word|sentence|line|paragraph)s?\b",
        r"\b(?:yes or no|true or false|one[- ]word)\b",
    ),
    _any_case(
        "i-am",
        "tells a situation of one's own",
        r"\b(?:i'm|i am|i've|i have|i was|i had|i got|i want|i need|i tried)\b",
    ),
    _any_case("my", "tells a situation of one's own", r"\b(?:my|our)\b"),
    _any_case("yes-no-start", "asks yes or no", rf"^\W{{0,9}}{_ASKS_YES_NO}\s+(?!you\b|we\b|u\b)\w"),
    _any_case(
        "yes-no-tail",
        "asks yes or no",
        rf"[.!\n]\s{{0,9}}(?:so,?\s+)?{_ASKS_YES_NO}\s+\w[^.?!\n]{{0,300}}\?\s*\Z",
    ),
    _any_case(
        "who-when-where",
        "asks for one fact",
        r"^\W{0,9}(?:in (?:which|what) \w{1,20}\s|(?:who|whom|whose|when|where)\b)",
    ),
    _any_case("why", "asks why", r"^\W{0,9}why\b"),
    _any_case("why-late", "asks why", r"[.!?\n,]\s{0,9}(?:but\s+)?why\b"),
    _any_case(
        "both-sides",
        "asks for both sides",
        r"\b(?:both sides|for and against|pros and cons|why or why not|dos and don'?ts)\b",
    ),
    _any_case(
        "three-items",
        "names several aspects",
        r"\b\w[\w' -]{2,30},\s{1,3}\w[\w' -]{2,30},?\s(?:and|or)\s+\w",
    ),
    _any_case(
        "two-asks",
        "asks for several things",
        r",?\s(?:and|but)\s+(?:how|what|why|which|explain|describe|discuss|their|its|whether|when)\b",
    ),
    _any_case(
        "advice",
        "asks for ideas or advice",
        r"\b(?:any|some|your|for|of|more)\s+(?:\w{1,20}\s+)?"
        r"(?:ideas?|advice|tips?|suggestions?|tricks?|recommendations?|thoughts)\b",
        r"\bwhat\s+(?:else\s+)?(?:should|can|could|would|do)\s+(?:i|we|you|one|someone|people|\w{1,20}s)\b"
        r"(?! (?:mean|call|say))",
    ),
    _any_case(
        "explain-start", "asks for an explanation", rf"{_ASKING_ME}(?:explain|describe|discuss|analy[sz]e|outline)\b"
    ),
    Pattern(
        "title-case",
        "is worded like a headline",
        re.compile(
            rf"^(?:[A-Z][\w'-]{{0,20}}|{_SMALL_WORDS})(?:\s+(?:[A-Z][\w'-]{{0,20}}|{_SMALL_WORDS})){{3,30}}\??$"
        ),
    ),
    Pattern(
        "task-words",
        "sets a task with an input",
        re.compile(
            r"^[ \t]{0,9}(?:input|output|q|question|context|premise|task|definition)\s{0,3}:",
            re.IGNORECASE | re.MULTILINE,
        ),
    ),
)
