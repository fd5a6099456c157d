"""`sot-graph route`: which questions would take the skeleton path, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sot_graph.cli.kinds import RouterKind
from sot_graph.cli.streams import print_json
from sot_graph.errors import SotConfigError

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable
    from rich.console import Console

    from sot_graph.routing.protocol import RouteDecision

__all__ = ["Routing", "make_router"]


def make_router(kind: RouterKind, model: Runnable[Any, Any]) -> Any:
    """A router by its name. `model` is asked by the last two."""
    from sot_graph.routing.learned.learned_router import LearnedRouter

    if kind is RouterKind.LEARNED:
        return LearnedRouter()
    from sot_graph.routing.cascade import CascadeRouter
    from sot_graph.routing.model_router import ModelRouter

    if kind is RouterKind.MODEL:
        return ModelRouter(model)
    return CascadeRouter(LearnedRouter(), ModelRouter(model))


@dataclass(frozen=True, kw_only=True)
class Routing:
    """One run of the command."""

    question: str | None
    file: Path | None
    router: RouterKind
    model: str | None
    base_url: str | None
    as_json: bool

    def run(self, errors: Console) -> None:
        """Decide and print, one line a question.

        Raises:
            SotConfigError: Bad usage.
            Exception: The model could not be asked, or the answer not be printed.
        """
        questions = list(self._questions())
        if self.asks_model:
            self._ask_model(questions, errors)
        else:
            self._decide_alone(questions)

    @property
    def asks_model(self) -> bool:
        """Whether a model may be asked. Without one, seconds of imports are spared."""
        return self.router is not RouterKind.LEARNED

    def _questions(self) -> Iterable[str]:
        if (self.question is None) == (self.file is None):
            message = "give one question, or --file with one a line."
            raise SotConfigError(message)
        if self.file is None:
            return [self.question or ""]
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
            message = f"--file {self.file} can't be read: {reason}."
            raise SotConfigError(message) from error
        questions = [line for line in lines if line.strip()]
        if not questions:
            message = f"--file {self.file} holds no question."
            raise SotConfigError(message)
        return questions

    def _decide_alone(self, questions: list[str]) -> None:
        from sot_graph.routing.learned.learned_router import LearnedRouter

        router = LearnedRouter()
        for question in questions:
            self._print(question, router(question))

    def _ask_model(self, questions: list[str], errors: Console) -> None:
        import asyncio

        from sot_graph.cli.failing import running
        from sot_graph.cli.waiting import opened_model

        with opened_model(self.model, self.base_url, errors) as model, running():
            asyncio.run(self._decide(questions, make_router(self.router, model.chat)))

    async def _decide(self, questions: list[str], router: Any) -> None:
        from sot_graph.options import SotOptions
        from sot_graph.routing.protocol import ask_router
        from sot_graph.run import open_run

        for question in questions:
            with open_run({}, SotOptions()) as run:
                self._print(question, await ask_router(router, question, (), run=run, model=None))

    def _print(self, question: str, decision: RouteDecision) -> None:
        if self.as_json:
            print_json({"question": question, **asdict(decision)})
            return
        sure = "" if decision.confidence is None else f" {decision.confidence:.2f}"
        about = f"\t{question}" if self.file is not None else ""
        sys.stdout.write(f"{decision.route}{sure}\t{decision.reason}{about}\n")
