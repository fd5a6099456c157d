"""`sot-graph compare`: one question answered both ways, and what each way took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sot_graph.cli.exit_codes import running
from sot_graph.cli.live_board import FRAMES_PER_SECOND, Board, tail_of_text
from sot_graph.cli.model_session import opened_model
from sot_graph.cli.terminal import output_console

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

__all__ = ["Comparison", "Way", "figures"]

_SHARED_CPU = "On one CPU the points share the cores: what is gained with a hosted model does not show here."


@dataclass(slots=True)
class Way:
    """What one way to the answer took. Times in seconds from its start."""

    name: str
    text: str = ""
    first_word: float | None = None
    total: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0

    @property
    def seconds_per_token(self) -> float | None:
        """Seconds a written token: what is left of the gain when one answer is simply shorter."""
        return self.total / self.output_tokens if self.total is not None and self.output_tokens else None


@dataclass(slots=True)
class Comparison:
    """One question answered directly first, then by its skeleton, so that neither takes from the other."""

    question: str
    direct: Way = field(default_factory=lambda: Way("directly"))
    skeleton: Way = field(default_factory=lambda: Way("by its skeleton"))
    _board: Board | None = None

    def run(self, errors: Console, *, model: str | None, base_url: str | None) -> None:
        """Answer both ways and print.

        Raises:
            SotConfigError: Before anything was asked: bad usage.
            Exception: One of the ways failed, or could not be printed.
        """
        with opened_model(model, base_url, errors) as (chat, is_embedded):
            console = output_console()
            with running():
                asyncio.run(self._both(chat, console, errors))
        if not console.is_terminal:
            for way in (self.direct, self.skeleton):
                console.print(f"Answered {way.name}\n\n{way.text}\n", markup=False, soft_wrap=True)
        else:
            console.print(self._columns(console, whole=True))
        console.print(figures(self.direct, self.skeleton))
        if is_embedded:
            errors.print(_SHARED_CPU, style="dim")

    async def _both(self, chat: Runnable[Any, Any], console: Console, errors: Console) -> None:
        from sot_graph.graph import create_sot_graph
        from sot_graph.prompts.messages import direct_messages
        from sot_graph.prompts.templates import prompts_for

        graph = create_sot_graph(chat)
        prompts = prompts_for(chat)
        asked = direct_messages(prompts, question=self.question, history=[])
        live = Live(
            console=console,
            refresh_per_second=FRAMES_PER_SECOND,
            transient=True,
            get_renderable=lambda: self._columns(console),
        )
        with live if console.is_terminal else nullcontext():
            self._announce(self.direct, console, errors)
            await self._directly(chat, asked, prompts.direct_settings)
            self._announce(self.skeleton, console, errors)
            await self._by_skeleton(graph)

    @staticmethod
    def _announce(way: Way, console: Console, errors: Console) -> None:
        if not console.is_terminal:  # a terminal shows the answers themselves
            errors.print(f"Answering {way.name} ...", style="dim")

    async def _directly(self, chat: Runnable[Any, Any], messages: list[Any], settings: Mapping[str, Any]) -> None:
        from sot_graph.prompts.messages import clean_text

        started = time.monotonic()
        way = self.direct
        way.calls = 1
        async with aclosing(chat.astream(messages, **settings)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                text = clean_text(str(chunk.text))
                if text and way.first_word is None:
                    way.first_word = time.monotonic() - started
                way.text += text
                if chunk.usage_metadata:
                    way.input_tokens += chunk.usage_metadata["input_tokens"]
                    way.output_tokens += chunk.usage_metadata["output_tokens"]
        way.total = time.monotonic() - started

    async def _by_skeleton(self, graph: Any) -> None:
        started = time.monotonic()
        way, board = self.skeleton, Board()
        self._board = board
        result: Mapping[str, Any] = {}
        async with aclosing(graph.astream({"question": self.question}, stream_mode=["custom", "values"])) as parts:
            async for mode, data in parts:
                if mode == "values":
                    result = data
                    continue
                board.feed(data)
                if way.first_word is None and data["type"] in {
                    "sot.skeleton.delta",
                    "sot.skeleton",
                    "sot.answer.delta",
                }:
                    way.first_word = time.monotonic() - started
        way.total = time.monotonic() - started
        way.text = result["answer"]
        total = result["usage"]["total"]
        way.input_tokens, way.output_tokens = total["input_tokens"], total["output_tokens"]
        way.calls = total["calls"]

    def _columns(self, console: Console, *, whole: bool = False) -> Table:
        width = console.width // 2 - 4
        lines = max(4, console.height - 8)
        left: Any = Text(self.direct.text) if whole else tail_of_text(self.direct.text, width, lines)
        right: Any = Text(self.skeleton.text) if whole or self._board is None else self._board
        grid = Table.grid(expand=True)
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
        grid.add_row(
            Panel(left, title=self.direct.name, title_align="left"),
            Panel(Group(right), title=self.skeleton.name, title_align="left"),
        )
        return grid


def figures(direct: Way, skeleton: Way) -> Table:
    """The figures of both ways, and the ratio between them."""
    table = Table(title=None, box=None, pad_edge=False)
    table.add_column("")
    for heading in (direct.name, skeleton.name, "first / second"):
        table.add_column(heading, justify="right")

    def row(name: str, left: float | None, right: float | None, form: str) -> None:
        ratio = f"{left / right:.2f}" if left is not None and right else ""
        table.add_row(name, *(form.format(value) if value is not None else "-" for value in (left, right)), ratio)

    row("first word, s", direct.first_word, skeleton.first_word, "{:.2f}")
    row("whole answer, s", direct.total, skeleton.total, "{:.2f}")
    # A provider that reports no tokens reports none at all: an answer has some.
    row("tokens in", direct.input_tokens or None, skeleton.input_tokens or None, "{:,}")
    row("tokens out", direct.output_tokens or None, skeleton.output_tokens or None, "{:,}")
    row("model calls", direct.calls, skeleton.calls, "{}")
    row("seconds a token out", direct.seconds_per_token, skeleton.seconds_per_token, "{:.4f}")
    return table
