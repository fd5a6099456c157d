"""`sot-graph route`: which questions would take the skeleton path, and why."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sot_graph.cli.terminal import print_json, read_question
from sot_graph.errors import SotConfigError

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable
    from rich.console import Console

    from sot_graph.routing.protocol import RouteDecision

__all__ = ["RouterName", "decide_routes", "make_router"]

RouterName: TypeAlias = Literal["learned", "model", "cascade"]


def make_router(name: RouterName, model: Runnable[Any, Any]) -> Any:
    """A router by its name. `model` is asked by the last two."""
    from sot_graph.routing.learned_router import LearnedRouter
    from sot_graph.routing.model_router import CascadeRouter, ModelRouter

    if name == "learned":
        return LearnedRouter()
    return ModelRouter(model) if name == "model" else CascadeRouter(LearnedRouter(), ModelRouter(model))


def decide_routes(
    question: str | None,
    file: Path | None,
    errors: Console,
    *,
    router: RouterName,
    model: str | None,
    base_url: str | None,
    as_json: bool,
) -> None:
    """Decide and print, one line a question: the one that is given, or those of a file.

    Raises:
        SotConfigError: Bad usage.
        Exception: The model could not be asked, or the answer not be printed.
    """
    questions = _questions(question, file)

    def show(question: str, decision: RouteDecision) -> None:
        if as_json:
            print_json({"question": question, **asdict(decision)})
            return
        sure = "" if decision.confidence is None else f" {decision.confidence:.2f}"
        about = f"\t{question}" if file is not None else ""
        sys.stdout.write(f"{decision.route}{sure}\t{decision.reason}{about}\n")

    if router == "learned":  # without a model, seconds of imports are spared
        from sot_graph.routing.learned_router import LearnedRouter

        learned = LearnedRouter()
        for each in questions:
            show(each, learned(each))
        return

    import asyncio

    from sot_graph.cli.exit_codes import running
    from sot_graph.cli.model_session import opened_model

    async def decide(chosen: Any) -> None:
        from sot_graph.options import SotOptions
        from sot_graph.routing.protocol import ask_router
        from sot_graph.run import open_run

        for each in questions:
            with open_run({}, SotOptions()) as run:
                show(each, await ask_router(chosen, each, (), run=run, model=None))

    with opened_model(model, base_url, errors) as (chat, _), running():
        asyncio.run(decide(make_router(router, chat)))


def _questions(question: str | None, file: Path | None) -> list[str]:
    if (question is None) == (file is None):
        message = "give one question, or --file with one a line."
        raise SotConfigError(message)
    if file is None:
        return [read_question(question or "")]
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        message = f"--file {file} can't be read: {reason}."
        raise SotConfigError(message) from error
    questions = [line for line in lines if line.strip()]
    if not questions:
        message = f"--file {file} holds no question."
        raise SotConfigError(message)
    return questions
