"""The command line: the commands, their options and their help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeAlias

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["app", "ask", "compare", "route"]

_MODEL = "Model"
_ANSWER = "Answer"
_RUN = "Speed and limits"
_OUTPUT = "Output"
_ROUTING = "Routing"
_UNGROUPED = "Options"

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

# The choices are written out: importing the library's own would cost `--help` half a second. A test holds them equal.
_Router: TypeAlias = Literal["learned", "model", "cascade"]
_QUESTION_HELP = "The question; - reads it from standard input."
_Question: TypeAlias = Annotated[str, typer.Argument(help=_QUESTION_HELP, show_default=False)]


def _option(
    panel: str, text: str, *flags: str, metavar: str | None = None, show_default: bool = False, **more: Any
) -> Any:
    return typer.Option(*flags, help=text, metavar=metavar, show_default=show_default, rich_help_panel=panel, **more)


_Model: TypeAlias = Annotated[
    str | None,
    _option(
        _MODEL,
        "gpt-4o-mini, provider:name, or path/to/model.gguf. If not given: gpt-4o-mini where OPENAI_API_KEY is set, "
        "else the small embedded model.",
        "--model",
        "-m",
        envvar="SOT_GRAPH_MODEL",
    ),
]
_BaseUrl: TypeAlias = Annotated[
    str | None,
    _option(
        _MODEL,
        "An OpenAI-compatible endpoint, such as http://localhost:11434/v1. Needs --model; its key, if it wants one, "
        "is OPENAI_API_KEY.",
        envvar="SOT_GRAPH_BASE_URL",
    ),
]


class _Command(TyperCommand):
    """Its help has options in groups, by their `rich_help_panel`. Typer itself groups them only with Rich's boxes."""

    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer, but says what to do about a question without quotes."""
        rest: list[str] = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            ctx.fail(f"After the question there is more: {' '.join(ctx.args)!r:.200}. Put the question in quotes.")
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                group = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or _UNGROUPED
                groups.setdefault(group, []).append(record)
        for group in sorted(groups, key=_UNGROUPED.__eq__):  # -h stands at the end
            with formatter.section(group):
                formatter.write_dl(groups[group])


class _Commands(TyperGroup):
    """Typer ends with 1 where nobody reads a help to its end (`sot-graph --help | true`), and with 130 at SIGTERM."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As Typer, but says what to do about a question without a command."""
        if args and " " in args[0] and not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            ctx.fail(f'There is no such command. For a question: sot-graph ask "{args[0]:.200}"')
        return super().resolve_command(ctx, args)

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """As Typer."""
        with _own_exit_codes():
            return super().make_context(*arguments, **settings)

    def invoke(self, *arguments: Any, **settings: Any) -> Any:
        """As Typer."""
        with _own_exit_codes():
            return super().invoke(*arguments, **settings)


@contextmanager
def _own_exit_codes() -> Iterator[None]:
    from sot_graph.cli.exit_codes import drop_output, interrupted

    try:
        yield
    except BrokenPipeError:
        drop_output()
        raise typer.Exit from None
    except KeyboardInterrupt:
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


@app.command(cls=_Command, short_help="Answer a question, its points written in parallel.", epilog=_EXAMPLES)
def ask(
    context: typer.Context,
    question: _Question,
    model: _Model = None,
    base_url: _BaseUrl = None,
    max_points: Annotated[
        int | None,
        _option(
            _ANSWER,
            "The answer has so many points at most: the model is told, and more are left out. If not given: 10. "
            "The embedded model's answers have 6 at most.",
            metavar="N",
        ),
    ] = None,
    point_length: Annotated[
        str | None,
        _option(
            _ANSWER,
            'How long each point is to be, in words for the model. If not given: "1-2 sentences". The embedded model '
            "keeps to its own.",
            metavar="WORDS",
        ),
    ] = None,
    frame: Annotated[
        Literal["none", "intro", "intro+conclusion"],
        _option(_ANSWER, "Write an introduction before the points, and a conclusion after them.", show_default=True),
    ] = "none",
    router: Annotated[
        _Router | None,
        _option(_ANSWER, "Have a router decide whether a skeleton is worth it; if not, the answer is direct."),
    ] = None,
    dependent: Annotated[
        Literal["direct", "graph"] | None,
        _option(
            _ANSWER,
            "Points that build on each other. graph: each is written once those that it needs are. direct (if not "
            "given): a --router that sees them has the answer written in one go.",
        ),
    ] = None,
    review: Annotated[
        bool, _option(_ANSWER, "Show the skeleton first, to be approved, edited or rejected.", "--review")
    ] = False,
    dispatch: Annotated[
        Literal["send", "pipelined"] | None,
        _option(
            _RUN,
            "When points are begun. pipelined: each with its own title, while the model still writes the others. send "
            "(if not given): all when the skeleton is whole.",
        ),
    ] = None,
    skeleton_format: Annotated[
        Literal["structured", "list"] | None,
        _option(
            _RUN,
            "How the skeleton is asked for. list: numbered lines, which every model can write. structured (if not "
            "given): checked JSON. Each is the other's fallback. The embedded model writes lists.",
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        _option(
            _RUN,
            "Show the answer after so long: what is unfinished by then is marked. If not given: none.",
            metavar="SECONDS",
        ),
    ] = None,
    point_timeout: Annotated[
        float | None,
        _option(
            _RUN,
            "The longest that one point may take, its repeated calls included. If not given: 300.",
            metavar="SECONDS",
        ),
    ] = None,
    max_concurrency: Annotated[
        int | None,
        _option(_RUN, "Model calls at once. If not given: as many as there are points.", metavar="N"),
    ] = None,
    as_json: Annotated[
        bool, _option(_OUTPUT, "Print one JSON object with everything known about the run.", "--json")
    ] = False,
    stream: Annotated[
        bool,
        _option(_OUTPUT, "Show the points while they are written.", "--stream/--no-stream", show_default=True),
    ] = True,
    report: Annotated[
        Path | None,
        _option(_OUTPUT, "Write a picture of the run to this file, as one HTML page; replaces it.", metavar="FILE"),
    ] = None,
) -> None:
    """Answer a question: first its skeleton, then all points in parallel, then one answer."""
    from sot_graph.cli.ask_command import answer_question, ask_options
    from sot_graph.cli.exit_codes import LIBRARY_OPTIONS
    from sot_graph.cli.terminal import read_question

    def run(errors: Console) -> None:
        given = {name: context.params[name] for name in LIBRARY_OPTIONS}
        answer_question(
            read_question(question, reviewed=review),
            ask_options(review=review, stream=stream, **given),
            errors,
            model=model,
            base_url=base_url,
            router=router,
            as_json=as_json,
            stream=stream,
            report=report,
        )

    _run(run)


@app.command(cls=_Command, short_help="Answer it directly and by its skeleton: times and tokens of both.")
def compare(question: _Question, model: _Model = None, base_url: _BaseUrl = None) -> None:
    """Answer a question twice, directly and by its skeleton, and show what each way took.

    Example: sot-graph compare "How can I sleep better?"
    """
    from sot_graph.cli.compare_command import Comparison
    from sot_graph.cli.terminal import read_question

    _run(lambda errors: Comparison(read_question(question)).run(errors, model=model, base_url=base_url))


@app.command(cls=_Command, short_help="Say whether a question gains by a skeleton, without a model.")
def route(
    question: Annotated[str | None, typer.Argument(help=_QUESTION_HELP, show_default=False)] = None,
    file: Annotated[Path | None, _option(_ROUTING, "A file of questions, one a line.", metavar="FILE")] = None,
    router: Annotated[_Router, _option(_ROUTING, "Who decides.", show_default=True)] = "learned",
    as_json: Annotated[bool, _option(_ROUTING, "Print one JSON object a question.", "--json")] = False,
    model: _Model = None,
    base_url: _BaseUrl = None,
) -> None:
    """Say whether a question gains by a skeleton, and why. The learned router needs no model.

    Example: sot-graph route "What is 17 * 23?"
    """
    from sot_graph.cli.route_command import decide_routes

    def run(errors: Console) -> None:
        decide_routes(question, file, errors, router=router, model=model, base_url=base_url, as_json=as_json)

    _run(run, asks_model=router != "learned")


def _run(command: Callable[[Console], None], *, asks_model: bool = True) -> NoReturn:
    """Run a command, and end with the exit status that says how it went."""
    from sot_graph.cli.exit_codes import exit_status, leave
    from sot_graph.cli.model_session import CommandTracing
    from sot_graph.cli.terminal import check_output, error_console

    tracing = CommandTracing()

    def run() -> None:
        check_output()
        if asks_model:
            tracing.start()
        command(error_console())

    status = exit_status(run)
    if tracing.finish(error_console()):
        leave(status)
    raise typer.Exit(status)
