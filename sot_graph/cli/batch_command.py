"""`sot-graph batch`: a file of questions, answered into a file, by calls or by a provider's batches."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
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
from sot_graph.default_model import ModelChoice, choose_model
from sot_graph.errors import SotConfigError, SotError, error_status
from sot_graph.evaluation.arms import make_router
from sot_graph.options import SotOptions

if TYPE_CHECKING:
    from rich.console import Console

    from sot_graph.batch.row import Row

_WORKERS = 64
_NOT_FOUND = 404
_SAMPLE = 20
_NO_PRICE = "The budget can't be kept: genai-prices doesn't know what {} costs."
_SECONDS_BETWEEN_LINES = 60.0
_SECONDS_BETWEEN_LOOKS = 60.0
_COLLECTED_SELDOM = 50_000, 20, 10
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
    _check_files(out, parquet)
    _check_provider_batch(
        provider_batch, step, model, has_limits=dry_run or workers or rpm or tpm or budget is not None
    )
    choice, chosen = choose_model(model, base_url), make_router(router)
    if budget is not None:
        _check_price(choice)
    with _removed_if_unused(out), AnswerFile(out, _made_by(choice, options, router, given)) as answers:
        is_step = provider_batch is not None and step != "status"
        retry_errors = retry_errors or (is_step and _has_retry_under_way(source, answers))
        left, stopped = partial(answers.left, source, retries=retry_errors), ""
        was_interrupted = False
        count = 0 if step == "status" else _count_left(source, answers, errors, retries=retry_errors)
        if provider_batch is not None and (count or step == "status"):
            assert model is not None
            if not _take_steps(answers, left, provider_batch, step, model, base_url, router=chosen, options=options):
                return
            errors.print(f"{_said(answers.tally)}.", markup=False)
        elif count and dry_run and answers.tally.answered >= _SAMPLE:
            _print_estimate(answers.tally, f"The other {count:,}", count, errors)
        elif count:
            from sot_graph.batch.call_journal import CallJournal

            is_done = answers.is_whole if retry_errors else answers.__contains__
            with CallJournal(Path(f"{out}.calls"), is_done) as journal, opened_model(model, base_url) as (chat, _):
                from sot_graph.concurrency.call_limiter import CallLimiter
                from sot_graph.graph import create_sot_graph

                limiter = CallLimiter(calls_per_minute=rpm, tokens_per_minute=tpm) if rpm or tpm else None
                graph = create_sot_graph(chat, options=options, router=chosen, limiter=limiter, cache=journal)
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
                        was_interrupted = _answer_sample(pool, left(), count, errors)
                    else:
                        was_interrupted = _answer(pool, source, count, errors)
                stopped = pool.stopped
        elif not (answers.tally.failed or answers.tally.incomplete):
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
    model: str,
    base_url: str | None,
    *,
    router: Any,
    options: SotOptions,
) -> bool:
    """Make a step of `--provider-batch`, or all of them.

    Returns:
        Whether every question has been answered, or has failed.
    """
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
        return create_sot_graph(chat, options=raising, router=router)

    with RequestLedger(_requests_of(answers.path)) as ledger:
        submission = Submission(
            provider=batches, ledger=ledger, answers=answers, rows=left, make_graph=make_graph, say=say
        )
        if step == "status":
            submission.status()
            return False
        has_sent = bool(ledger.batches)
        try:
            waiting = submission.submit() if step in (None, "submit") else submission.collect()
        except Exception as error:
            if error_status(error) != _NOT_FOUND or has_sent:
                raise
            message = f"{base_url or provider} takes no batches (HTTP 404): leave --provider-batch out."
            raise SotConfigError(message) from error
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


def _requests_of(out: Path) -> Path:
    return Path(f"{out}.requests")


def _has_retry_under_way(source: QuestionFile, answers: AnswerFile) -> bool:
    """Whether batches of a retry are at the provider: some are, though each question has its line."""
    from sot_graph.batch.submission import RequestLedger

    if not os.path.exists(path := _requests_of(answers.path)):
        return False
    with RequestLedger(path) as ledger:
        return bool(ledger.batches) and not any(True for _ in answers.left(source, retries=False))


def _made_by(choice: ModelChoice, options: SotOptions, router: str | None, given: Iterable[str]) -> dict[str, str]:
    """What each record says of its making: limits change no answer, and a model may move to another address."""
    settings = {name: getattr(options, name) for name in given if getattr(options, name) != getattr(SotOptions(), name)}
    if router:
        kind, has_file, file = router.partition(":")  # the same name may come to hold other weights
        settings["router"] = f"{kind}:{sha256(Path(file).read_bytes()).hexdigest()[:8]}" if has_file else kind
    said = ", ".join(f"{name}={value}" for name, value in sorted(settings.items()))
    return {"model": choice.label.removeprefix("openai:"), **({"settings": said} if said else {})}


def _count_left(source: QuestionFile, answers: AnswerFile, errors: Console, *, retries: bool) -> int:
    """How many questions are to be asked. A row that can't be read is found here, before anything is paid for."""
    repeated: list[str] = []
    changed: list[str] = []
    count = 0
    for row in source.rows(repeated.append):
        if answers.is_left(row, retries=retries):
            count += 1
        elif answers.is_of_another(row):
            changed.append(row["id"])
    if changed:
        said = f"Rows that have changed since they were asked aren't asked again: {len(changed):,}. "
        advice = f"The first: {changed[0]}. Give them other ids, or name another --out."
        errors.print(said + advice, style="yellow", markup=False)
    if repeated:
        said = f"Rows with an id seen before aren't asked: {len(repeated):,}. The first: {repeated[0]}."
        errors.print(said, style="yellow", markup=False)
    return count


@contextmanager
def _removed_if_unused(out: Path) -> Iterator[None]:
    """Leave no empty file of answers behind where the command is refused, unless it was there before."""
    was_there = os.path.lexists(out)
    try:
        yield
    except SotConfigError:
        if not was_there and os.path.exists(out) and not out.stat().st_size:
            out.unlink()
        raise


def _check_price(choice: ModelChoice) -> None:
    """Raise `SotConfigError` where nobody knows what the model costs. It is neither started nor asked."""
    if find_spec("genai_prices") is None:
        message = "--budget needs the models' prices: pip install 'sot-graph[cost]'"
        raise SotConfigError(message)
    from sot_graph.usage import ModelPrice, clean_counts

    with nullcontext() if choice.is_embedded else choice.opened() as chat:
        price = None if chat is None else ModelPrice.of(chat)
        if price is None or price.dollars(clean_counts({"input_tokens": 1, "output_tokens": 1})) is None:
            message = f"{_NO_PRICE.format(choice.label)} Leave --budget out, or name a model that has a price."
            raise SotConfigError(message)


def _answer_sample(pool: QuestionPool, left: Iterable[Row], count: int, errors: Console) -> bool:
    """Answer a few of so many rows, from all over the file, and say what all take; whether it was interrupted."""
    in_sample = {position * count // _SAMPLE for position in range(_SAMPLE)}
    sample = (row for position, row in enumerate(left) if position in in_sample)
    is_first = not pool.answers.tally.answered
    was_interrupted = _answer(pool, sample, min(count, _SAMPLE), errors)
    if pool.done.answered:
        done = pool.done.tried
        rest = count if is_first else count - done
        _print_estimate(pool.done, f"{'All' if is_first else 'The other'} {rest:,}", rest, errors)
    return was_interrupted


def _print_estimate(known: Tally, which: str, count: int, errors: Console) -> None:
    """Say what so many questions would take, by what others took, those without an answer included."""
    if not count:
        return
    scale = count / known.tried
    errors.print(
        f"{which} questions would take about {scale * known.calls:,.0f} calls and "
        f"{scale * known.input_tokens:,.0f} + {scale * known.output_tokens:,.0f} tokens{_priced(known, scale)}. "
        f"The {known.answered:,} answers that it is estimated from are kept: the same command without --dry-run does "
        "the others.",
        markup=False,
    )


def _answer(pool: QuestionPool, rows: Iterable[Row], count: int, errors: Console) -> bool:
    """Answer so many rows, and say on standard error how it goes.

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
    if interrupts and done.tried == count:  # those that were in flight were the last
        pool.stopped = ""
    if not pool.stopped or not interrupts:
        return False
    errors.print("The same command goes on from here.", style="dim")
    if interrupts > 1:
        raise KeyboardInterrupt
    return True


@contextmanager
def _garbage_collected_seldom() -> Iterator[None]:
    """Have Python collect garbage seldom, and pass over all that is there now.

    With hundreds of calls in flight it would take up to half of the CPU time: each full collection looks at the
    350,000 objects of the imports.
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
    tally = pool.known
    if tally.unpriced:
        return _NO_PRICE.format("this model")
    expected = tally.dollars * (1 + pool.in_flight / max(1, tally.tried))
    return f"The budget of {budget:g} dollars is used up." if expected >= budget else ""


def _raise_if_incomplete(answers: AnswerFile, stopped: str, *, was_interrupted: bool) -> None:
    if was_interrupted:  # raised sooner, it would have ended the process before its files were tidied up
        raise KeyboardInterrupt
    tally, out = answers.tally, answers.path
    if stopped:
        message = f"{stopped.rstrip('.')}. What is answered is in {out}; the same command goes on from there."
        raise SotError(message)
    if tally.incomplete:
        said = f"{tally.incomplete:,} answers lack a text that failed: --retry-errors writes it."
        error_console().print(said, style="yellow")
    if tally.failed:
        first = f"The first: {answers.first_error().rstrip('.')}."
        message = f"{tally.failed:,} questions have no answer. {first} {out} says why, and --retry-errors asks again."
        raise SotError(message)


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


def _check_provider_batch(provider: str | None, step: str | None, model: str | None, *, has_limits: object) -> None:
    if step is not None and provider is None:
        message = f"{step} is a step of --provider-batch: give that, too."
        raise SotConfigError(message)
    if provider is not None and has_limits:
        message = "--provider-batch has no dry run, workers, rates or budget: the provider's batches keep their own."
        raise SotConfigError(message)
    if provider is not None and model is None:
        message = "--provider-batch needs --model: which of the provider's models is to answer?"
        raise SotConfigError(message)


def _check_files(out: Path, parquet: Path | None) -> None:
    if str(out) == "-":
        message = "--out -: the answers need a file, which the same command goes on from."
        raise SotConfigError(message)
    if parquet is None:
        return
    parquet_module()
    check_output(parquet, "--parquet")
    if parquet.resolve() == out.resolve():
        message = f"--parquet {parquet} is the file of --out, too: name another one."
        raise SotConfigError(message)
