"""Commands, their options, and exit statuses: 0, 1 (the model or the run failed), 2 (bad usage), 130 (Ctrl-C)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sot_graph.cli.kinds import RouterKind

if TYPE_CHECKING:
    from sot_graph.cli.asking import Asking
    from sot_graph.cli.comparing import Comparing
    from sot_graph.cli.routing import Routing

__all__ = ["app"]

app = typer.Typer(
    name="sot-graph",
    help="Skeleton-of-Thought: long answers sooner, by writing their points in parallel.",
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
    """Skeleton-of-Thought: long answers sooner, by writing their points in parallel."""


_Question = Annotated[str, typer.Argument(help="The question; - reads it from standard input.", show_default=False)]
_Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="SOT_GRAPH_MODEL",
        help="gpt-4o-mini, provider:name, or path/to/model.gguf. Without it, and without OPENAI_API_KEY: the small "
        "embedded model.",
    ),
]
_BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        envvar="SOT_GRAPH_BASE_URL",
        help="An OpenAI-compatible endpoint, such as http://localhost:11434/v1. Needs --model.",
    ),
]


@app.command()
def ask(
    question: _Question,
    model: _Model = None,
    base_url: _BaseUrl = None,
    max_points: Annotated[int | None, typer.Option(help="Points of the skeleton at most; 10 if not given.")] = None,
    point_length: Annotated[
        str | None, typer.Option(help='How long a point is to be; "1-2 sentences" if not given.')
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with everything known about the run, no more.")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="Show the points while they are written.")
    ] = True,
    review: Annotated[
        bool, typer.Option("--review", help="Show the skeleton first, to be approved, edited or rejected.")
    ] = False,
    router: Annotated[
        RouterKind | None, typer.Option(help="Have a router decide whether the question takes a skeleton.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write a picture of the run to this file, as one HTML page; replaces it.", show_default=False
        ),
    ] = None,
) -> None:
    """Answer a question: first its skeleton, then all points in parallel, then one answer.

    Example: sot-graph ask "How can I improve my time management skills?"
    """
    from sot_graph.cli.asking import Asking
    from sot_graph.cli.streams import read_question

    _run(
        lambda: Asking(
            question=read_question(question, reviewed=review),
            model=model,
            base_url=base_url,
            max_points=max_points,
            point_length=point_length,
            as_json=as_json,
            stream=stream,
            review=review,
            report=report,
            router=router,
        )
    )


@app.command()
def compare(question: _Question, model: _Model = None, base_url: _BaseUrl = None) -> None:
    """Answer a question twice, directly and by its skeleton, and show what each way took.

    Example: sot-graph compare "How can I improve my time management skills?"
    """
    from sot_graph.cli.comparing import Comparing
    from sot_graph.cli.streams import read_question

    _run(lambda: Comparing(question=read_question(question), model=model, base_url=base_url))


@app.command()
def route(
    question: Annotated[
        str | None, typer.Argument(help="The question; - reads it from standard input.", show_default=False)
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file of questions, one a line.", show_default=False)] = None,
    router: Annotated[RouterKind, typer.Option(help="Who decides.")] = RouterKind.LEARNED,
    model: _Model = None,
    base_url: _BaseUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a question.")] = False,
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


def _run(command: Callable[[], Asking | Comparing | Routing]) -> NoReturn:
    """Make a command and run it, and end with the exit status that says how it went."""
    from sot_graph.cli.consoles import error_console
    from sot_graph.cli.failing import exit_status
    from sot_graph.cli.streams import check_output, leave
    from sot_graph.cli.tracing import CommandTracing

    tracing = CommandTracing()

    def run() -> None:
        check_output()
        tracing.start()
        command().run(error_console())

    status = exit_status(run)
    if tracing.finish(error_console()):
        leave(status)
    raise typer.Exit(status)
