"""`AnswerFile`: the answers of a batch, a line each. It is what a batch remembers of itself, too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from typing_extensions import override

from sot_graph.batch.line_file import LineFile
from sot_graph.batch.question_file import parquet_module
from sot_graph.batch.row import Row, hash_of, is_whole
from sot_graph.errors import SotConfigError

_PARQUET_ROWS = 1000


@dataclass(slots=True)
class Tally:
    """What records add up to."""

    answered: int = 0
    failed: int = 0
    """Questions without an answer."""
    incomplete: int = 0
    """Answers of which a text failed."""
    points: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0
    unpriced: int = 0
    """Questions of which nobody knows what they cost."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def tried(self) -> int:
        """Questions, whatever came of them."""
        return self.answered + self.failed

    def add(self, record: Mapping[str, Any], sign: int = 1) -> None:
        """Count a record; with -1, count it out again."""
        self.failed += sign * ("error" in record)
        self.answered += sign * ("error" not in record)
        self.incomplete += sign * ("error" not in record and not is_whole(record))
        self.add_work(record, sign)

    def add_work(self, record: Mapping[str, Any], sign: int = 1) -> None:
        """Count what a record took, and its points: those of earlier tries are among them."""
        self.points += sign * sum(status == "ok" for status in record.get("statuses") or ())
        usage = record.get("usage") or {}
        total, cost = usage.get("total") or {}, usage.get("cost") or {}
        self.dollars += sign * cost.get("total", 0.0)
        self.unpriced += sign * (total.get("input_tokens", 0) > 0 and ("total" not in cost or "unpriced" in cost))
        self.calls += sign * total.get("calls", 0)
        self.input_tokens += sign * total.get("input_tokens", 0)
        self.output_tokens += sign * total.get("output_tokens", 0)


class AnswerFile(LineFile):
    """The answers of a batch: a line each; of several with the same id, the last one counts.

    Args:
        path: As `LineFile` takes it.
        made_by: Written into each record: the `model`, and the `settings` that change answers.

    Raises:
        SotConfigError: As `LineFile` raises it, or an answer that is there was made by another model or settings.
    """

    def __init__(self, path: Path, made_by: Mapping[str, str] | None = None) -> None:
        self.tally = Tally()
        self._made_by = made_by or {}
        self._makers: set[tuple[str, str]] = set()
        self._places: dict[str, int] = {}
        """Where the last line of each question begins."""
        self._asked: dict[str, str] = {}
        """The hash of what each question was, where its line tells it."""
        self._unfinished: set[str] = set()
        super().__init__(path, self._note)
        own = _maker(self._made_by)
        if made_by is not None and (others := sorted(self._makers - {own})):
            self.close()
            there, given = (f"{model} ({settings or 'default settings'})" for model, settings in (others[0], own))
            message = f"{path} holds answers of {there}, not of {given}: name another --out, or give the same ones."
            raise SotConfigError(message)

    @override
    def append(self, values: Mapping[str, Any] | Sequence[Any]) -> None:
        super().append({**dict(values), **self._made_by})

    def __contains__(self, question_id: str) -> bool:
        return question_id in self._places

    def is_of_another(self, row: Row) -> bool:
        """Whether the answer that is there was given to something else than this row asks now."""
        asked = self._asked.get(row["id"])
        return asked is not None and asked != hash_of(row)

    def is_whole(self, question_id: str) -> bool:
        """Whether a question has its answer, and none of its texts failed."""
        return question_id in self and question_id not in self._unfinished

    def left(self, rows: Iterable[Row], *, retries: bool) -> Iterator[Row]:
        """Those of the rows that are still to be asked: with `retries` also those that failed, or lack a text."""
        return (row for row in rows if self.is_left(row, retries=retries))

    def is_left(self, row: Row, *, retries: bool) -> bool:
        """Whether a row is still to be asked."""
        return not (self.is_whole(row["id"]) if retries else row["id"] in self)

    def unfinished(self, row: Row) -> dict[str, Any] | None:
        """The last record of a row that isn't whole, or what it cost if it was of something else; `None`: none is."""
        if row["id"] not in self._unfinished:
            return None
        record = self.line_at(self._places[row["id"]])
        if not self.is_of_another(row):
            return record
        return {"usage": record["usage"]} if "usage" in record else {}

    def first_error(self) -> str:
        """Why the first question without an answer has none; empty: there is no such question."""
        places = (place for question_id, place in self._places.items() if question_id in self._unfinished)
        return next((error for place in places if (error := self.line_at(place).get("error"))), "")

    def records(self) -> Iterator[dict[str, Any]]:
        """The record of each question, in the order of their lines."""
        last = {str(record["id"]): place for place, _, record in self.lines()}
        for place, _, record in self.lines():
            if last[str(record["id"])] == place:
                yield record

    def write_parquet(self, path: Path) -> None:
        """Write a table of the records: what is nested as JSON, all else as it is."""
        import pyarrow

        names = ("id", "answer", "error", "route", "finish_reason", "statuses", "sources", "usage", "model", "settings")
        schema = pyarrow.schema([*((name, pyarrow.string()) for name in names), ("seconds", pyarrow.float64())])
        records = self.records()
        with parquet_module().ParquetWriter(path, schema) as writer:
            while some := list(islice(records, _PARQUET_ROWS)):
                rows = [{name: _as_cell(record.get(name)) for name in schema.names} for record in some]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))

    def _note(self, record: Mapping[str, Any], place: int) -> None:
        question_id = str(record["id"])
        if not record.keys() & {"answer", "error"}:  # such as a file of questions
            raise LookupError
        # A question that failed may be asked of another model, if there is no text that a later try keeps.
        kept = [*record.get("expansions", ()), *record.get("frame", {}).values()]
        if "model" in record and ("answer" in record or any(each.get("text") for each in kept)):
            self._makers.add(_maker(record))
        if question_id in self:
            self.tally.add(self.line_at(self._places[question_id]), -1)
        self.tally.add(record)
        self._places[question_id] = place
        if "asked" in record:
            self._asked[question_id] = str(record["asked"])
        (self._unfinished.discard if is_whole(record) else self._unfinished.add)(question_id)


def _maker(record: Mapping[str, Any]) -> tuple[str, str]:
    return str(record.get("model", "")), str(record.get("settings", ""))


def _as_cell(value: Any) -> Any:
    if isinstance(value, str):  # half a surrogate pair is no text for Parquet
        return value.encode("utf-8", "backslashreplace").decode()
    return json.dumps(value) if isinstance(value, list | dict) else value
