"""`sot-graph evaluate`: two arms over many questions, and a report of what is better, faster and dearer."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sot_graph.cli.process import error_console, one_plain_line, opened_model, output_console
from sot_graph.default_model import choose_model
from sot_graph.errors import SotConfigError, SotError

if TYPE_CHECKING:
    from sot_graph.evaluation.study import Study

_PACKAGES = ("inspect_ai", "scipy", "rapidfuzz", "py3langid")
_WORKERS = 4


def evaluate_model(
    questions: str | None,
    *,
    model: str | None,
    base_url: str | None,
    judge: str | None,
    judge_base_url: str | None,
    arms: tuple[str, str],
    limit: int,
    out: Path,
    workers: int | None,
    langsmith: str | None,
) -> None:
    """Run the study and write its files. The arguments are those of the command."""
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        message = f"sot-graph evaluate needs the extra eval ({missing[0]} is missing): pip install 'sot-graph[eval]'"
        raise SotConfigError(message)
    if (langsmith is None) == (questions is None):
        sources = ".jsonl, .csv or .parquet file, own, mt-bench, langsmith:NAME"
        message = f"give the questions: a {sources}; or --langsmith, not both."
        raise SotConfigError(message)
    from sot_graph.evaluation.arms import Arm
    from sot_graph.evaluation.question_sets import LANGSMITH, read_questions
    from sot_graph.evaluation.study import Study, StudyPlan, evaluate_on_langsmith
    from sot_graph.llm.resolve import resolve_model

    source = questions or f"{LANGSMITH}{langsmith}"
    chosen = (Arm.parse(arms[0]), Arm.parse(arms[1]))
    listed = read_questions(source, limit)
    choice = choose_model(model, base_url)
    plan = StudyPlan(
        out=out,
        questions=listed,
        arms=chosen,
        model=choice.label,
        judge=judge,
        base_url=choice.base_url,
        judge_base_url=judge_base_url,
        source=source,
    )
    plan.check()
    try:
        server = "give --judge-base-url, and its name there"
        resolve = partial(resolve_model, base_url=judge_base_url, argument="--judge", own_server=server)
        judge_model = None if judge is None else resolve(judge)
    except SotConfigError as error:
        message = f"the judge {judge} can't be had: {error} That is --judge, and its server is --judge-base-url."
        raise SotConfigError(message) from error
    with opened_model(model, base_url) as (chat, _), closing(Study(plan, chat, judge_model)) as study:
        at_once = workers or (1 if choice.is_embedded else _WORKERS)
        try:
            if langsmith is None:
                rows = _run_in_inspect(study, at_once)
            else:
                rows = asyncio.run(evaluate_on_langsmith(study, langsmith, workers=at_once))
        except KeyboardInterrupt:
            error_console().print("The same command goes on from here.", style="dim")
            raise
    _write_report(study, rows)


def _run_in_inspect(study: Study, workers: int) -> list[dict[str, Any]]:
    # Inspect reads a `.env` of the working folder or of one above it: whoever wrote that would choose where keys go.
    os.environ.setdefault("PYTHON_DOTENV_DISABLED", "1")
    from inspect_ai import eval as run_task

    from sot_graph.evaluation.inspect_task import study_task

    rows: list[dict[str, Any]] = []
    errors = error_console()
    columns = (TextColumn("questions"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("questions", total=len(study.plan.questions))

        def on_row(row: dict[str, Any]) -> None:
            rows.append(row)
            progress.advance(bar)

        task, logs = study_task(study, on_row), os.fspath(study.plan.out / "logs")
        ran = run_task(task, model="none/none", log_dir=logs, display="none", max_samples=workers, max_tasks=1)
    if study.failure is not None:
        raise study.failure
    if not ran or ran[0].status == "cancelled":  # Inspect keeps Ctrl-C to itself, and mostly gives back no log
        raise KeyboardInterrupt
    if ran[0].status != "success":
        message = f"the study ended early: {ran[0].error and ran[0].error.message}. The same command goes on."
        raise SotError(message)
    return rows


def _write_report(study: Study, rows: list[dict[str, Any]]) -> None:
    from sot_graph.evaluation.findings import findings_of
    from sot_graph.evaluation.study import write_anew
    from sot_graph.evaluation.study_report import headline, study_page
    from sot_graph.evaluation.tables import render_html, render_markdown

    out = study.plan.out
    study.save(rows)
    found = findings_of(rows)
    page = study_page(found, study.plan)
    write_anew(out / "report.html", render_html(page))
    write_anew(out / "report.md", render_markdown(page))
    said = "\n".join(map(one_plain_line, [*headline(found), *page.notices]))
    output_console().print(said, markup=False, soft_wrap=True)
    error_console().print(f"Wrote {out}/report.html, report.md, rows.jsonl.", style="dim", markup=False)
    if all(failed == len(rows) for failed in found.failed):
        message = "no question has an answer. The same command asks them again."
        raise SotError(message)
    if study.judge_failure or (found.unjudged and not found.judged):
        why = (study.judge_failure or found.judge_error).rstrip(".")
        message = (
            f"the judge {study.plan.judge} gave no verdict of {found.unjudged:,} pairs: {why}. "
            "Check --judge, --judge-base-url and its key. The answers are kept: the same command asks the judge again."
        )
        raise SotError(message)
