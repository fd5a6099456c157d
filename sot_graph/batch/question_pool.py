"""`QuestionPool`: so many questions at once, each taken when there is room, and written down when it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sot_graph.batch.answer_file import AnswerFile, Tally
from sot_graph.batch.row import Row, try_row
from sot_graph.concurrency.call_limiter import Pace
from sot_graph.errors import SotConfigError, SotError, causes_of
from sot_graph.llm.provider_errors import advice, explain, meaning_of

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from sot_graph.batch.call_journal import CallJournal

_MOST_REFUSALS = 5
"""So many questions refused in a row stop the batch: only the caller can mend what is wrong."""
_MOST_FAILURES = 100
"""So many failures in a row, or twice as many as there are workers, stop the batch: something is down for long."""
_FIRST_GUESS = (9.0, 5000.0)
"""Calls and tokens of a question, as long as none has been answered."""


async def run_workers(count: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run so many of them. The first `OSError` or `SotConfigError` ends them all, and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())
    except* (OSError, SotConfigError) as errors:
        raise errors.exceptions[0] from None


@dataclass(kw_only=True)
class QuestionPool:
    """Answers questions, so many at once, each into the file as soon as it is there.

    Args:
        graph: Answers them.
        answers: Where they go. What is there already is not asked again.
        journal: The graph's cache: what a question has been given before its answer is written.
        workers: Questions at once.
        calls_per_minute: How fast questions are begun, by what one takes on average: the graph's `CallLimiter` has the
            same bound, and what waits there for long would run into a point's time limit.
        tokens_per_minute: The same for tokens.
        retries: Whether questions that have no answer, or points that failed, are tried again.
        reason_to_stop: Called before and after each question. Says why no more are to be begun; empty: they are.
        on_change: Called after each question.
    """

    graph: Runnable[Any, Any]
    answers: AnswerFile
    journal: CallJournal | None = None
    workers: int = 64
    calls_per_minute: float | None = None
    tokens_per_minute: float | None = None
    retries: bool = False
    reason_to_stop: Callable[[], str] = lambda: ""
    on_change: Callable[[], None] = lambda: None

    in_flight: int = field(default=0, init=False)
    done: Tally = field(default_factory=Tally, init=False)
    """What this run has tried, and what that took: of a retry, what is new."""
    held: Tally = field(default_factory=Tally, init=False)
    """What the file's tally gains once the failures in a row are written."""
    stopped: str = field(default="", init=False)
    """Why no more questions were begun; empty: there were none left."""

    def __post_init__(self) -> None:
        rates = (self.calls_per_minute, self.tokens_per_minute)
        self._paces = [(unit, Pace(rate)) for unit, rate in enumerate(rates) if rate is not None]
        """Each with what it counts: calls are unit 0, tokens unit 1, as in `_expected`."""
        self._stop = asyncio.Event()
        self._held: list[dict[str, Any]] = []
        """Those of the failures in a row that are not yet written."""
        self._failures = self._refusals = 0
        """In a row."""
        self._has_given_up = False
        """Whether so many failures ended it: then nobody knows whose fault they are, and none is written."""

    @property
    def known(self) -> Tally:
        """What all questions that were tried add up to: those of the file, and those that are held back."""
        return self.answers.tally + self.held

    def stop(self, reason: str) -> None:
        """Begin no more questions, if there is a reason. Those in flight are finished."""
        self.stopped = self.stopped or reason
        if self.stopped:
            self._stop.set()

    async def run(self, rows: Iterable[Row]) -> None:
        """Answer them all, or as many as it takes until something stops it.

        Raises:
            OSError: An answer can't be written.
            SotConfigError: A row can't be read.
        """
        left = self.answers.left(rows, retries=self.retries)
        await run_workers(self.workers, lambda: self._work(left))
        if not self.stopped:
            self._write_held()

    async def _work(self, left: Iterator[Row]) -> None:
        for row in left:
            self.stop(self.reason_to_stop())
            reserved = self._expected()
            if await self._stops_before(reserved):
                return
            self.in_flight += 1
            if self.journal is not None:
                self.journal.begin(row["id"])
            earlier = self.answers.unfinished(row) or {}
            try:
                record, failure = await try_row(self.graph, row, earlier=earlier)
            finally:
                self.in_flight -= 1
            self._correct(reserved, record, earlier)
            self._keep(record, failure, earlier)
            self.on_change()
            self.stop(self.reason_to_stop())

    async def _stops_before(self, expected: tuple[float, float]) -> bool:
        """Wait until another question may begin; whether none may any more."""
        wait = max((pace.take(expected[unit]) for unit, pace in self._paces), default=0.0)
        if wait:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)
        return self._stop.is_set()

    def _expected(self) -> tuple[float, float]:
        """Calls and tokens of the next question."""
        tally = self.known
        if not (count := tally.tried):
            return _FIRST_GUESS
        return tally.calls / count, (tally.input_tokens + tally.output_tokens) / count

    def _correct(self, reserved: tuple[float, float], record: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
        work = Tally()
        work.add_work(record)
        work.add_work(earlier, -1)
        used = (work.calls, work.input_tokens + work.output_tokens)
        for unit, pace in self._paces:
            pace.correct(used[unit] - reserved[unit])

    def _keep(self, record: dict[str, Any], failure: Exception | None, earlier: Mapping[str, Any]) -> None:
        self.done.add(record)
        self.done.add_work(earlier, -1)
        if failure is None:
            self._failures = self._refusals = 0
            if not self._has_given_up:
                self._write_held()
            self._write(record)
            return
        providers = [link for link in causes_of(failure) if not isinstance(link, SotError)]
        if providers and all(meaning_of(link) == "final" for link in providers):
            self._write(record)  # the question's own, such as a filter's: asked again, it would fail again
        else:
            # Held back: if so many fail in a row, the fault is the key's, the model's or the provider's, and none of
            # these questions is marked as failed. If another one gets through, each failed for itself.
            self._held.append(record)
            self.held.add(record)
            if earlier:
                self.held.add(earlier, -1)
        self._failures += 1
        self._refusals = self._refusals + 1 if meaning_of(failure) == "callers" else 0
        why = f"{explain(failure).rstrip('.')}.{advice(failure.__cause__ or failure)}"
        if self._refusals == _MOST_REFUSALS:
            self._has_given_up = True
            self.stop(f"{_MOST_REFUSALS} questions in a row were refused: {why}")
        elif self._failures >= max(_MOST_FAILURES, 2 * self.workers):
            self._has_given_up = True
            self.stop(f"{self._failures} questions in a row had no answer: {why}")

    def _write_held(self) -> None:
        """Write the failures in a row: each was its question's own."""
        for record in self._held:
            self._write(record)
        self._held.clear()
        self.held = Tally()

    def _write(self, record: Mapping[str, Any]) -> None:
        self.answers.append(record)
        if self.journal is not None:
            self.journal.end(record["id"])
