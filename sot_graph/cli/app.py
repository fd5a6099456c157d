"""Commands, their options, and exit statuses.

0, 1 (the model or the run failed), 2 (bad usage), 130 (Ctrl-C), 143 (SIGTERM).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sot_graph.cli import flags
from sot_graph.cli.commands import Command, Commands
from sot_graph.cli.kinds import FrameKind, RouterKind

if TYPE_CHECKING:
    from sot_graph.cli.asking import Asking
    from sot_graph.cli.comparing import Comparing
    from sot_graph.cli.routing import Routing

__all__ = ["app"]

app = typer.Typer(
    name="sot-graph",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        from sot_graph import __version__

        typer.echo(f"sot-graph {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Skeleton-of-Thought: long answers sooner, by writing their points in parallel.

    Begin with: sot-graph ask "How can I sleep better?"
    """


# The first character keeps the lines as they are.
_EXAMPLES = """\b
Examples:
  sot-graph ask "How can I sleep better?"
  sot-graph ask "How can I sleep better?" --report run.html
  sot-graph ask "How can I sleep better?" -m gpt-4o-mini --max-points 5
  sot-graph ask "How can I sleep better?" --dispatch pipelined --deadline 5
  sot-graph ask "How can I sleep better?" --json | jq -r .answer
  sot-graph ask - < question.txt
"""


@app.command(cls=Command, short_help="Answer a question, its points written in parallel.", epilog=_EXAMPLES)
def ask(
    question: flags.Question,
    model: flags.Model = None,
    base_url: flags.BaseUrl = None,
    max_points: flags.MaxPoints = None,
    point_length: flags.PointLength = None,
    frame: flags.Frame = FrameKind.NONE,
    router: flags.Router = None,
    dependent: flags.Dependent = None,
    review: flags.Review = False,
    dispatch: flags.Dispatch = None,
    skeleton_format: flags.SkeletonFormat = None,
    deadline: flags.Deadline = None,
    point_timeout: flags.PointTimeout = None,
    max_concurrency: flags.MaxConcurrency = None,
    as_json: flags.AsJson = False,
    stream: flags.Stream = True,
    report: flags.Report = None,
) -> None:
    """Answer a question: first its skeleton, then all points in parallel, then one answer."""
    from sot_graph.cli.asking import Asking
    from sot_graph.cli.streams import read_question

    _run(
        lambda: Asking(
            question=read_question(question, reviewed=review),
            model=model,
            base_url=base_url,
            max_points=max_points,
            point_length=point_length,
            frame=frame,
            router=router,
            dependent=dependent,
            review=review,
            dispatch=dispatch,
            skeleton_format=skeleton_format,
            deadline=deadline,
            point_timeout=point_timeout,
            max_concurrency=max_concurrency,
            as_json=as_json,
            stream=stream,
            report=report,
        )
    )


@app.command(cls=Command, short_help="Answer it directly and by its skeleton: times and tokens of both.")
def compare(question: flags.Question, model: flags.Model = None, base_url: flags.BaseUrl = None) -> None:
    """Answer a question twice, directly and by its skeleton, and show what each way took.

    Example: sot-graph compare "How can I sleep better?"
    """
    from sot_graph.cli.comparing import Comparing
    from sot_graph.cli.streams import read_question

    _run(lambda: Comparing(question=read_question(question), model=model, base_url=base_url))


@app.command(cls=Command, short_help="Say whether a question gains by a skeleton, without a model.")
def route(
    question: flags.OneQuestion = None,
    file: flags.Questions = None,
    router: flags.Decider = RouterKind.LEARNED,
    as_json: flags.AsJsonLines = False,
    model: flags.Model = None,
    base_url: flags.BaseUrl = None,
) -> None:
    """Say whether a question gains by a skeleton, and why. The learned router needs no model.

    Example: sot-graph route "What is 17 * 23?"
    """
    from sot_graph.cli.routing import Routing
    from sot_graph.cli.streams import read_question

    _run(
        lambda: Routing(
            question=None if question is None else read_question(question),
            file=file,
            router=router,
            model=model,
            base_url=base_url,
            as_json=as_json,
        )
    )


def _run(make: Callable[[], Asking | Comparing | Routing]) -> NoReturn:
    """Make a command and run it, and end with the exit status that says how it went."""
    from sot_graph.cli.consoles import error_console
    from sot_graph.cli.failing import exit_status
    from sot_graph.cli.streams import check_output, leave
    from sot_graph.cli.tracing import CommandTracing

    tracing = CommandTracing()

    def run() -> None:
        check_output()
        command = make()
        if command.asks_model:
            tracing.start()
        command.run(error_console())

    status = exit_status(run)
    if tracing.finish(error_console()):
        leave(status)
    raise typer.Exit(status)
