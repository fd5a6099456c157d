"""Thoughts that a model writes into its reply, taken out while it streams, whatever the pieces that it comes in.

Providers that know their model's thoughts keep them apart. Local servers and gateways often don't: the thought then
stands in the text, in tags, in gpt-oss channels, or with a closing tag only, where the template of the prompt has
opened it.
"""

from __future__ import annotations

import re
from typing import Literal

from sot_graph.usage import name_of

_CHANNEL = ("<|channel|>", "<|start|>assistant")
_OPENINGS = (
    *("<think>", "<thinking>", "<thought>", "<thoughts>", "<reasoning>", "<seed:think>", "[think]", "◁think▷"),
    *("<|start_thinking|>", "<|begin_of_thought|>", "<|thinking|>"),
)
_CLOSINGS = (
    *("</think>", "</thinking>", "</thought>", "</thoughts>", "</reasoning>", "</seed:think>", "[/think]", "◁/think▷"),
    *("<|end_thinking|>", "<|end_of_thought|>", "<|/thinking|>"),
)
_CLOSING_OF = {opening: re.compile(re.escape(end), re.IGNORECASE) for opening, end in zip(_OPENINGS, _CLOSINGS)}  # noqa: B905
_FINAL = re.compile(r"<\|channel\|>final[^<]{0,40}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>")
_CLOSING_OF |= dict.fromkeys(_CHANNEL, _FINAL)
# gpt-oss again, from servers that leave its special tokens out: "analysisWe need to ...assistantfinalThe sky is".
_BARE = "analysis"
_BARE_OPENING = re.compile(r"analysis(?=[A-Z\"'])")
_BARE_CLOSING = re.compile(r"assistant\s?final")
_LONGEST_MARK = 128
_MOST_SPACE = 4096
"""So many characters of white space at the start are skipped to find a thought."""
_UNOPENED = re.compile(rf"(?<![`'\"“(])(?:{'|'.join(map(re.escape, _CLOSINGS))})(?![`'\"”)])", re.IGNORECASE)
"""A closing tag, but for one that a text quotes."""
_CLOSINGS_AT_START = re.compile(rf"(?:\s*+(?:{'|'.join(map(re.escape, _CLOSINGS))}))++", re.IGNORECASE)
MAY_HOLD_THOUGHT = re.compile(r"\A\s*+analysis|<|\[/?think|◁", re.IGNORECASE)
"""Finds nothing in a whole reply without thoughts, as nearly all are: the filter need not look at it."""
_TELLTALES = (
    *("okay, ", "ok, ", "alright, ", "hmm", "let me think", "let's think", "first, i need", "first, let me"),
    *("i need to", "we need to", "we are ", "the user ", "so the user", "so, the user", "thinking process"),
    *("let me ", "let's ", "got it, ", "wait, ", "i should ", "the question "),
)
"""How models begin to think aloud."""
_THINKERS = re.compile(r"think|reason|(?<![a-z0-9])(?:r1|qwq|qvq|glm-z\d)(?![a-z0-9])")


class ThoughtFilter:
    """Takes a reply's text piece by piece, and gives back what is no thought.

    A thought is looked for at the reply's start; a text that quotes the tags keeps them. What comes without an opening
    tag can be told only once its closing tag is there, so such a beginning is held back where it may be one.

    Args:
        unopened: Whether a thought without opening tag is expected: all is held back until its closing tag, or the end.
            `None`: not known yet.
        expects_structure: Whether a reply that begins with a word is held back, as where JSON or a list is wanted.

    Examples:
        >>> thoughts = ThoughtFilter()
        >>> [thoughts.feed(piece) for piece in ("<thi", "nk>Hm.</think>", "Because.")]
        ['', '', 'Because.']
    """

    def __init__(self, *, unopened: bool | None = False, expects_structure: bool = False) -> None:
        self.is_open = False
        """Whether the whole reply ends within a thought."""
        self.found_unopened = False
        """Whether a thought without an opening tag was taken out."""
        self._unopened = unopened
        self._expects_structure = expects_structure
        self._state: Literal["start", "thought", "suspected", "text", "final", "over"] = "start"
        """`start`: what begins isn't told yet; `thought`: within an opened one; `suspected`: perhaps within one that
        nothing opened, until its closing tag or the end; `final`: gpt-oss's last channel; `over`: behind that."""
        self._took_nothing_yet = True
        self._closing = _UNOPENED
        self._buffer = ""
        self._suspected: list[str] = []
        """What is suspected and has left the buffer: text, unless an unopened thought ends."""

    def feed(self, piece: str) -> str:
        """Take the next piece; give back what is text for certain."""
        if self._state == "text":
            return piece
        if self._state == "over":
            return ""
        self._buffer += piece
        while self._state in {"start", "thought", "suspected"}:
            if not (self._settle_start() if self._state == "start" else self._leave(is_whole=False)):
                return ""
        text, self._buffer = self._buffer, ""
        if self._state == "final":
            # gpt-oss ends its text with a mark, too.
            text, mark, _ = text.partition("<|")
            if mark:
                self._state = "over"
            elif text.endswith("<"):
                text, self._buffer = text[:-1], "<"
        return text

    def finish(self) -> str:
        """Take the reply's end; give back the rest of the text."""
        while self._state == "suspected" and self._leave(is_whole=True):
            if self._took_nothing_yet:  # it was no thought: the text had opened what was closed there
                break
            self._settle_start()
        self.is_open = self._state == "thought"
        rest = "" if self.is_open or self._state == "over" else "".join(self._suspected) + self._buffer
        self._suspected, self._buffer = [], ""
        return rest

    def _leave(self, *, is_whole: bool) -> bool:
        """Leave the thought where it ends. Returns whether its end is there."""
        end = self._closing.search(self._buffer)
        if end is not None and self._state == "suspected":
            if end.end() == len(self._buffer) and not is_whole:
                return False  # the next character may be a quote's end
            before = "".join(self._suspected) + self._buffer[: end.start()]
            if any(opening in before.casefold() for opening in _OPENINGS):  # the tag closes what the text has opened
                self._state, self._buffer, self._suspected = "text", "".join(self._suspected) + self._buffer, []
                return True
            self.found_unopened = True
        if end is None:
            cut = max(0, len(self._buffer) - _LONGEST_MARK)
            if self._state == "suspected" and cut:
                self._suspected.append(self._buffer[:cut])
            self._buffer = self._buffer[cut:]
            return False
        self._suspected.clear()
        self._buffer, self._took_nothing_yet = self._buffer[end.end() :], False
        self._state = "final" if self._closing is _FINAL else "start"
        return True

    def _settle_start(self) -> bool:
        """Find out whether a thought or the text begins here. Returns whether that can be told yet."""
        if (closings := _CLOSINGS_AT_START.match(self._buffer)) is not None:
            self._took_nothing_yet, self.found_unopened, self._buffer = False, True, self._buffer[closings.end() :]
        start = self._buffer.lstrip()
        lower = start[:_LONGEST_MARK].casefold()
        for opening, closing in _CLOSING_OF.items():
            if lower.startswith(opening):
                # The final channel may come without one of thoughts: its own mark opens and closes.
                after = start if closing is _FINAL else start[len(opening) :]
                self._state, self._closing, self._buffer = "thought", closing, after
                return True
        if _BARE_OPENING.match(start):
            self._state, self._closing, self._buffer = "thought", _BARE_CLOSING, start
            return True
        is_unknown = self._took_nothing_yet and self._unopened is None
        marks = (*_CLOSING_OF, *_CLOSINGS, *(_TELLTALES if is_unknown else ()))
        may_begin_mark = any(len(lower) < len(mark) and mark.startswith(lower) for mark in marks)
        if len(self._buffer) < _MOST_SPACE and (may_begin_mark or _BARE.startswith(start)):
            return False
        sounds_like_thought = lower.startswith(_TELLTALES) or (self._expects_structure and start[:1].isalpha())
        if self._took_nothing_yet and (self._unopened or (is_unknown and sounds_like_thought)):
            self._state, self._closing = "suspected", _UNOPENED
        else:
            self._state, self._buffer = "text", self._buffer if self._took_nothing_yet else start
        return True


def is_named_as_thinker(model: object) -> bool:
    """Whether a model's name says that it thinks, as those of open models do."""
    return _THINKERS.search(name_of(model).casefold()) is not None


def ends_unopened_thought(text: str) -> bool:
    """Whether a text, from whose start no thought was taken, holds a closing tag that nothing has opened."""
    end = _UNOPENED.search(text)
    return end is not None and not any(opening in text[: end.start()].casefold() for opening in _OPENINGS)
