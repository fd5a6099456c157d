"""`sot-graph ask`: one question, from the command line to the screen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console

from sot_graph.cli.consoles import output_console
from sot_graph.cli.failing import running
from sot_graph.cli.kinds import DependentKind, DispatchKind, FrameKind, RouterKind, SkeletonFormatKind
from sot_graph.cli.reporting import check_report, write_report
from sot_graph.cli.reviewing import review_on_terminal
from sot_graph.cli.routing import make_router
from sot_graph.cli.screen import Screen, screen_for
from sot_graph.cli.streams import print_json
from sot_graph.cli.waiting import opened_model, waiting
from sot_graph.options import SotOptions

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

__all__ = ["Asking"]

_KEYS = (
    "answer",
    "route",
    "route_reason",
    "skeleton",
    "expansions",
    "sources",
    "finish_reason",
    "frame",
    "usage",
    "timings",
    "messages",
)
_SAME_NAMES = (
    "max_points",
    "point_length",
    "dependent",
    "dispatch",
    "skeleton_format",
    "deadline",
    "point_timeout",
    "max_concurrency",
)
"""Options that are called as in `SotOptions`, and left to it where they are not given."""
_THREAD = {"configurable": {"thread_id": "ask"}}


@dataclass(frozen=True, kw_only=True)
class Asking:
    """One run of the command."""

    asks_model: ClassVar[bool] = True
    question: str
    model: str | None = None
    base_url: str | None = None
    max_points: int | None = None
    point_length: str | None = None
    frame: FrameKind = FrameKind.NONE
    router: RouterKind | None = None
    dependent: DependentKind | None = None
    review: bool = False
    dispatch: DispatchKind | None = None
    skeleton_format: SkeletonFormatKind | None = None
    deadline: float | None = None
    point_timeout: float | None = None
    max_concurrency: int | None = None
    as_json: bool = False
    stream: bool = True
    report: Path | None = None

    def run(self, errors: Console) -> None:
        """Ask and print.

        Raises:
            SotConfigError: Before anything was asked: bad usage.
            Exception: The run failed, or its answer could not be printed.
        """
        options = self.options
        if self.report is not None:
            check_report(self.report)
        with opened_model(self.model, self.base_url, errors) as model, running():
            result = self._answer(model.chat, options, errors)
        if self.report is not None:
            write_report(self.report, result, local=model.is_embedded)
            errors.print(f"Wrote {self.report}.", style="dim", markup=False)

    @property
    def options(self) -> SotOptions:
        """What the command line asks for; of what it doesn't name, the library's defaults.

        Raises:
            SotConfigError: A value is out of its bounds.
        """
        changes: dict[str, Any] = {
            "review_skeleton": self.review,
            # Where time may run out, what has come by then is kept, shown or not.
            "stream": "auto" if self.stream or self.deadline or self.point_timeout else False,
            "frame": str(self.frame),
        }
        for name in _SAME_NAMES:
            value = getattr(self, name)
            if value is not None:
                changes[name] = str(value) if isinstance(value, StrEnum) else value
        if self.max_points is not None:
            changes["min_points"] = max(1, min(SotOptions().min_points, self.max_points))
        return SotOptions(**changes)

    def _answer(self, chat: Runnable[Any, Any], options: SotOptions, errors: Console) -> Mapping[str, Any]:
        from langgraph.checkpoint.memory import InMemorySaver
        from langgraph.types import Command

        from sot_graph.graph import create_sot_graph

        graph = create_sot_graph(
            chat,
            options=options,
            router=None if self.router is None else make_router(self.router, chat),
            checkpointer=InMemorySaver() if self.review else None,
        )
        given: Any = {"question": self.question}
        while True:
            screen = screen_for(output_console(), stream=self.stream, silent=self.as_json)
            # JSON comes in one piece at the end: until then there is nothing else to look at.
            clock = waiting(errors, "Answering", in_pipe=False) if self.as_json else nullcontext()
            with clock:
                result = asyncio.run(self._watch(graph, given, screen))
            interrupts = result.get("__interrupt__")
            if not interrupts:
                break
            verdict = review_on_terminal(
                interrupts[0].value["points"],
                read=lambda prompt: _read_line(prompt, errors),
                show=lambda text: errors.print(text, markup=False),
            )
            given = Command(resume=verdict)
        if self.as_json:
            from langchain_core.messages import messages_to_dict

            plain = {**result, "messages": messages_to_dict(result["messages"])}
            print_json({key: plain[key] for key in _KEYS})
        screen.finish(result)
        return result

    @staticmethod
    async def _watch(graph: Any, given: Any, screen: Screen) -> Mapping[str, Any]:
        result: Mapping[str, Any] = {}
        with screen.watch():
            async with aclosing(graph.astream(given, _THREAD, stream_mode=["custom", "values"])) as parts:
                async for mode, data in parts:
                    if mode == "custom":
                        screen.feed(data)
                    else:
                        result = {**result, **data}
        return result


def _read_line(prompt: str, errors: Console) -> str:
    errors.print(prompt, end="")
    try:
        return input()
    except (EOFError, KeyboardInterrupt):
        errors.print()  # what is said next is to begin a line
        raise
