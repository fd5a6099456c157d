"""Commands, their options, and exit statuses.

0, 1 (the model or the run failed), 2 (bad usage), 130 (Ctrl-C), 143 (SIGTERM).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sot_graph.cli.kinds import FrameKind, RouterKind

if TYPE_CHECKING:
    from sot_graph.cli.asking import Asking
    from sot_graph.cli.comparing import Comparing
    from sot_graph.cli.routing import Routing

__all__ = ["app"]


class _Commands(TyperGroup):
    """Typer ends with 1 where nobody reads a help to its end (`sot-graph --help | true`), and with 130 at SIGTERM."""

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        with _ending_as_all_else():
            return super().make_context(*arguments, **settings)

    def invoke(self, *arguments: Any, **settings: Any) -> Any:
        with _ending_as_all_else():
            return super().invoke(*arguments, **settings)


@contextmanager
def _ending_as_all_else() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        from sot_graph.cli.streams import drop_output

        drop_output()
        raise typer.Exit from None
    except KeyboardInterrupt:
        from sot_graph.cli.failing import interrupted

        raise typer.Exit(interrupted()) from None


app = typer.Typer(
    name="sot-graph",
    cls=_Commands,
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
  sot-graph ask "How can I sleep better?" --json | jq -r .answer
  sot-graph ask - < question.txt
"""

_Question = Annotated[str, typer.Argument(help="The question; - reads it from standard input.", show_default=False)]
_Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="SOT_GRAPH_MODEL",
        help="gpt-4o-mini, provider:name, or path/to/model.gguf. If not given: gpt-4o-mini where OPENAI_API_KEY is "
        "set, else the small embedded model.",
    ),
]
_BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        envvar="SOT_GRAPH_BASE_URL",
        help="An OpenAI-compatible endpoint, such as http://localhost:11434/v1. Needs --model; its key, if it wants "
        "one, is OPENAI_API_KEY.",
    ),
]


@app.command(short_help="Answer a question, its points written in parallel.", epilog=_EXAMPLES)
def ask(
    question: _Question,
    model: _Model = None,
    base_url: _BaseUrl = None,
    max_points: Annotated[
        int | None,
        typer.Option(
            help="The answer has so many points at most: the model is told, and more are left out. If not given: 10. "
            "The embedded model's answers have 6 at most.",
            show_default=False,
        ),
    ] = None,
    point_length: Annotated[
        str | None,
        typer.Option(
            help='How long each point is to be, in words for the model. If not given: "1-2 sentences". The embedded '
            "model keeps to its own.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with everything known about the run.")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="Show the points while they are written.")
    ] = True,
    review: Annotated[
        bool, typer.Option("--review", help="Show the skeleton first, to be approved, edited or rejected.")
    ] = False,
    router: Annotated[
        RouterKind | None,
        typer.Option(help="Have a router decide whether a skeleton is worth it; if not, the answer is direct."),
    ] = None,
    frame: Annotated[
        FrameKind, typer.Option(help="Write an introduction before the points, and a conclusion after them.")
    ] = FrameKind.NONE,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write a picture of the run to this file, as one HTML page; replaces it.", show_default=False
        ),
    ] = None,
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
            as_json=as_json,
            stream=stream,
            review=review,
            report=report,
            router=router,
            frame=frame,
        )
    )


@app.command(short_help="Answer it directly and by its skeleton: times and tokens of both.")
def compare(question: _Question, model: _Model = None, base_url: _BaseUrl = None) -> None:
    """Answer a question twice, directly and by its skeleton, and show what each way took.

    Example: sot-graph compare "How can I sleep better?"
    """
    from sot_graph.cli.comparing import Comparing
    from sot_graph.cli.streams import read_question

    _run(lambda: Comparing(question=read_question(question), model=model, base_url=base_url))


@app.command(short_help="Say whether a question gains by a skeleton, without a model.")
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
