"""The training questions: written and labelled for this project, one file a kind in `questions/`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["FOLDER", "TOKENS", "Question", "read_questions"]

FOLDER = Path(__file__).with_name("questions")
TOKENS = {"s": 20, "m": 140, "l": 450}
"""What the letters of an answer's length stand for, in tokens."""


class Question(NamedTuple):
    """One labelled question."""

    text: str
    skeleton: bool
    """Whether its answer is a list of points that can be written independently."""
    tokens: int
    """About how long its answer is."""
    kind: str
    """The file it is in."""


def read_questions(folder: Path = FOLDER) -> list[Question]:
    r"""Reads all questions, in a fixed order.

    A line is `S l | the question`: `S` skeleton or `D` direct, then the length of the answer, `s`, `m` or `l`.
    `\n` in a question is a new line; a line that begins with `#` is a comment.

    Raises:
        ValueError: A line isn't like that, or a question is there twice.
    """
    questions: list[Question] = []
    seen: set[str] = set()
    for file in sorted(folder.glob("*.txt")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            labels, bar, text = line.partition(" | ")
            route, _, length = labels.partition(" ")
            if not bar or route not in {"S", "D"} or length not in TOKENS or not text.strip():
                message = f"{file.name}:{number} is not `S l | question`: {line[:60]!r}"
                raise ValueError(message)
            if text.casefold() in seen:
                message = f"{file.name}:{number} is there twice: {text[:60]!r}"
                raise ValueError(message)
            seen.add(text.casefold())
            # Two steps, so that LaTeX such as \neq can be written as \\neq.
            plain = text.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
            questions.append(Question(plain, route == "S", TOKENS[length], file.stem))
    return questions
