"""The training questions: written and labelled for this project, one file a kind in `questions/`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["FOLDER", "Question", "read_questions"]

FOLDER = Path(__file__).with_name("questions")


class Question(NamedTuple):
    """One labelled question."""

    text: str
    skeleton: bool
    """Whether its answer is a list of points that can be written independently."""
    kind: str
    """The file it is in."""


def read_questions(folder: Path = FOLDER) -> list[Question]:
    r"""Reads all questions, in a fixed order.

    A line is `S | the question`: `S` skeleton or `D` direct. `\n` in a question is a new line; a line that begins
    with `#` is a comment.

    Raises:
        ValueError: A line isn't like that, or a question is there twice.
    """
    questions: list[Question] = []
    seen: set[str] = set()
    for file in sorted(folder.glob("*.txt")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
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
            questions.append(Question(plain, route == "S", file.stem))
    return questions
