"""`sot-graph batch`: a file of questions, answered into a file, by calls or by a provider's batches."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sot_graph.batch.answer_file import AnswerFile, Tally
from sot_graph.batch.question_file import QuestionFile, Shard, parquet_module
from sot_graph.batch.question_pool import QuestionPool
from sot_graph.cli.ask_command import ask_options, check_output
from sot_graph.cli.process import error_console, opened_model
from sot_graph.errors import SotConfigError, SotError
from sot_graph.evaluation.arms import make_router

if TYPE_CHECKING:
    from rich.console import Console

    from sot_graph.batch.row import Row
    from sot_graph.options import SotOptions

_WORKERS = 64
_SAMPLE = 20
_SECONDS_BETWEEN_LINES = 60.0
_SECONDS_BETWEEN_LOOKS = 60.0
_COLLECTED_SELDOM = 50_000, 20, 100
"""As `gc.set_threshold` takes it: objects, and how many collections of the young go before one of older ones."""
_LONG_LIMITS: dict[str, Any] = {"rate_limit_patience": 600.0, "point_timeout": 900.0, "skeleton_timeout": 900.0}
"""Limits of a batch are longer than a graph's own, since nobody waits for a single answer."""


def answer_questions(
    questions: Path,
    *,
    out: Path,
    parquet: Path | None,
    retry_errors: bool,
    dry_run: bool,
    model: str | None,
    base_url: str | None,
    router: str | None,
    workers: int | None,
    rpm: float | None,
    tpm: float | None,
    shard: str | None,
    budget: float | None,
    provider_batch: str | None,
    step: str | None,
    **given: Any,
) -> None:
    """Answer the questions of a file. The arguments are those of the command; the others go to `ask_options`."""
    errors = error_console()
    source = QuestionFile(questions, Shard() if shard is None else Shard.parse(shard))
    # Nobody reads along, and a provider's batch takes no request that streams.
    options = replace(ask_options(**_LONG_LIMITS, **given), stream=False)
    if parquet is not None:
        _check_parquet(parquet, out)
    _check_provider_batch(provider_batch, step, has_limits=dry_run or workers or rpm or tpm or budget is not None)
    if budget is not None and find_spec("genai_prices") is None:
        message = "--budget needs the models' prices: pip install 'sot-graph[cost]'"
        raise SotConfigError(message)
    with AnswerFile(out) as answers:
        left, stopped = partial(answers.left, source, retries=retry_errors), ""
        was_interrupted = False
        # A row that can't be read is found before anything is paid for.
        count = 0 if step == "status" else sum(1 for _ in left())
        if provider_batch is not None:
            if not _take_steps(answers, left, provider_batch, step, model, base_url, router=router, options=options):
                return
        elif count:
            in_sample = {position * count // _SAMPLE for position in range(_SAMPLE)}  # from all over the file
            sample = (row for position, row in enumerate(left()) if position in in_sample)
            from sot_graph.batch.call_journal import CallJournal

            is_done = answers.is_whole if retry_errors else answers.__contains__
            with CallJournal(Path(f"{out}.calls"), is_done) as journal, opened_model(model, base_url) as (chat, choice):
                from sot_graph.concurrency.call_limiter import CallLimiter
                from sot_graph.graph import create_sot_graph

                limiter = CallLimiter(calls_per_minute=rpm, tokens_per_minute=tpm) if rpm or tpm else None
                graph = create_sot_graph(
                    chat, options=options, router=make_router(router, chat), limiter=limiter, cache=journal
                )
                pool = QuestionPool(
                    graph=graph,
                    answers=answers,
                    journal=journal,
                    workers=workers or (1 if choice.is_embedded else _WORKERS),
                    calls_per_minute=rpm,
                    tokens_per_minute=tpm,
                    retries=retry_errors,
                )
                if budget is not None:
                    pool.reason_to_stop = partial(_over_budget, pool, budget)
                with _garbage_collected_seldom():
                    if dry_run:
                        was_interrupted = _answer(pool, sample, min(count, _SAMPLE), errors, stands_for=count)
                    else:
                        was_interrupted = _answer(pool, source, count, errors)
                stopped = pool.stopped
        elif not answers.tally.failed:
            errors.print(f"Nothing is left to do: {out} has all answers.", style="dim", markup=False)
        if parquet is not None:
            answers.write_parquet(parquet)
            errors.print(f"Wrote {parquet}.", style="dim", markup=False)
        _raise_if_incomplete(answers, stopped, was_interrupted=was_interrupted)


def _take_steps(
    answers: AnswerFile,
    left: Callable[[], Iterator[Row]],
    provider: str,
    step: str | None,
    model: str | None,
    base_url: str | None,
    *,
    router: str | None,
    options: SotOptions,
) -> bool:
    """Make a step of `--provider-batch`, or all of them.

    Returns:
        Whether every question has been answered, or has failed.
    """
    if model is None:
        message = "--provider-batch needs --model: which of the provider's models is to answer?"
        raise SotConfigError(message)
    from sot_graph.batch.provider_batches import PROVIDERS
    from sot_graph.batch.submission import RequestLedger, Submission
    from sot_graph.llm.provider_errors import RETRYABLE, explain, meaning_of

    batches = PROVIDERS[provider](base_url)
    say = partial(error_console().print, style="dim", markup=False)

    def make_graph(address: str) -> Any:
        from sot_graph.graph import create_sot_graph

        chat = batches.model(model, address)
        # A router's call that waits is no router that failed.
        raising = replace(options, on_router_failure="raise")
        return create_sot_graph(chat, options=raising, router=make_router(router, chat))

    with RequestLedger(Path(f"{answers.path}.requests")) as ledger:
        submission = Submission(
            provider=batches, ledger=ledger, answers=answers, rows=left, make_graph=make_graph, say=say
        )
        if step == "status":
            submission.status()
            return False
        waiting = submission.submit() if step in (None, "submit") else submission.collect()
        while waiting and step is None:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            try:
                if submission.status():
                    waiting = submission.collect()
            except Exception as error:
                # A LookupError is a defect in reading the provider's answer; `meaning_of` takes one for an empty reply.
                if isinstance(error, LookupError) or meaning_of(error) not in RETRYABLE:
                    raise
                say(f"{explain(error)}; it is tried again in a minute.")
        if waiting:
            say(f"{waiting:,} questions wait for the provider: sot-graph batch ... collect")
        return not waiting


def _answer(pool: QuestionPool, rows: Iterable[Row], count: int, errors: Console, *, stands_for: int = 0) -> bool:
    """Answer so many rows, and say on standard error how it goes. A sample stands for more of them.

    Returns:
        Whether it was interrupted.

    Raises:
        KeyboardInterrupt: It was, twice.
    """
    done, started = pool.done, time.monotonic()
    with _shown_progress(done, count, errors) as pool.on_change:
        interrupts = asyncio.run(_until_interrupted(pool, rows, errors))
    seconds = round(time.monotonic() - started)
    errors.print(f"{_said(done)} in {timedelta(seconds=seconds)}.", markup=False)
    if stands_for and done.tried:
        scale = stands_for / done.tried
        errors.print(
            f"All {stands_for:,} questions would take about {scale * done.calls:,.0f} calls and "
            f"{scale * done.input_tokens:,.0f} + {scale * done.output_tokens:,.0f} tokens{_priced(done, scale)}. "
            "These answers are kept: the same command without --dry-run does the others.",
            markup=False,
        )
    if interrupts:
        errors.print("The same command goes on from here.", style="dim")
    if interrupts > 1:
        raise KeyboardInterrupt
    return interrupts > 0


@contextmanager
def _garbage_collected_seldom() -> Iterator[None]:
    """Have Python collect garbage seldom, and pass over all that is there now.

    With hundreds of calls in flight it would take a third of the CPU time: each full collection looks at the 350,000
    objects of the imports.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_SELDOM)
    try:
        yield
    finally:  # the command may run inside another process, such as a test's
        gc.set_threshold(*before)
        gc.unfreeze()


def _over_budget(pool: QuestionPool, budget: float) -> str:
    """Why no more may be begun, if so. What is in flight will cost as much as the others did on average."""
    tally = pool.answers.tally
    if tally.unpriced:
        return "The budget can't be kept: genai-prices doesn't know what this model costs."
    expected = tally.dollars * (1 + pool.in_flight / max(1, tally.tried))
    return f"The budget of {budget:g} dollars is used up." if expected >= budget else ""


def _raise_if_incomplete(answers: AnswerFile, stopped: str, *, was_interrupted: bool) -> None:
    if was_interrupted:  # raised sooner, it would have ended the process before its files were tidied up
        raise KeyboardInterrupt
    tally, out = answers.tally, answers.path
    if stopped:
        message = f"{stopped.rstrip('.')}. What is answered is in {out}; the same command goes on from there."
        raise SotError(message)
    if tally.failed:
        first = f"The first: {answers.first_error().rstrip('.')}."
        message = f"{tally.failed:,} questions have no answer. {first} {out} says why, and --retry-errors asks again."
        raise SotError(message)
    if tally.incomplete:
        said = f"{tally.incomplete:,} answers lack a text that failed: --retry-errors writes it."
        error_console().print(said, style="yellow")


async def _until_interrupted(pool: QuestionPool, rows: Iterable[Row], errors: Console) -> int:
    """Run; a first Ctrl-C (or SIGTERM) lets the questions in flight be finished, a second one ends at once.

    Returns:
        How many of them there were.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    interrupts = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1:
            loop.call_soon_threadsafe(task.cancel)
            return
        loop.call_soon_threadsafe(pool.stop, "Interrupted.")
        errors.print(f"Finishing {pool.in_flight} questions. Ctrl-C again ends at once.", style="dim")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        await pool.run(rows)
    except asyncio.CancelledError:
        if not interrupts:
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    return interrupts


@contextmanager
def _shown_progress(done: Tally, count: int, errors: Console) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, elsewhere a line a minute. Yields what is called after each question."""
    if errors.is_terminal:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        with Progress(*columns, console=errors, transient=True, redirect_stdout=False) as progress:
            task = progress.add_task(_said(done), total=count)
            yield lambda: progress.update(task, completed=done.tried, description=_said(done))
        return
    last = time.monotonic()

    def print_line() -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            errors.print(f"{done.tried:,} of {count:,}: {_said(done)}", style="dim", markup=False)

    yield print_line


def _said(tally: Tally) -> str:
    failed = f", {tally.failed:,} without an answer" if tally.failed else ""
    tokens = f"{tally.input_tokens:,} + {tally.output_tokens:,} tokens"
    return f"{tally.answered:,} questions answered{failed}, {tally.points:,} points, {tokens}{_priced(tally)}"


def _priced(tally: Tally, scale: float = 1.0) -> str:
    return f", {scale * tally.dollars:,.4g} dollars" if tally.dollars and not tally.unpriced else ""


def _check_provider_batch(provider: str | None, step: str | None, *, has_limits: object) -> None:
    if step is not None and provider is None:
        message = f"{step} is a step of --provider-batch: give that, too."
        raise SotConfigError(message)
    if provider is not None and has_limits:
        message = "--provider-batch has no dry run, workers, rates or budget: the provider's batches keep their own."
        raise SotConfigError(message)


def _check_parquet(path: Path, out: Path) -> None:
    parquet_module()
    check_output(path, "--parquet")
    if path.resolve() == out.resolve():
        message = f"--parquet {path} is the file of --out, too: name another one."
        raise SotConfigError(message)
