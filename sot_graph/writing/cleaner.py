"""Cleaning a point's text while it streams: what might still be taken away is held back until it can't be."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, field

_MARKS_BEFORE = re.compile(r"(?:[\s#>*_\"“„‘«»「『'•\u200e\u200f\ufeff-]|`{1,2}(?!`)){0,40}")
"""What may stand before an echo: marks of all kinds, also invisible ones, but no code fence."""
_NUMBER = re.compile(
    r"(?P<nth>第)?[(\[（]?(?P<place>\d{1,3})\s?(?(nth)[点點]?[，.．)）\]:：、]|[.．)）\]:：、])-?(?!\d)"
)
"""Without "第", "6点：" is a time of day."""
_UNFINISHED_NUMBER = re.compile(r"(?P<nth>第)?[(\[（]?\d{0,3}\s?(?(nth)[点點]?)$")
_LABELS = (
    "section", "point", "part", "step", "chapter", "item", "topic", "abschnitt", "punkt", "teil", "schritt", "kapitel",
    "partie", "étape", "chapitre", "sección", "punto", "parte", "paso", "capítulo", "seção", "ponto", "passo",
    "sezione", "capitolo",
)  # fmt: skip
"""What models put before a point's number: "Section 2: Soil"."""
_LABEL = re.compile(r"[^\W\d_]{1,12}")
_NUMBER_OF_LABEL = re.compile(r"[ \t]{1,3}(\d{1,3})(?!\d)[ \t.):\]–—-]*\n?")
_UNFINISHED_NUMBER_OF_LABEL = re.compile(r"[ \t]{0,3}\d{0,3}$")
_UNDERLINE = re.compile(r"[ \t]*(?:={2,}|-{2,})[ \t]*(?:\r?\n|$)")
_UNFINISHED_UNDERLINE = re.compile(r"[ \t]*(?:=*|-*)[ \t\r]*$")
_MARKS = "*_\"“”„‘’«»「」『』'`"
_TERMINATOR = re.compile(r"[ \t\xa0\u202f]*(?:[:：。।]|[.\-–—](?=\s|$)|\r?\n)")
_UNFINISHED_TERMINATOR = re.compile(r"[ \t\xa0\u202f]*[.\-–—\r]?$")
_SPACES = re.compile(r"[ \t]*")
_SECOND_ITEM = re.compile(
    r"[\s#>*_`]*(?P<nth>第)?[(\[（]?[2２٢۲२২]\s?(?(nth)[点點]?[，.．)）\]:：、]|[.．)）\]:：、])(?!\d)"
)
_MAY_BEGIN_SECOND_ITEM = "\n\r\t #>*_`([（第2２٢۲२২点點.．)）]:：、，"
_SENTENCE_END = re.compile(r"[.!?…][\"”'’)\]*_]*(?=\s|$)|[。！？।؟۔][”’)\]」』）]*")
_TAGS = re.compile(r"<(point|question)>(?P<inside>.*?)</\1>", re.DOTALL)
"""Those that the prompts put around a title and the question."""
_MARKS_OF_A_WORD = 4
"""Marks, with a space, that may stand before a sentence's first word."""
_SENTENCE_BEGIN = re.compile(rf"[ \t]+[*_\"“„'-]{{0,{_MARKS_OF_A_WORD - 1}}}[ \t]?(\w)")
_OPENING_TAGS = ("<point>", "<question>")
_LONGEST_TAGGED = 2_000
"""Characters in which a closing tag is looked for. A text waits for it."""
_SAYING = re.compile(r"[^\W_]|[\u2190-\u24ff\u2600-\u2bff\U0001f000-\U0001faff]")
"""A text without one of these says nothing: a letter, a digit, or a picture such as an emoji."""
_SHORT = 1_000
"""Characters up to which what is held back is looked at with each piece. More of it is when an eighth more has come:
looking takes time in proportion to it."""
_MOST_ECHOES = 4
"""How many echoes are taken away at most, such as "1. Title" as a heading, then "Title:" again."""


class _NeedsMoreError(Exception):
    """More text is needed to tell whether this is an echo."""


@dataclass(slots=True)
class TextCleaner:
    """Takes a point's text piece by piece and gives back what is safe to show.

    At the start it takes away an echo of the title, its number, or the prefilled text, but nothing of code in a fence;
    at the end white space, and on request a sentence that a token limit cut off. The pieces given back, joined, are the
    cleaned text, whatever the pieces were that came in.

    With neither index nor title, nothing is taken away: the text isn't a point's.
    """

    index: int = 0
    title: str = ""
    _: KW_ONLY
    prefill: str = ""
    """The beginning that was put into the model's mouth; some servers repeat it."""
    first_words: str = ""
    """The words of the prefill that belong to the text: they are put before it."""
    trim_to_sentence: bool = False
    """Whether `finish(cut_off=True)` cuts back to the last whole sentence."""
    cites: bool = False
    """Whether `[1]` at the start is a citation, and no number of the point's."""
    says_something: bool = False
    """Whether there is a word in it, or a picture."""
    _given: list[str] = field(default_factory=list)
    _held: str = ""
    _new: list[str] = field(default_factory=list)
    """What has come since `_held` was looked at."""
    _new_chars: int = 0
    _marks: list[str] = field(default_factory=list)
    """What has come before the first word. Marks alone are no text: the point would be written again."""
    _at_start: bool = True
    echoes: int = 0
    """How many have been taken away."""

    @property
    def text(self) -> str:
        """What has been given back so far."""
        self._given = ["".join(self._given)]
        return self._given[0]

    def feed(self, piece: str) -> str:
        """Take the next piece; give back what can't be taken away any more.

        `_held` is all of the text until its start is settled. From then on it is the end, which may still go.
        """
        self._new.append(piece)
        self._new_chars += len(piece)
        if len(self._held) > _SHORT and 8 * self._new_chars < len(self._held):
            return ""
        piece = "".join(self._new)
        self._new.clear()
        self._new_chars = 0
        if self._at_start:
            self._held += piece
            if not self._settle_start(final=False):
                return ""
            piece, self._held = self._held, ""
        if not self.says_something:
            self._marks.append(piece)
            if not _SAYING.search(piece):
                return ""
            self.says_something = True
            piece = "".join(self._marks)
            self._marks.clear()
        self._held += piece
        length = len(self._held.rstrip())
        if self.trim_to_sentence:
            ends = [match.end() for match in _SENTENCE_END.finditer(self._held)]
            # A full stop at the very end may be inside "2.5": wait for what follows it.
            length = next((end for end in reversed(ends) if end < len(self._held)), 0)
        piece, self._held = self._held[:length], self._held[length:]
        self._given.append(piece)
        return piece

    def finish(self, *, cut_off: bool = False) -> str:
        """Take the end of the text; give back the rest of it."""
        self._held += "".join(self._new)
        self._new.clear()
        if self._at_start:
            self._settle_start(final=True)
        rest = self._held
        if cut_off and self.trim_to_sentence:
            ends = [match.end() for match in _SENTENCE_END.finditer(rest)]
            # No whole sentence at all: half of one is better than nothing.
            rest = rest[: ends[-1]] if ends else "" if self.text else rest
        self._held = ""
        rest = rest.rstrip() if self.text or _SAYING.search(rest) else ""
        self._given.append(rest)
        self.says_something = _SAYING.search(self.text) is not None
        return rest

    def _settle_start(self, *, final: bool) -> bool:
        """Take away what echoes at the start. False: it can't be told yet."""
        self._held = self._held.lstrip()
        while self.echoes < _MOST_ECHOES:
            start = _TextStart(self._held, final=final)
            try:
                if self.title and self._held[:1] == "<" and (bare := start.without_tags()) is not None:
                    self._held = bare.lstrip()
                elif end := start.echo_end(self.index, self.title, self.prefill.strip(), cites=self.cites):
                    self._held = self._held[end:].lstrip()
                else:
                    break
            except _NeedsMoreError:
                return False
            self.echoes += 1
        if not self._held and not final:
            return False
        if self.first_words and self._held:
            self._held = f"{self.first_words} {self._held}"
        self._at_start = False
        return True


@dataclass(slots=True)
class _TextStart:
    """The beginning of a text, of which more may come unless it is final.

    Everything here that looks at the end of what is there so far, and could see something else with more of it,
    raises `_NeedsMoreError`. So the pieces that a text comes in never change what is made of it.
    """

    text: str
    final: bool

    def echo_end(self, index: int, title: str, prefill: str, *, cites: bool) -> int:
        """Where an echo ends; 0: there is none."""
        if prefill and self._stands_at(0, prefill, exact=True):
            return len(prefill)
        text_begins = self._end_of_run(_MARKS_BEFORE, 0)
        own = _MARKS_BEFORE.match(title)
        own_marks = own.end() if own else 0  # those that the title itself begins with
        if index and (end := self._label_end(text_begins, index, title, own_marks)):
            return end
        number = _NUMBER.match(self.text, text_begins)
        if number:
            self._need_text_at(number.end())
        elif _UNFINISHED_NUMBER.match(self.text, text_begins):
            self._need_text_at(len(self.text))
        start = self._end_of_run(_MARKS_BEFORE, number.end()) if number else text_begins
        for place in (start - own_marks, text_begins - own_marks):
            if title and self._stands_at(place, title) and (end := self._title_end(place, place + len(title))):
                return end
        if cites and number and "[" in number[0]:
            return 0
        if index and number and int(number["place"]) == index and (index > 1 or not self._begins_a_list(number.end())):
            # Marks behind it belong to the text, but for those that close what was opened before: "**2.** Text".
            return self._marks_end(number.end(), sum(self.text.count(mark, 0, number.start()) for mark in _MARKS))
        return 0

    def without_tags(self) -> str | None:
        """The text without the prompt's tags at its start, and without the question in them; `None`: there are none."""
        tags = _TAGS.match(self.text[:_LONGEST_TAGGED])
        if tags is None:
            begun = self.text[: len(_OPENING_TAGS[-1])]
            if len(self.text) < _LONGEST_TAGGED and any(begun.startswith(tag[: len(begun)]) for tag in _OPENING_TAGS):
                self._need_text_at(len(self.text))
            return None
        rest = self.text[tags.end() :]
        following = rest.strip()
        if not following:
            self._need_text_at(len(self.text))
        if tags[1] == "question" and following:
            return rest
        self._need_text_at(len(self.text) - len(rest.lstrip()) + _MARKS_OF_A_WORD)
        # A sentence that goes on ("<point>Soil</point> is what plants stand in."), or a heading.
        begins = _SENTENCE_BEGIN.match(rest)
        is_heading = begins is not None and (begins[1].isupper() or begins[1].isdigit())
        return f"{tags['inside']}\n{rest}" if is_heading else f"{tags['inside']}{rest}"

    def _label_end(self, position: int, index: int, title: str, own_marks: int) -> int:
        """Where "Section 2: Title", or "Section 2" on a line of its own, ends; 0: there is none."""
        label = _LABEL.match(self.text, position)
        if label is None:
            return 0
        word = label[0].casefold()
        if label.end() == len(self.text) and any(each.startswith(word) for each in _LABELS):
            self._need_text_at(label.end())
        if word not in _LABELS:
            return 0
        if not self.final and _UNFINISHED_NUMBER_OF_LABEL.match(self.text, label.end()):
            raise _NeedsMoreError
        number = _NUMBER_OF_LABEL.match(self.text, label.end())
        if number is None:
            return 0
        self._need_text_at(number.end())
        if number[0].endswith("\n"):
            return number.end() if int(number[1]) == index else 0
        start = self._end_of_run(_MARKS_BEFORE, number.end()) - own_marks
        return self._title_end(start, start + len(title)) if title and self._stands_at(start, title) else 0

    def _end_of_run(self, pattern: re.Pattern[str], position: int) -> int:
        """Where characters of this pattern end that stand at a position. More of them may come where the text ends."""
        match = pattern.match(self.text, position)
        end = match.end() if match else position
        self._need_text_at(end)
        return end

    def _need_text_at(self, position: int) -> None:
        """Raise where the text ends before this position, and more of it may come."""
        if position >= len(self.text) and not self.final:
            raise _NeedsMoreError

    def _stands_at(self, position: int, wanted: str, *, exact: bool = False) -> bool:
        """Whether this stands at a position, in capitals or not."""
        there = self.text[max(0, position) : position + len(wanted)]
        expected = wanted[: len(there)]
        same = there == expected or (not exact and there.casefold() == expected.casefold())
        if same and len(there) < len(wanted):
            self._need_text_at(len(self.text))
            return False
        return same

    def _title_end(self, start: int, position: int) -> int:
        """Where the echo of a title ends, with all that sets it off from the text; 0: it is part of a sentence."""
        opened = sum(self.text.count(mark, 0, start) for mark in _MARKS)
        after_title = self._marks_end(position, opened)
        self._need_text_at(after_title)
        if after_title == len(self.text):
            return after_title  # nothing but the title
        if not self.final and _UNFINISHED_TERMINATOR.match(self.text, after_title):
            raise _NeedsMoreError
        terminator = _TERMINATOR.match(self.text, after_title)
        if terminator is None:
            if "*" not in self.text[position:after_title]:
                return 0
            following = self._end_of_run(_SPACES, after_title)
            goes_on = self.text[following : following + 1].islower()  # as a sentence: "**Title** and so on"
            return 0 if goes_on else after_title
        if terminator[0].endswith("\n"):
            if not self.final and _UNFINISHED_UNDERLINE.match(self.text, terminator.end()):
                raise _NeedsMoreError
            underline = _UNDERLINE.match(self.text, terminator.end())
            return underline.end() if underline else terminator.end()
        return self._marks_end(terminator.end(), opened - (after_title - position))

    def _marks_end(self, position: int, most: int) -> int:
        """Where the marks end that close those opened before the title: no more of them than were opened."""
        end = position
        while end < position + most and (end < len(self.text)) and self.text[end] in _MARKS:
            end += 1
        if end < position + most:
            self._need_text_at(end)
        return end

    def _begins_a_list(self, position: int) -> bool:
        """Whether "1. ..." is not the first point's own number, but the first item of a list within the point."""
        line_end = self.text.find("\n", position)
        if line_end < 0:
            self._need_text_at(len(self.text))
            return False
        second = _SECOND_ITEM.match(self.text, line_end)
        if second is None and not self.final and not self.text[line_end:].strip(_MAY_BEGIN_SECOND_ITEM):
            raise _NeedsMoreError
        if second is not None:
            self._need_text_at(second.end())
        return second is not None
