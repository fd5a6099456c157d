"""Reading questions from a file of JSON lines, CSV or Parquet, one at a time."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sot_graph.batch.row import Row, row_id
from sot_graph.errors import SotConfigError, brief

_LONGEST_CELL = 10_000_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several equal parts. A row's id decides on its part, wherever it stands in the file."""

    number: int = 1
    """From 1."""
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From `"3/16"`.

        Raises:
            SotConfigError: It names no part.
        """
        number, _, of = text.partition("/")
        if number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of):
            return cls(int(number), int(of))
        message = f"--shard {text}: it is written as 3/16, the third of sixteen parts."
        raise SotConfigError(message)

    def has(self, question_id: str) -> bool:
        """Whether the row with this id is one of this part."""
        digest = hashlib.sha256(question_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8]) % self.of == self.number - 1


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """Questions in a file. Each iteration reads it anew, and holds one row at a time, and the ids of those before it.

    Args:
        path: `.jsonl` (or `.ndjson`), `.csv` or `.parquet`.
        shard: The part that is read.
    """

    path: Path
    shard: Shard = Shard()

    def __iter__(self) -> Iterator[Row]:
        """The rows, each with an id; the first of those with the same id. It raises as `rows` does."""
        return self.rows()

    def rows(self, on_repeated: Callable[[str], object] | None = None) -> Iterator[Row]:
        """As iterating. `on_repeated` is told the place of each row that is left out, since its id was there before.

        Raises:
            SotConfigError: The file, or a row of it, can't be read: the message says which.
        """
        seen: set[str] = set()
        for where, row in self.all_rows():
            if row["id"] not in seen:
                seen.add(row["id"])
                yield row
            elif on_repeated is not None:
                on_repeated(where)

    def all_rows(self) -> Iterator[tuple[str, Row]]:
        """Each row with its place, also those with an id that was there before. It raises as `rows` does."""
        for where, values in read_rows(self.path):
            row = _as_row(values if isinstance(values, dict) else {"question": values}, where)
            if self.shard.has(row["id"]):
                yield where, row


def read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a file, one at a time, each with its place: `"q.csv, line 3"`. Those of a table are dicts.

    Raises:
        SotConfigError: The file, or a row of it, can't be read: the message says which.
    """
    kind = path.suffix.lower()
    if kind not in READERS:
        message = f"{path}: questions come as {', '.join(READERS)}, not as {kind or 'a file without a suffix'}."
        raise SotConfigError(message)
    is_empty = True
    try:
        for place, values in READERS[kind](path):
            is_empty = False
            yield f"{path}, {place}", values
    except SotConfigError:
        raise
    except (OSError, csv.Error, ValueError) as error:  # pyarrow's own errors are of these, too
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None)
        message = f"{path} can't be read: {reason or str(error).rstrip('.')}."
        raise SotConfigError(message) from error
    if is_empty:
        message = f"{path} holds no questions."
        raise SotConfigError(message)


def _as_row(values: Mapping[str, Any], where: str) -> Row:
    row: dict[str, Any] = {key: values[key] for key in Row.__annotations__ if values.get(key) not in (None, "")}
    for name in ("messages", "documents"):
        if isinstance(row.get(name), str):  # in a table's cell
            row[name] = _parsed(row[name], f"{where}, {name}")
        if name in row and not isinstance(row[name], list):
            message = f"{where}: {name} is no list."
            raise SotConfigError(message)
    question = row.get("question", "")
    if not isinstance(question, str):
        message = f"{where}: question is no text, but {brief(question)}."
        raise SotConfigError(message)
    if not (question.strip() or row.get("messages")):
        lack = "it needs a column question, or messages"
        lack = next((f"{name} is empty" for name in ("question", "messages") if name in values), lack)
        message = f"{where}: {lack}. What is there: {', '.join(values) or 'nothing'}."
        raise SotConfigError(message)
    row["id"] = row_id(row)
    return row  # type: ignore[return-value]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        message = f"{where} is no JSON: {error}."
        raise SotConfigError(message) from error


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                place = f"line {number}"
                yield place, _parsed(line, f"{path}, {place}")


def _csv_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(max(_LONGEST_CELL, csv.field_size_limit()))  # it is the whole process's
    with path.open(encoding="utf-8-sig", newline="") as lines:
        separator = separator_of(lines.readline())
        lines.seek(0)
        reader = csv.DictReader(lines, delimiter=separator)
        for values in reader:
            yield f"line {reader.line_num}", {str(key): value for key, value in values.items()}


def separator_of(header: str) -> str:
    """What stands between a table's columns, by its first line: Excel writes semicolons in many countries."""
    bare = re.sub(r'"[^"]*"', "", header)
    return ";" if bare.count(";") > bare.count(",") else ","


def _parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open("rb") as file:
        tables = parquet_module().ParquetFile(file).iter_batches(batch_size=1000)
        rows = chain.from_iterable(table.to_pylist() for table in tables)
        for number, values in enumerate(rows, start=1):
            yield f"row {number}", values


def parquet_module() -> Any:
    """The module of pyarrow's for Parquet.

    Raises:
        SotConfigError: It isn't installed.
    """
    try:
        import pyarrow.parquet as module
    except ModuleNotFoundError as error:
        message = "Parquet needs pyarrow, which is not installed: pip install 'sot-graph[batch]'"
        raise SotConfigError(message) from error
    return module


READERS = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv_rows, ".parquet": _parquet_rows}
