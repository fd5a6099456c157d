"""Arguments and options of the commands, and what their help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from sot_graph.cli.kinds import DependentKind, DispatchKind, FrameKind, RouterKind, SkeletonFormatKind

__all__ = [
    "AsJson",
    "AsJsonLines",
    "BaseUrl",
    "Deadline",
    "Decider",
    "Dependent",
    "Dispatch",
    "Frame",
    "MaxConcurrency",
    "MaxPoints",
    "Model",
    "OneQuestion",
    "PointLength",
    "PointTimeout",
    "Question",
    "Questions",
    "Report",
    "Review",
    "Router",
    "SkeletonFormat",
    "Stream",
]

_MODEL = "Model"
_ANSWER = "Answer"
_RUN = "Speed and limits"
_OUTPUT = "Output"
_ROUTING = "Routing"

Question: TypeAlias = Annotated[
    str, typer.Argument(help="The question; - reads it from standard input.", show_default=False)
]
OneQuestion: TypeAlias = Annotated[
    str | None, typer.Argument(help="The question; - reads it from standard input.", show_default=False)
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="SOT_GRAPH_MODEL",
        help="gpt-4o-mini, provider:name, or path/to/model.gguf. If not given: gpt-4o-mini where OPENAI_API_KEY is "
        "set, else the small embedded model.",
        rich_help_panel=_MODEL,
    ),
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        envvar="SOT_GRAPH_BASE_URL",
        help="An OpenAI-compatible endpoint, such as http://localhost:11434/v1. Needs --model; its key, if it wants "
        "one, is OPENAI_API_KEY.",
        rich_help_panel=_MODEL,
    ),
]

MaxPoints: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="The answer has so many points at most: the model is told, and more are left out. If not given: 10. "
        "The embedded model's answers have 6 at most.",
        show_default=False,
        rich_help_panel=_ANSWER,
    ),
]
PointLength: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="WORDS",
        help='How long each point is to be, in words for the model. If not given: "1-2 sentences". The embedded '
        "model keeps to its own.",
        show_default=False,
        rich_help_panel=_ANSWER,
    ),
]
Frame: TypeAlias = Annotated[
    FrameKind,
    typer.Option(help="Write an introduction before the points, and a conclusion after them.", rich_help_panel=_ANSWER),
]
Router: TypeAlias = Annotated[
    RouterKind | None,
    typer.Option(
        help="Have a router decide whether a skeleton is worth it; if not, the answer is direct.",
        rich_help_panel=_ANSWER,
    ),
]
Dependent: TypeAlias = Annotated[
    DependentKind | None,
    typer.Option(
        help="Points that build on each other. graph: each is written once those that it needs are. direct (if not "
        "given): a --router that sees them has the answer written in one go.",
        show_default=False,
        rich_help_panel=_ANSWER,
    ),
]
Review: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--review", help="Show the skeleton first, to be approved, edited or rejected.", rich_help_panel=_ANSWER
    ),
]

Dispatch: TypeAlias = Annotated[
    DispatchKind | None,
    typer.Option(
        help="When points are begun. pipelined: each with its own title, while the model still writes the others. "
        "send (if not given): all when the skeleton is whole.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
SkeletonFormat: TypeAlias = Annotated[
    SkeletonFormatKind | None,
    typer.Option(
        help="How the skeleton is asked for. list: numbered lines, which every model can write. structured (if not "
        "given): checked JSON. Each is the other's fallback. The embedded model writes lists.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
Deadline: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Show the answer after so long: what is unfinished by then is marked. If not given: none.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
PointTimeout: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="The longest that one point may take, its repeated calls included. If not given: 300.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
MaxConcurrency: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Model calls at once. If not given: as many as there are points.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

AsJson: TypeAlias = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object with everything known about the run.", rich_help_panel=_OUTPUT),
]
Stream: TypeAlias = Annotated[
    bool,
    typer.Option("--stream/--no-stream", help="Show the points while they are written.", rich_help_panel=_OUTPUT),
]
Report: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write a picture of the run to this file, as one HTML page; replaces it.",
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]

Questions: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file of questions, one a line.", show_default=False, rich_help_panel=_ROUTING),
]
Decider: TypeAlias = Annotated[RouterKind, typer.Option(help="Who decides.", rich_help_panel=_ROUTING)]
AsJsonLines: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object a question.", rich_help_panel=_ROUTING)
]
