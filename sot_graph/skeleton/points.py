"""From raw titles, which a model wrote or a caller gave, to points: cleaned, numbered, each given out once."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from sot_graph.errors import SotConfigError, kind_of
from sot_graph.prompts.delimiters import without_hidden_text
from sot_graph.skeleton.parser import ITEM_MARK, LONGEST_ITEM, MOST_ITEMS, TitleScanner, parse_skeleton, title_of
from sot_graph.types import SkeletonPoint

logger = logging.getLogger("sot_graph")

_MOST_REPEATS = 20
"""Titles in a row that say nothing new: a model that is caught in a loop doesn't come out of it."""
_LONGEST_END = 200
"""Characters that may stand behind the last title: brackets, a fence, a friendly word."""

MAX_TITLE_CHARS = 120
"""A title is a few words on one line; what is longer would only carry text into the other points' prompts."""
_LONG_TITLE_WORDS = 8
_SIMILAR = 0.6
"""The share of common words from which two titles say much the same."""
_JOINING_WORD = re.compile(
    "and|or|but|by|to|with|for|in|on|of|from|at|as|so|that|which|when|while|before|after|because", re.IGNORECASE
)
"""Where a long English title can end: before one of these."""

_LEADING_NUMBER = re.compile(rf"^\s*{ITEM_MARK}\s*", re.IGNORECASE)
_MARKS_BEFORE_NUMBER = " \t#>*_`~(["
_DIGITS = re.compile(r"\d+")
_LEADING_MARKUP = re.compile(r"(?:[\s#>*_`~•‣◦·]|[-+–—](?=\s|$))+")
"""A dash right before a word or a number is a part of it: "-5 °C"."""
_EMPHASIS = re.compile(
    r"^\*(?=[^\s)\]*])([^*]*\w[^*]*)(?<=\S)\*(?!\*)"  # the mark at a title's start goes anyway
    r"|(?<![^\s(\[“\"])\*(?=[\w¿¡(.])([^*]*\w[^*]*)(?<=[\w?!+#.)…%])\*(?![^\s.,;:!?)\]”\"])"
    r"|(?<![\w*])_([^\W_](?:[^*_]*[^\W_])?[?!]?)_(?![\w*])"
)
_DUNDER = re.compile(r"__[a-z][a-z0-9_]*__")
"""Python's own names, which are no bold words."""
_TRAILING_MARKUP = " \t*_`~:：.;,、。，；"
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“”", "‘": "’", "«": "»", "»": "«", "「": "」", "『": "』", "《": "》"}
_BOLD_HEAD = re.compile(r"^\s*(?:\*\*|__)(?P<title>[^*_]+?)(?P<colon>[:：]?)(?:\*\*|__)(?P<dash>\s*[:：–—-])?")
_SPACES = re.compile(r"\s+")
# Without U+200C and U+200D, which are spelling in Persian and glue in emoji; with lone surrogates, which nothing takes.
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DESCRIPTION = re.compile(r"[:：]\s|\s[-–—]\s")
_WORD = re.compile(r"[^\W_]+")
_SILENT = re.compile(
    r"[!?¿¡;:\"'“”„‘’«»「」『』《》()\[\]{}*_`~…、。，；：！？؟،؛।·•]|[.,](?!\d)|[-‐–—](?!\d)|(?<=\w)[-‐–—]"
)
"""What two titles may differ in that say the same to a reader: "Set goals" and "set-goals!", but not C, C++ and C#."""
_STEM_SUFFIXES = ("ing", "ed", "es", "s", "ly")


def _without_number(title: str, place: int | None) -> str:
    """A title without its place in the list: another number in front is a part of it, as in "404: Not found"."""
    mark = _LEADING_NUMBER.match(title)
    digits = _DIGITS.search(mark[0]) if mark is not None else None
    if mark is None or (place is not None and digits is not None and int(digits[0]) not in {place, place - 1}):
        return title
    return title[mark.end() :]


@lru_cache(maxsize=1024)
def clean_title(raw: str, *, max_words: int | None = None, place: int | None = None) -> str:
    """One line of plain words: no numbering, markup, quotes, invisible characters, or description behind it.

    Args:
        raw: As the model, or the caller, wrote it.
        max_words: One that is half as long again is cut to so many words; `None`: not cut.
        place: In its list, from 1: the only number that it is rid of; `None`: it is rid of any.
    """
    title = _SPACES.sub(" ", _INVISIBLE.sub(" ", without_hidden_text(raw[:LONGEST_ITEM]))).strip()
    # What is bold at the start is the title where the rest is about it: "**Title**: and more". But "**Eat** more
    # vegetables" is a title with a bold word in it; a long one is a title and a sentence.
    bold = _BOLD_HEAD.match(_without_number(title.lstrip("#> "), place))
    has_names = _DUNDER.search(title) is not None
    if bold and not has_names and (bold["colon"] or bold["dash"] or len(title.split()) > _LONG_TITLE_WORDS):
        title = bold["title"]
    previous = None
    while title != previous:  # "**1. "Title"**" wears several layers
        previous = title
        names = _DUNDER.match(title)
        title = title if has_names else _EMPHASIS.sub(r"\1\2\3", title)
        leading = None if names else _LEADING_MARKUP.match(title)
        title = _without_number(title[leading.end() :] if leading else title, place)
        title = _unquoted(title.rstrip(_TRAILING_MARKUP.replace("_", "") if has_names else _TRAILING_MARKUP))
        title = title.replace("**", "").replace("`", "")
        title = _SPACES.sub(" ", title if has_names else title.replace("__", ""))
    # The description behind a long title goes, and what is above the limits of words and characters.
    if len(title.split()) > (max_words or _LONG_TITLE_WORDS) or (max_words and _DESCRIPTION.search(title)):
        title = _DESCRIPTION.split(title, maxsplit=1)[0].rstrip(_TRAILING_MARKUP) or title
    if max_words:
        title = _cut_to_words(title, max_words).rstrip(_TRAILING_MARKUP)
    if len(title) > MAX_TITLE_CHARS:
        title = title[: MAX_TITLE_CHARS - 1].rstrip(_TRAILING_MARKUP) + "…"
    if has_names and not _DUNDER.search(title):  # the name was cut: its underscores are marks by now
        title = title.replace("__", "")
    return title if _WORD.search(title) or any(ord(char) > 0x2FFF for char in title) else ""  # noqa: PLR2004


def _unquoted(title: str) -> str:
    """Without a pair of quotes around the whole; those of '"A" and "B"' stay."""
    if len(title) < 2 or title[-1] not in _QUOTES.get(title[0], ""):  # noqa: PLR2004
        return title
    inner = title[1:-1]
    is_whole = title[0] not in (re.sub(r"\b'\b", "", inner) if title[0] == "'" else inner)
    return inner.strip() if is_whole else title


_NEEDS = re.compile(
    r"\s*[(\[（]\s*(?:(?:needs?|depends?\s+on|requires?|(?P<after>after)|braucht|benötigt|erfordert|nécessite|dépend\s+de|requiere"
    r"|necesita|depende\s+de|richiede)\b|需要)[:：\s]*(?:(?:points?|punkte?|puntos?)\s+)?"
    r"(?P<list>(?:#?\d{1,4}|and|und|et|(?:y|e|to|bis)(?=\s*\d)|&|none|nothing|[,;/\s，、；،؛–第点和与-])*+)[)\]）][\s.。।]*$",
    re.IGNORECASE,
)
"""Its list is possessive: there are 2^n ways to read n digits, and none need be tried but the first."""
_MOST_POINTS = 1000
_LONGEST_RANGE = 100
_POINT_NUMBERS = re.compile(r"(\d{1,4})(?:\s?(?:[–-]|to|bis)\s?#?(\d{1,4}))?", re.IGNORECASE)


def split_needs(raw: str) -> tuple[str, list[int]]:
    """A raw title without its `(needs 1, 2)`, and these numbers.

    Examples:
        >>> split_needs("Compare the two (needs 1, 2)")
        ('Compare the two', [1, 2])
    """
    match = _NEEDS.search(raw[-200:])
    if match is None:
        return raw, []
    numbers: list[int] = []
    for each in _POINT_NUMBERS.findall(match["list"]):
        first, last = sorted((int(each[0]), int(each[1] or each[0])))
        if last > _MOST_POINTS and match["after"]:  # a year, as in "Europe (after 1945)"
            return raw, []
        numbers += range(first, min(last, first + _LONGEST_RANGE) + 1)
    return raw[: len(raw) - len(match[0])], numbers


_LONGEST_NOTE = 300
_RECALL = re.compile(rf"\(recall: *(?P<note>[^()]{{1,{_LONGEST_NOTE}}})\)[\s.]{{0,8}}$", re.IGNORECASE)


def split_note(raw: str) -> tuple[str, str]:
    """A raw title without its `(recall: ...)`, and what this says.

    Examples:
        >>> split_note("Light (recall: the balcony faces north)")
        ('Light', 'the balcony faces north')
    """
    match = _RECALL.search(raw[-400:])
    if match is None:
        return raw, ""
    return raw[: len(raw) - len(match[0])].rstrip(), _clean_note(match["note"])


def _clean_note(note: str) -> str:
    return " ".join(without_hidden_text(_INVISIBLE.sub(" ", note[:_LONGEST_NOTE])).split())


@dataclass(kw_only=True)
class PointSieve:
    """Takes a model's raw titles in their order, and gives back the points that are clean and new.

    A model numbers points by their places in its own list. A point can only need points before it. Other needs (itself,
    a later point, a number that isn't there) are left out with a line in the log, so there can be no cycle.
    """

    max_words: int | None = None
    """As in `clean_title`."""
    drop_similar: bool = False
    """Whether a title that says much the same as an earlier one is left out."""
    depends: bool = False
    """Whether a title may say what it needs: `"Compare the two (needs 1, 2)"`."""
    recalls: bool = False
    """Whether a title may say what it needs of the conversation: `"Light (recall: it faces north)"`."""
    points: list[SkeletonPoint] = field(default_factory=list, init=False)
    _stems: list[frozenset[str]] = field(default_factory=list, init=False)
    _keys: set[str] = field(default_factory=set, init=False)
    _places: dict[int, int] = field(default_factory=dict, init=False)
    """From a place in the model's list to the index of the point that stands there."""
    _place: int = field(default=0, init=False)
    _known_count: int = field(default=0, init=False)

    def remember(self, points: Sequence[SkeletonPoint]) -> None:
        """Before the first title: these points are there already."""
        self.points = list(points)
        self._places = {point["index"]: point["index"] for point in points}
        self._place = self._known_count = len(points)
        for point in points:
            self.take_title(point["title"], point["index"])

    def take(self, raw: str) -> SkeletonPoint | None:
        """The point of the next raw title; `None`: there is nothing in it, or nothing new."""
        self._place += 1
        raw, note = split_note(raw) if self.recalls else (raw, "")
        text, needs = split_needs(raw) if self.depends else (raw, [])
        # Asked for the rest of a list, a model counts from 1 again or goes on counting: "1. Soil" or "12. Soil" comes
        # first behind eleven points.
        place_in_reply = self._place - self._known_count
        number = _DIGITS.match(text.lstrip(_MARKS_BEFORE_NUMBER))
        counts_again = number is not None and number[0] == str(place_in_reply)
        title = self.take_title(text, place_in_reply if counts_again else self._place)
        if title is None:
            return None
        index = len(self.points) + 1
        lost = [place for place in needs if place not in self._places]
        if lost:
            logger.warning(
                "skeleton: point %d (%s) says that it needs %s, which is no point before it: left out.",
                index,
                title,
                ", ".join(map(str, lost)),
            )
        depends_on = sorted({self._places[place] for place in needs if place in self._places})
        point = SkeletonPoint(index=index, title=title, depends_on=depends_on)
        if note:
            point["note"] = note
        self._places[self._place] = index
        self.points.append(point)
        return point

    def take_title(self, raw: str, place: int | None = None) -> str | None:
        """Clean a title, and remember it; `None`: there is nothing in it, or nothing new."""
        title = clean_title(raw, max_words=self.max_words, place=place)
        folded = unicodedata.normalize("NFKC", title).casefold()
        words = _SILENT.sub(" ", folded).split()
        key = " ".join(words) or folded
        if not title or key in self._keys:
            return None
        if self.drop_similar:
            stems = frozenset(map(_stem, words))
            if any(_similar(stems, one) for one in self._stems):
                return None
            self._stems.append(stems)
        self._keys.add(key)
        return title


def _cut_to_words(title: str, most: int) -> str:
    """The title, if it is little longer than it may be; else what comes before its last joining word in that length.

    Half a phrase ("Learn to say no to non-essential") is worse to read than two words too many.
    """
    words = title.split()
    if len(words) <= most + most // 2:
        return title
    end = next((at for at in range(most, 1, -1) if _JOINING_WORD.fullmatch(words[at])), most)
    return " ".join(words[:end]).rstrip(",;")


def clean_titles(raw: Iterable[str], *, max_words: int | None = None, drop_similar: bool = False) -> list[str]:
    """Clean titles, without empty ones and without repetitions."""
    sieve = PointSieve(max_words=max_words, drop_similar=drop_similar)
    numbered = enumerate(islice(raw, MOST_ITEMS), start=1)
    return [title for place, item in numbered if (title := sieve.take_title(item, place)) is not None]


def _similar(left: frozenset[str], right: frozenset[str]) -> bool:
    """Whether two titles say much the same: one within the other, or most words shared (Jaccard)."""
    if not left or not right:
        return False
    return left <= right or right <= left or len(left & right) / len(left | right) >= _SIMILAR


def _stem(word: str) -> str:
    for suffix in _STEM_SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:  # noqa: PLR2004
            return word.removesuffix(suffix)
    return word


class EnoughError(Exception):
    """Ends a stream that goes on though nothing more of it is wanted."""


@dataclass
class EarlyPoints:
    """Gives out a skeleton's points, each as soon as its title is whole. One reply or several may bring them."""

    new_sieve: Callable[..., PointSieve]
    """Makes the sieve for a reply's titles."""
    most: int
    """How many points there may be."""
    on_point: Callable[[SkeletonPoint], None]
    """Gets each point."""
    points: list[SkeletonPoint]
    """Those that were given out."""
    has_too_many: bool = False
    """Whether there were more points than may be."""

    def __post_init__(self) -> None:
        self.begin_reply("")

    def begin_reply(self, prefill: str) -> None:
        """A reply begins after `prefill`. Its list goes on from the points that there are."""
        self._sieve = self.new_sieve()
        self._sieve.remember(self.points)
        self._scanner = TitleScanner()
        self._titles: list[str] = []
        self._prefill = prefill
        self._start = ""
        self._repeats = 0
        self._has_enough = False

    def feed(self, piece: str) -> None:
        """Take the next piece of the reply; raise `EnoughError` if no more of it is wanted."""
        if self._prefill:  # some servers repeat what was put into the model's mouth
            self._start = (self._start + piece).lstrip()
            if len(self._start) < len(self._prefill):
                return
            piece = self._start if self._start.startswith(self._prefill) else f"{self._prefill} {self._start}"
            self._prefill = ""
        titles = self._scanner.feed(piece)
        self._titles += titles
        for title in titles:
            self._take(title)
        is_full = len(self.points) >= self.most
        if self.has_too_many or (is_full and self._scanner.unread > _LONGEST_END) or self._repeats > _MOST_REPEATS:
            raise EnoughError

    def glimpse(self, piece: str) -> None:
        """The same of a reply that only counts once it is whole."""
        if not self._has_enough:
            try:
                self.feed(piece)
            except EnoughError:
                self._has_enough = True

    def finish_reply(self, titles: Sequence[str]) -> None:
        """Take the titles of the whole reply: those that weren't seen yet are new."""
        seen = len(self._titles)
        for title in titles[seen:] if list(titles[:seen]) == self._titles else titles:
            self._take(title)

    def take_over(self, points: Sequence[SkeletonPoint]) -> bool:
        """Give out the rest of a whole skeleton. `False`: it isn't the one of which points were given out."""
        if list(points[: len(self.points)]) != self.points:
            return False
        for point in points[len(self.points) :]:
            self.on_point(point)
        return True

    def _take(self, title: str) -> None:
        if len(self.points) >= self.most:
            self.has_too_many = True
            return
        point = self._sieve.take(title)
        self._repeats = self._repeats + 1 if point is None else 0
        if point is not None:
            self.points.append(point)
            self.on_point(point)


def given_points(given: object) -> list[SkeletonPoint]:
    """Points from what a caller gave as `given_skeleton`: titles, or points. They are numbered 1, 2, ...

    A point's `depends_on` names others by their `index`, as in an earlier result, or where none has one by their
    place from 1. A point may stand before one that it needs.

    Raises:
        SotConfigError: Not a list of these, a title without a word in it, or needs that can't be met.
    """
    if not isinstance(given, (list, tuple)):
        message = f"given_skeleton is a list of titles or points, not {type(given).__name__}."
        raise SotConfigError(message)
    points: list[SkeletonPoint] = []
    for index, item in enumerate(given, start=1):
        title = clean_title(title_of(item) or "", place=index)
        if not title:
            message = (
                f"given_skeleton: entry {index} is {kind_of(item)} without a word in it; it must be a title, or a "
                'point such as {"title": "Set clear goals"}.'
            )
            raise SotConfigError(message)
        point = SkeletonPoint(index=index, title=title, depends_on=[])
        if isinstance(item, Mapping) and isinstance(item.get("note"), str) and (note := _clean_note(item["note"])):
            point["note"] = note
        points.append(point)
    if any(isinstance(item, Mapping) and item.get("depends_on") for item in given):
        _set_needs(points, given)
    return points


def _set_needs(points: Sequence[SkeletonPoint], given: Sequence[Any]) -> None:
    places = _index_by_number(given)
    for point, item in zip(points, given, strict=True):
        needs = item.get("depends_on") if isinstance(item, Mapping) else None
        where = f"given_skeleton: point {point['index']} ({point['title']})"
        if needs and not (isinstance(needs, (list, tuple)) and all(type(other) is int for other in needs)):
            message = f"{where} has depends_on={needs!r:.80}; it must be a list of other points' numbers."
            raise SotConfigError(message)
        for other in needs or ():
            if other not in places:
                message = f"{where} depends on {other}, and there is no such point: {sorted(places)}."
                raise SotConfigError(message)
        point["depends_on"] = sorted({places[other] for other in needs or ()})
    try:
        TopologicalSorter({point["index"]: point["depends_on"] for point in points}).prepare()
    except CycleError as error:
        circle = " -> ".join(map(str, reversed(error.args[1])))
        message = f"given_skeleton: its points wait for each other in a circle: {circle}. Take one depends_on out."
        raise SotConfigError(message) from error


def _index_by_number(given: Sequence[Any]) -> dict[int, int]:
    """The points' own indices, by the numbers that `depends_on` names them by."""
    named = [item.get("index") if isinstance(item, Mapping) else None for item in given]
    if all(type(index) is int for index in named) and len(set(named)) == len(named):
        return {index: place for place, index in enumerate(named, start=1)}  # type: ignore[misc]
    return {place: place for place in range(1, len(named) + 1)}


class SkeletonSchema(BaseModel):  # noqa: D101  (a docstring would go to the model, and every token is latency)
    # The reply that a structured skeleton has to be.

    model_config = ConfigDict(extra="forbid", title="Skeleton")

    points: list[str]

    fewest: ClassVar[int] = 0
    """How many usable points there have to be."""
    cleaning: ClassVar[Mapping[str, Any]] = {}
    """As `clean_titles` takes it."""

    @model_validator(mode="before")
    @classmethod
    def _enough_titles(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = {"points": value}
        if isinstance(value, dict) and isinstance(value.get("points"), str):  # some models write JSON within JSON
            value = {**value, "points": parse_skeleton(value["points"])}
        if isinstance(value, dict) and isinstance(value.get("points"), list):
            titles = [item if isinstance(item, str) else title_of(item) for item in value["points"]]
            value = {**value, "points": [title for title in titles if title is not None]}
            usable = len(clean_titles(value["points"], **cls.cleaning))
            if usable < cls.fewest:
                message = f"Write at least {cls.fewest} different points; {usable} are usable."
                raise ValueError(message)
        return value


@lru_cache(maxsize=64)
def skeleton_schema(
    min_points: int, *, max_words: int | None = None, drop_similar: bool = False
) -> type[SkeletonSchema]:
    """A `SkeletonSchema` whose validation also counts the usable points.

    It doesn't get `min_points` by Pydantic's validation context, with which instructor would render the messages as
    templates.
    """
    cleaning = {"max_words": max_words, "drop_similar": drop_similar}
    return type("Skeleton", (SkeletonSchema,), {"__module__": __name__, "fewest": min_points, "cleaning": cleaning})
