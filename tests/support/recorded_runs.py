"""`RecordedRun`: a run as LangSmith would show it, put together from what the client sent of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RecordedRun", "Runs"]

_PARTS = frozenset({"inputs", "outputs", "events", "extra", "error", "serialized"})
"""What the client sends apart from the rest of a run."""


@dataclass
class RecordedRun:
    """One run of a trace."""

    id: str
    posts: int = 0
    """How often it was begun: more than once is a run that appears twice."""
    fields: dict[str, Any] = field(default_factory=dict)
    """As they were sent, later ones over earlier ones."""
    children: list[RecordedRun] = field(default_factory=list)
    """In the order of the answer: by step, by point, by start."""

    @property
    def name(self) -> str:
        """What is read in the tree."""
        return str(self.fields.get("name", ""))

    @property
    def kind(self) -> str:
        """`"llm"`, `"chain"`, ..."""
        return str(self.fields.get("run_type", ""))

    @property
    def parent_id(self) -> str | None:
        """`None`: it is a root."""
        return self.fields.get("parent_run_id")

    @property
    def has_ended(self) -> bool:
        """Whether its end was told."""
        return bool(self.fields.get("end_time"))

    @property
    def inputs(self) -> dict[str, Any]:
        """What went in."""
        return self.fields.get("inputs") or {}

    @property
    def outputs(self) -> dict[str, Any]:
        """What came out."""
        return self.fields.get("outputs") or {}

    @property
    def tags(self) -> list[str]:
        """Sorted."""
        return sorted(self.fields.get("tags") or [])

    @property
    def metadata(self) -> dict[str, Any]:
        """What it can be filtered by."""
        return (self.fields.get("extra") or {}).get("metadata") or {}

    @property
    def error(self) -> str | None:
        """Of a run that failed: the exception, often with its traceback."""
        return self.fields.get("error") or None

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens in and out that an `llm` run reports."""
        usage = self.metadata.get("usage_metadata") or {}
        return usage.get("input_tokens", 0), usage.get("output_tokens", 0)

    def walk(self) -> Iterator[RecordedRun]:
        """The run and all below it, as they are read."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, name: str) -> RecordedRun:
        """The only run of this name, here or below.

        Raises:
            LookupError: There is none, or several.
        """
        found = [run for run in self.walk() if run.name == name]
        if len(found) != 1:
            message = f"{len(found)} runs are named {name!r}:\n{self.as_text()}"
            raise LookupError(message)
        return found[0]

    def as_text(self) -> str:
        """The tree as text: a line a run, with its kind, its tags and how it ended."""
        return "\n".join(self._lines("", "")) + "\n"

    def _lines(self, before: str, below: str) -> Iterator[str]:
        yield before + self._line()
        for child in self.children:
            last = child is self.children[-1]
            yield from child._lines(below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))

    def _line(self) -> str:
        words = [self.name]
        if self.kind == "llm":
            words.append("({} tokens in, {} out)".format(*self.tokens))
        words += [f"[{tag}]" for tag in self.tags if not tag.startswith(("seq:step", "graph:step"))]
        if not self.has_ended:
            words.append("... never ended")
        elif self.error:
            words.append(f"✗ {_first_of(self.error):.100}")
        return "  ".join(words)

    def _place(self) -> tuple[Any, ...]:
        metadata = self.metadata
        return (
            metadata.get("langgraph_step", 0),
            metadata.get("sot_point_index", 0),
            str(self.fields.get("start_time", "")),
        )


def _first_of(error: str) -> str:
    """The exception alone: LangChain writes its traceback right behind it."""
    return re.split(r"Traceback \(most recent|(?<=\))[\w.]+: ", error.splitlines()[0])[0]


class Runs:
    """The runs of any number of traces, while they are sent."""

    def __init__(self) -> None:
        self._runs: dict[str, RecordedRun] = {}
        self.feedback: list[dict[str, Any]] = []

    def take(self, operation: str, run_id: str, fields: Mapping[str, Any]) -> None:
        """Take a `post` or a `patch`. A patch leaves alone what it doesn't tell."""
        run = self._runs.setdefault(run_id, RecordedRun(run_id))
        run.posts += operation == "post"
        run.fields.update({key: value for key, value in fields.items() if value is not None})

    def take_part(self, name: str, content: bytes) -> None:
        """Take a part of a multipart body: `post.<id>`, `patch.<id>.outputs`, ..."""
        operation, run_id, *rest = name.split(".")
        if operation == "feedback":
            self.feedback.append(json.loads(content))
        if operation not in {"post", "patch"} or (rest and rest[0] not in _PARTS):
            return
        value = json.loads(content)
        if rest:
            self.take(operation if not rest else "part", run_id, {rest[0]: value})
        else:
            self.take(operation, run_id, value)

    def all(self) -> list[RecordedRun]:
        """Every run, with its children."""
        runs = list(self._runs.values())
        for run in runs:
            run.children = []
        for run in runs:
            if run.parent_id in self._runs:
                self._runs[run.parent_id].children.append(run)
        for run in runs:
            run.children.sort(key=RecordedRun._place)
        return sorted(runs, key=RecordedRun._place)

    def roots(self) -> Iterable[RecordedRun]:
        """The traces, in the order of their beginning."""
        return [run for run in self.all() if run.parent_id not in self._runs]
