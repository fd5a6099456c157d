"""The training questions: written and labelled for this project, one file a kind or a language in `questions/`.

Of a file that says so, a quarter is held out: of its lists, and of its other questions, the third, the seventh, and so
on. It is never trained on. But it was measured twice while the router was made, so its figures flatter a little.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

__all__ = ["FOLDER", "Question", "read_questions"]

_HOLDS_OUT = "# A quarter is held out."
_HELD_OUT_OF = 4
_HELD_OUT_PLACE = 2

FOLDER = Path(__file__).with_name("questions")


class Question(NamedTuple):
    """One labelled question."""

    text: str
    skeleton: bool
    """Whether its answer is a list of points that can be written independently."""
    kind: str
    """The file it is in."""
    before: str = ""
    """The question that a follow-up leans on."""
    held_out: bool = False


def read_questions(folder: Path = FOLDER) -> list[Question]:
    r"""Reads all questions, in a fixed order.

    A line is `S | the question`: `S` skeleton or `D` direct. `\n` in a question is a new line; a line that begins
    with `#` is a comment. A follow-up stands behind ` => `, and the question before it in front.

    Raises:
        ValueError: A line isn't like that, or a question is there twice.
    """
    questions: list[Question] = []
    seen: set[str] = set()
    for file in sorted(folder.glob("*.txt")):
        lines = file.read_text(encoding="utf-8").splitlines()
        holds_out, counted = _HOLDS_OUT in lines, Counter[str]()
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            route, bar, text = line.partition(" | ")
            if not bar or route not in {"S", "D"} or not text.strip():
                message = f"{file.name}:{number} is not `S | question`: {line[:60]!r}"
                raise ValueError(message)
            if text.casefold() in seen:
                message = f"{file.name}:{number} is there twice: {text[:60]!r}"
                raise ValueError(message)
            seen.add(text.casefold())
            # Two steps, so that LaTeX such as \neq can be written as \\neq.
            plain = text.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
            before, arrow, asked = plain.partition(" => ")
            held_out = holds_out and counted[route] % _HELD_OUT_OF == _HELD_OUT_PLACE
            counted[route] += 1
            if arrow:
                questions.append(Question(asked, route == "S", file.stem, before, held_out))
            else:
                questions.append(Question(plain, route == "S", file.stem, "", held_out))
    return questions
