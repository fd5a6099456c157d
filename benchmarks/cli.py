"""The command line: `python -m benchmarks --help`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.figures import Figure, Result
from benchmarks.results import RESULTS, Made, save
from benchmarks.rounds import Steps
from benchmarks.scenarios import Scenario, scenarios
from benchmarks.scenarios.base import Plan
from benchmarks.targets import TARGETS, Target

__all__ = ["app", "main"]

_INTERRUPTED = 130
_QUICK = RESULTS.with_name("results-quick")
_console = Console(highlight=False)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class _Bar(Steps):
    """Shows a scenario's steps."""

    def __init__(self, progress: Progress, task: TaskID, title: str) -> None:
        self._progress, self._task, self._title = progress, task, title
        self._done = -1

    def begin(self, total: int) -> None:
        self._progress.update(self._task, total=total)

    def step(self, what: str) -> None:
        self._done += 1
        self._progress.update(self._task, completed=self._done, description=f"{self._title}: {what}")


@app.command()
def measure(
    scenario: Annotated[list[str] | None, typer.Option(help="Only this one; may be given several times.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Interleaved rounds, in place of each one's own.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="What the targets need, in a minute.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Where the results go; benchmarks/results, or results-quick beside it.", show_default=False),
    ] = None,
    pages: Annotated[bool, typer.Option("--pages", help="Also draw the plots and fill the docs' tables.")] = False,
    names: Annotated[bool, typer.Option("--list", help="List the scenarios.")] = False,
) -> None:
    """Measure what sot_graph gives and costs, beside what anybody would write by hand."""
    known = _known_scenarios()
    if names:
        for each in known.values():
            typer.echo(f"{each.name:14} {each.title}")
        return
    if unknown := [name for name in scenario or () if name not in known]:
        message = f"there is no scenario {unknown[0]!r}; there are {', '.join(known)}"
        raise typer.BadParameter(message, param_hint="--scenario")
    folder = output or (_QUICK if quick else RESULTS)
    chosen = [
        each for each in known.values() if (each.name in scenario if scenario else not quick or each.quick_rounds)
    ]
    try:
        results = _measure(chosen, rounds, quick, folder)
    except KeyboardInterrupt:
        _console.print("Interrupted. Scenarios that were finished are saved.", style="dim")
        raise typer.Exit(_INTERRUPTED) from None
    _console.print(_targets_table(results))
    if pages:
        from benchmarks.pages import fill_pages
        from benchmarks.plots import draw_plots

        for path in (*draw_plots(folder), *fill_pages(folder)):
            _console.print(f"wrote {path}", style="dim")


def _known_scenarios() -> dict[str, Scenario]:
    try:
        return scenarios()
    except ImportError as error:
        missing = f"{error.name} is not installed" if error.name else str(error)
        typer.echo(f"benchmarks: {missing}. They need everything that developing needs: make sync", err=True)
        raise typer.Exit(1) from error


def _measure(chosen: list[Scenario], rounds: int | None, quick: bool, folder: Path) -> dict[str, Result]:
    results: dict[str, Result] = {}
    columns = (TextColumn("{task.description:60.60}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_console) as progress:
        for each in chosen:
            task = progress.add_task(each.name, total=None)
            count = rounds or (each.quick_rounds if quick else each.rounds) or 1
            plan = Plan(count, quick, _Bar(progress, task, each.name))
            started = time.monotonic()
            result = results[each.name] = asyncio.run(each.run(plan))
            save(result, Made(_command(), count), folder)
            if not _console.is_terminal:
                _console.print(f"{each.name}: {time.monotonic() - started:.0f} s")
            progress.update(task, description=f"{each.name}: {time.monotonic() - started:.0f} s", total=1, completed=1)
    for result in results.values():
        _console.print(_result_table(result))
    return results


def _command() -> str:
    """What was typed, without where the results go: that is a path of this machine."""
    words = sys.argv[1:]
    if "--output" in words:
        place = words.index("--output")
        words = words[:place] + words[place + 2 :]
    return " ".join(["python", "-m", "benchmarks", *words])


def _result_table(result: Result) -> Table:
    table = Table(title=result.scenario, title_justify="left", box=None, padding=(0, 1))
    for heading in ("", "", "median", "lowest", "highest"):
        table.add_column(heading, justify="left" if not heading else "right")
    for group, members in result.groups.items():
        for position, (name, figure) in enumerate(members.items()):
            shown = [f"{value:.3f}" for value in (figure.median, figure.low, figure.high)]
            table.add_row("" if position else group, name, *shown)
    return table


def _targets_table(results: dict[str, Result]) -> Table:
    table = Table(title="targets", title_justify="left", box=None, padding=(0, 1))
    for heading in ("figure", "target", "measured", "", ""):
        table.add_column(heading)
    for each in TARGETS:
        if measured := each.measured(results):
            target, figure = measured
            table.add_row(
                target.title, _bound(target), f"{figure.median:.3f}", _spread(figure), _verdict(target, figure)
            )
    return table


def _bound(target: Target) -> str:
    return f"{'at least' if target.at_least else 'at most'} {target.bound:g}"


def _spread(figure: Figure) -> str:
    return f"{figure.low:.3f} to {figure.high:.3f}" if len(figure.values) > 1 else ""


def _verdict(target: Target, figure: Figure) -> str:
    return "" if target.met_by(figure) else "missed"


def main() -> None:
    """The entry point."""
    app()
