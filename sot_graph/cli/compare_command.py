"""`sot-graph compare` and `sot-graph play`: questions answered both ways, and what each way took, here or on a page."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.live import Live
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from sot_graph.cli.ask_command import ask_options, check_output, write_report
from sot_graph.cli.live_board import FRAMES_PER_SECOND, Board, follow
from sot_graph.cli.process import (
    asked_questions,
    error_console,
    opened_model,
    output_console,
    plain_text,
    print_json,
    read_question,
)
from sot_graph.errors import SotConfigError, SotError
from sot_graph.evaluation.arms import Arm, ArmAnswer, answer_of, make_graph

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable
    from rich.console import Console

_SHARED_CPU = "On one CPU the points share the cores: what is gained with a hosted model does not show here."
_WAYS = ("directly", "by its skeleton")


class ComparedQuestion(NamedTuple):
    """A question and both answers: the direct one, the one by its skeleton."""

    question: str
    answers: tuple[ArmAnswer, ArmAnswer]


def compare_ways(
    question: str | None,
    *,
    file: Path | None,
    model: str | None,
    base_url: str | None,
    max_points: int | None,
    as_json: bool,
    report: Path | None,
) -> None:
    """Answer each question both ways and print what each way took. The arguments are those of the command."""
    questions = asked_questions(question, file)
    if report is not None:
        check_output(report, "--report")
    ask_options(max_points=max_points)  # names the option where its value is wrong, and no arm
    arms = (Arm.parse("direct"), Arm.parse("skeleton" if max_points is None else f"skeleton,max_points={max_points}"))
    output, errors = output_console(), error_console()
    compared: list[ComparedQuestion] = []
    with opened_model(model, base_url) as (chat, choice):
        for each in questions:
            compared.append(asyncio.run(_answer_both_ways(each, arms, chat, is_shown=not as_json)))
            direct, skeleton = compared[-1].answers
            if as_json:
                print_json({"question": each, "direct": direct, "skeleton": skeleton})
            else:
                _print_answers(compared[-1], output, is_alone=len(questions) == 1)
            if len(compared) == 1 and direct["error"] and skeleton["error"]:
                break  # it isn't the question's fault
        whole = _whole(compared)
        if len(whole) > 1 and not as_json:
            output.print(f"\nThe median of {len(whole)} questions", style="bold")
            output.print(figures(*_medians(whole)))
    if choice.is_embedded:
        errors.print(_SHARED_CPU, style="dim")
    if report is not None:
        write_report(report, _page(compared, is_embedded=choice.is_embedded))
    _raise_if_incomplete(compared)


def _print_answers(compared: ComparedQuestion, output: Console, *, is_alone: bool) -> None:
    if not is_alone:
        output.print(f"\n{plain_text(compared.question)}", style="bold", markup=False)
    if output.is_terminal:
        output.print(_side_by_side([Text(_text_of(answer)) for answer in compared.answers]))
    else:
        for name, answer in zip(_WAYS, compared.answers, strict=True):
            output.print(f"Answered {name}\n\n{_text_of(answer)}\n", markup=False, soft_wrap=True)
    output.print(figures(*compared.answers))


def _raise_if_incomplete(compared: Sequence[ComparedQuestion]) -> None:
    if failed := [error for each in compared for answer in each.answers if (error := answer["error"])]:
        message = f"{len(failed)} of {2 * len(compared)} answers are missing. The first: {failed[0].rstrip('.')}."
        raise SotError(message)


def _text_of(answer: ArmAnswer) -> str:
    why = (answer["error"] or "").removeprefix("There is no answer: ").rstrip(".")
    return plain_text(answer["answer"] or f"There is no answer: {why}.")


async def _answer_both_ways(
    question: str, arms: Sequence[Arm], chat: Runnable[Any, Any], *, is_shown: bool
) -> ComparedQuestion:
    """Directly first, then by its skeleton, so that neither takes from the other."""
    console, errors = output_console(), error_console()
    boards: list[Board] = []
    live = Live(
        console=console,
        refresh_per_second=FRAMES_PER_SECOND,
        transient=True,
        get_renderable=lambda: _side_by_side([*boards, *[Text("")] * (len(arms) - len(boards))]),
    )
    answers = []
    with live if is_shown and console.is_terminal else nullcontext():
        for name, arm in zip(_WAYS, arms, strict=True):
            if is_shown and not console.is_terminal:  # a terminal shows the answers themselves
                errors.print(f"Answering {name} ...", style="dim")
            graph = make_graph(arm, chat)
            boards.append(Board())
            answers.append(await answer_of(follow(graph, {"question": question}, None, boards[-1].feed)))
    return ComparedQuestion(question, (answers[0], answers[1]))


def _side_by_side(contents: Sequence[Any]) -> Table:
    grid = Table.grid(Column(ratio=1), Column(ratio=1), expand=True)
    panels = [Panel(each, title=name, title_align="left") for name, each in zip(_WAYS, contents, strict=True)]
    grid.add_row(*panels)
    return grid


def _rows(direct: ArmAnswer, skeleton: ArmAnswer) -> list[tuple[str, str, str, str]]:
    """A name, both figures, and how many times the first is the second."""
    both: list[dict[str, Any]] = [{**direct}, {**skeleton}]

    def row(name: str, key: str, form: str) -> tuple[str, str, str, str]:
        left, right = (each.get(key) for each in both)
        ratio = f"{left / right:.2f}" if left is not None and right else ""
        shown = [form.format(value) if value is not None else "-" for value in (left, right)]
        return name, shown[0], shown[1], ratio

    for each in both:  # a shorter answer gains nothing by this one
        seconds, tokens = each.get("seconds"), each.get("output_tokens")
        each["seconds_a_token"] = seconds / tokens if seconds is not None and tokens else None
    about = ", about" if skeleton.get("estimated") else ""
    prices = [row("dollars", "cost", "{:.4f}")] if find_spec("genai_prices") else []
    return [
        row("first word of the answer, s", "first_word", "{:.2f}"),
        row("whole answer, s", "seconds", "{:.2f}"),
        row(f"tokens in{about}", "input_tokens", "{:,.0f}"),
        row(f"tokens out{about}", "output_tokens", "{:,.0f}"),
        *prices,  # a model without a known price has a dash
        row("model calls", "calls", "{:.0f}"),
        row("seconds a token out", "seconds_a_token", "{:.4f}"),
    ]


def figures(direct: ArmAnswer, skeleton: ArmAnswer) -> Table:
    """The figures of both ways, and the ratio between them."""
    headings = (Column(heading, justify="right") for heading in (*_WAYS, "first / second"))
    table = Table("", *headings, box=None, pad_edge=False)
    for row in _rows(direct, skeleton):
        table.add_row(*row)
    return table


def _whole(compared: Sequence[ComparedQuestion]) -> list[ComparedQuestion]:
    """The questions that both ways have answered."""
    return [each for each in compared if not any(answer["error"] for answer in each.answers)]


def _medians(whole: Sequence[ComparedQuestion]) -> tuple[ArmAnswer, ArmAnswer]:
    def of(way: int) -> Any:
        answers: list[Mapping[str, Any]] = [each.answers[way] for each in whole]
        keys = ("first_word", "seconds", "input_tokens", "output_tokens", "cost", "calls")
        known = {key: [answer[key] for answer in answers if answer.get(key) is not None] for key in keys}
        return {key: median(values) for key, values in known.items() if values}

    return of(0), of(1)


def _page(compared: Sequence[ComparedQuestion], *, is_embedded: bool) -> str:
    from sot_graph.evaluation import tables

    def table(title: str, answers: tuple[ArmAnswer, ArmAnswer]) -> tables.Table:
        rows = [tables.TableRow(name=name, cells=cells) for name, *cells in _rows(*answers)]
        return tables.Table(title=title, headings=(*_WAYS, "first / second"), rows=rows)

    several, whole = len(compared) > 1, _whole(compared)
    page = tables.Page(
        kicker="Skeleton-of-Thought, compared",
        title=f"{len(compared)} questions, both ways" if several else compared[0].question,
        lede="Each question answered directly first, then by its skeleton.",
        notices=[_SHARED_CPU] if is_embedded else [],
        tables=[
            *([table(f"The median of {len(whole)} questions", _medians(whole))] if len(whole) > 1 else []),
            *(table(each.question if several else "What each way took", each.answers) for each in compared),
        ],
        texts=[
            (f"{each.question} – answered {name}", _text_of(answer))  # noqa: RUF001 - a dash
            for each in compared
            for name, answer in zip(_WAYS, each.answers, strict=True)
        ],
    )
    return tables.render_html(page)


def serve_playground(question: str | None, *, model: str | None, base_url: str | None, port: int, **given: Any) -> None:
    """Serve the page until Ctrl-C. The arguments are those of the command; those that aren't named here are options."""
    if any(find_spec(name) is None for name in ("starlette", "uvicorn")):
        message = "the page's server is not installed: pip install 'sot-graph[play]'."
        raise SotConfigError(message)
    from sot_graph.play.playground import playground, serve

    question = "" if question is None else read_question(question)
    options = ask_options(**given)
    errors = error_console()
    # Other users of this machine, and web pages in a browser on it, reach the port. They don't know the key.
    key = secrets.token_urlsafe(24)

    def ready(port: int) -> None:
        errors.print(f"Open http://127.0.0.1:{port}/{key}/ in a browser. Ctrl-C ends it.", markup=False)

    with opened_model(model, base_url) as (chat, choice):
        page = playground(chat, options, name=choice.label, local=choice.is_embedded, question=question, key=key)
        serve(page, port=port, ready=ready)
