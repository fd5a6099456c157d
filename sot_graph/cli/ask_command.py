"""`sot-graph ask`: one question, from the command line to the screen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sot_graph.cli.live_board import Screen, follow, screen_for
from sot_graph.cli.process import error_console, opened_model, output_console, print_json, read_question, waiting
from sot_graph.errors import SotConfigError, SotError
from sot_graph.evaluation.arms import make_router
from sot_graph.options import SotOptions, with_changes

if TYPE_CHECKING:
    from rich.console import Console

    from sot_graph.types import SkeletonPoint

_JSON_KEYS = (
    *("answer", "route", "route_reason", "skeleton", "expansions", "sources", "unsupported_citations"),
    *("finish_reason", "frame", "usage", "timings", "messages"),
)
_CONFIG = {"configurable": {"thread_id": "ask"}}
_REVIEW_HELP = (
    "Enter: write it   e 2 New title: rename   a Title: add   d 2: delete   m 4 1: move 4 to 1   "
    "r why: have another drafted   q: quit"
)


class ReviewAbandonedError(SotError):
    """The reviewer left, or standard input ended."""

    def __init__(self) -> None:
        super().__init__("the skeleton was not approved; nothing was written.")


def ask_options(*, review: bool = False, stream: bool = True, **given: Any) -> SotOptions:
    """What the command line asks for: options by their names in `SotOptions`; those that are `None` are left to it."""
    changes = {name: value for name, value in given.items() if value is not None}
    # Where time may run out, what has come by then is kept, shown or not.
    is_streamed = stream or changes.get("deadline") or changes.get("point_timeout")
    return with_changes(SotOptions(review_skeleton=review, stream="auto" if is_streamed else False), changes)


def answer_question(
    question: str,
    *,
    model: str | None,
    base_url: str | None,
    docs: Sequence[Path] | None = None,
    router: str | None,
    review: bool,
    as_json: bool,
    stream: bool,
    show_skeleton: bool | None,
    report: Path | None,
    **given: Any,
) -> None:
    """Ask and print. The arguments are those of the command; those that aren't named here go to `ask_options`."""
    errors = error_console()
    question = read_question(question, reviewed=review)
    options, chosen = ask_options(review=review, stream=stream, **given), make_router(router)
    if report is not None:
        check_output(report, "--report")
    graph_input: dict[str, Any] = {"question": question}
    if docs:
        from sot_graph.retrieval.files import load_documents

        graph_input["documents"] = load_documents(*docs)
    with opened_model(model, base_url) as (chat, choice):
        from langgraph.checkpoint.memory import InMemorySaver

        from sot_graph.graph import create_sot_graph

        graph = create_sot_graph(chat, options=options, router=chosen, checkpointer=InMemorySaver() if review else None)
        show = partial(screen_for, output_console(), stream=stream, silent=as_json, show_skeleton=show_skeleton)
        result, screen = _run_with_reviews(graph, graph_input, errors, show, as_json=as_json)
        if as_json:
            from langchain_core.messages import messages_to_dict

            plain = {**result, "messages": messages_to_dict(result["messages"])}
            print_json({key: plain[key] for key in _JSON_KEYS})
        screen.finish(result)
        if errors.is_terminal and (told := bill_of(result["usage"])):  # a program reads `usage`
            errors.print(told, style="dim", markup=False, highlight=False)
    if report is not None:
        from sot_graph.report import result_timeline

        write_report(report, result_timeline(result, local=choice.is_embedded))


def write_report(path: Path, page: str) -> None:
    """Write a page, and say so."""
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error  # with the file's name
    error_console().print(f"Wrote {path}.", style="dim", markup=False)


def bill_of(usage: Mapping[str, Any]) -> str:
    """What a run cost, where prices are installed, and its tokens, where some are estimated; otherwise nothing."""
    total, cost = usage["total"], usage.get("cost", {})
    told = [f"Cost: {cost['total']:.4f} dollars."] if "total" in cost else []
    if unpriced := ", ".join(cost.get("unpriced", ())):
        told.append(f"The price of {unpriced} is not known.")
    if total.get("estimated"):
        tokens = f"{total['input_tokens']:,} tokens in, {total['output_tokens']:,} out"
        told.append(f"About {tokens}: of texts that broke off the provider told none.")
    return " ".join(told)


def check_output(path: Path, option: str) -> None:
    """Find out whether an option's file can be written, before the run is paid for. Leaves no file behind."""
    try:
        if path.is_dir():
            message = f"{option} {path}: that is a folder. Name a file."
            raise SotConfigError(message)
        if not path.absolute().parent.is_dir():
            message = f"{option} {path}: there is no folder {path.parent}."
            raise SotConfigError(message)
        if not path.exists():
            file = os.path.realpath(path)
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            os.unlink(file)
        elif path.is_file():  # a pipe or a device would take the trial for the report
            os.close(os.open(path, os.O_WRONLY))
    except OSError as error:
        message = f"{option} {path}: can't be written: {error.strerror}."
        raise SotConfigError(message) from error


def _run_with_reviews(
    graph: Any, graph_input: Any, errors: Console, show: Callable[[], Screen], *, as_json: bool
) -> tuple[Mapping[str, Any], Screen]:
    """Run to the end, with a review wherever the graph stops for one. Returns the result and the last run's screen."""
    from langgraph.types import Command

    def read_line(prompt: str) -> str:
        errors.print(prompt, end="")
        try:
            return input()
        except (EOFError, KeyboardInterrupt):
            errors.print()  # what is said next is to begin a line
            raise

    while True:
        screen = show()
        # JSON comes in one piece at the end: until then there is nothing else to look at.
        with waiting(errors, "Answering", in_pipe=False) if as_json else nullcontext(), screen.watch():
            result = asyncio.run(follow(graph, graph_input, _CONFIG, screen.feed))
        if not (interrupts := result.get("__interrupt__")):
            return result, screen
        points = interrupts[0].value["points"]
        verdict = review_on_terminal(points, read=read_line, show=lambda text: errors.print(text, markup=False))
        graph_input = Command(resume=verdict)


def review_on_terminal(
    points: Sequence[SkeletonPoint], *, read: Callable[[str], str], show: Callable[[str], None]
) -> Any:
    """Have a skeleton reviewed, one line a change, until there is a verdict as `Command(resume=...)` takes it.

    `read` asks for a line, and raises `EOFError` at the end of input.
    """
    given = titles = [point["title"] for point in points]
    show(_REVIEW_HELP)
    while True:
        show("\n".join(f"{number}. {title}" for number, title in enumerate(titles, start=1)))
        try:
            line = read("> ").strip()
        except EOFError:
            raise ReviewAbandonedError from None
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if command in {"", "y", "yes", "ok"}:
            return True if titles == given else titles
        if command == "q":
            raise ReviewAbandonedError
        if command == "r" and rest:
            return {"reject": rest}
        if (missing := _missing_point(command, rest, len(titles))) is not None:
            show(f"There is no point {missing}: the skeleton has {len(titles)}.")
        elif (changed := _edited_titles(titles, command, rest)) is None:
            show(f"That was not understood: {line!r}. {_REVIEW_HELP}")
        else:
            titles = changed


def _missing_point(command: str, rest: str, count: int) -> int | None:
    """The number in a command that no point has."""
    words = rest.split()[: {"d": 1, "e": 1, "m": 2}.get(command, 0)]
    return next((int(word) for word in words if word.isdecimal() and not 1 <= int(word) <= count), None)


def _edited_titles(titles: list[str], command: str, rest: str) -> list[str] | None:
    """The titles after one command; `None`: no such command, or nothing would be left."""
    if command == "a" and rest:
        return [*titles, rest]
    first, second = [*rest.split(maxsplit=1), "", ""][:2]
    at, to = (int(word) - 1 if word.isdecimal() else -1 for word in (first, second))
    if at not in range(len(titles)):
        return None
    others = titles[:at] + titles[at + 1 :]
    if command == "d" and others:
        return others
    if command == "e" and second:
        return [*titles[:at], second, *titles[at + 1 :]]
    if command == "m" and to in range(len(titles)):
        return [*others[:to], titles[at], *others[to:]]
    return None
