"""`sot-graph compare`: one question answered both ways, and what each way took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from sot_graph.cli.live_board import FRAMES_PER_SECOND, Board, follow, tail_of_text
from sot_graph.cli.process import error_console, opened_model, output_console, plain_text

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.runnables import Runnable

_SHARED_CPU = "On one CPU the points share the cores: what is gained with a hosted model does not show here."


@dataclass(slots=True)
class WayFigures:
    """What one way to the answer took. Times in seconds from its start."""

    name: str
    text: str = ""
    first_word: float | None = None
    total: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    estimated: bool = False
    dollars: float | None = None
    """What it cost; `None`: not known."""
    started: float = 0.0

    def note_word(self) -> None:
        """Something of the answer can be read."""
        if self.first_word is None:
            self.first_word = time.monotonic() - self.started

    @property
    def seconds_per_token(self) -> float | None:
        """Seconds a written token: what is left of the gain when one answer is simply shorter."""
        return self.total / self.output_tokens if self.total is not None and self.output_tokens else None


class Comparison:
    """One question answered directly first, then by its skeleton, so that neither takes from the other."""

    def __init__(self, question: str) -> None:
        self._question = question
        self._direct, self._skeleton = WayFigures("directly"), WayFigures("by its skeleton")
        self._board: Board | None = None
        self._console, self._errors = output_console(), error_console()

    def run(self, model: str | None, base_url: str | None) -> None:
        """Answer both ways and print."""
        with opened_model(model, base_url) as (chat, is_embedded):
            asyncio.run(self._both(chat))
        if self._console.is_terminal:
            self._console.print(self._columns(whole=True))
        else:
            for way in (self._direct, self._skeleton):
                self._console.print(f"Answered {way.name}\n\n{plain_text(way.text)}\n", markup=False, soft_wrap=True)
        self._console.print(figures(self._direct, self._skeleton))
        if is_embedded:
            self._errors.print(_SHARED_CPU, style="dim")

    async def _both(self, chat: Runnable[Any, Any]) -> None:
        from sot_graph.graph import create_sot_graph

        graph = create_sot_graph(chat)
        live = Live(
            console=self._console,
            refresh_per_second=FRAMES_PER_SECOND,
            transient=True,
            get_renderable=self._columns,
        )
        with live if self._console.is_terminal else nullcontext():
            with self._timed(self._direct):
                await self._answer_directly(chat)
            with self._timed(self._skeleton):
                await self._answer_by_skeleton(graph)

    @contextmanager
    def _timed(self, way: WayFigures) -> Iterator[None]:
        if not self._console.is_terminal:  # a terminal shows the answers themselves
            self._errors.print(f"Answering {way.name} ...", style="dim")
        way.started = time.monotonic()
        yield
        way.total = time.monotonic() - way.started

    async def _answer_directly(self, chat: Runnable[Any, Any]) -> None:
        from sot_graph.llm.loop_bound_model import innermost_model
        from sot_graph.prices import ModelPrice
        from sot_graph.prompts.messages import clean_text, direct_messages
        from sot_graph.prompts.templates import prompts_for
        from sot_graph.usage import merged_usage

        way, prompts = self._direct, prompts_for(chat)
        way.calls = 1
        price = ModelPrice.of(innermost_model(chat))
        messages = direct_messages(prompts, question=self._question, history=[])
        told: UsageMetadata | None = None
        chunks: Any = chat.astream(messages, **prompts.direct_settings)
        async with aclosing(chunks):
            async for chunk in chunks:
                if text := clean_text(str(chunk.text)):
                    way.note_word()
                way.text += text
                told = told if not chunk.usage_metadata else merged_usage(told, chunk.usage_metadata)
        if told is not None:
            way.input_tokens, way.output_tokens = told["input_tokens"], told["output_tokens"]
            way.dollars = None if price is None else price.dollars(told)

    async def _answer_by_skeleton(self, graph: Any) -> None:
        way, board = self._skeleton, Board()
        self._board = board

        def feed(event: Mapping[str, Any]) -> None:
            board.feed(event)
            if event["type"] in {"sot.skeleton.delta", "sot.skeleton", "sot.answer.delta"}:
                way.note_word()

        result = await follow(graph, {"question": self._question}, None, feed)
        total = result["usage"]["total"]
        way.text, way.calls = result["answer"], total["calls"]
        way.input_tokens, way.output_tokens = total["input_tokens"], total["output_tokens"]
        way.estimated = total.get("estimated", False)
        cost = result["usage"].get("cost", {})
        way.dollars = None if cost.get("unpriced") else cost.get("total")

    def _columns(self, *, whole: bool = False) -> Table:
        direct, skeleton = Text(plain_text(self._direct.text)), Text(plain_text(self._skeleton.text))
        if not whole:
            direct = tail_of_text(direct.plain, self._console.width // 2 - 4, max(4, self._console.height - 8))
        grid = Table.grid(Column(ratio=1), Column(ratio=1), expand=True)
        grid.add_row(
            Panel(direct, title=self._direct.name, title_align="left"),
            Panel(skeleton if whole else self._board or skeleton, title=self._skeleton.name, title_align="left"),
        )
        return grid


def figures(direct: WayFigures, skeleton: WayFigures) -> Table:
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
    about = ", about" if skeleton.estimated else ""
    row(f"tokens in{about}", direct.input_tokens or None, skeleton.input_tokens or None, "{:,}")
    row(f"tokens out{about}", direct.output_tokens or None, skeleton.output_tokens or None, "{:,}")
    if find_spec("genai_prices") is not None:  # a model without a known price has a dash
        row("dollars", direct.dollars, skeleton.dollars, "{:.4f}")
    row("model calls", direct.calls, skeleton.calls, "{}")
    row("seconds a token out", direct.seconds_per_token, skeleton.seconds_per_token, "{:.4f}")
    return table
