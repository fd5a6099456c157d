"""What the command shows of a run: live on a terminal, as plain text in a pipe, nothing where JSON is wanted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from sot_graph.cli.process import plain_text
from sot_graph.types import FRAME_PART_NAMES, SkeletonPoint

FRAMES_PER_SECOND = 12

_NARROWEST_PANEL = 36
_MOST_COLUMNS = 4
_SUMMARY_LINES = 3
_MOST_LINES = 6
_BORDERS = 2
_CHARS_PER_TOKEN = 4
_LOOKS = {  # state: (mark, style)
    "waiting": ("·", "dim"),
    "writing": ("✎", "cyan"),
    "done": ("✓", "green"),
    "cut off": ("✓", "yellow"),
    "late": ("⏱", "yellow"),
    "failed": ("✗", "red"),
}
_ENDS = {"ok": "done", "timed_out": "late", "failed": "failed"}


@dataclass(slots=True)
class _Section:
    """A point, or a text around the points, as the board shows it."""

    name: str
    state: str = "waiting"
    text: str = ""
    attempt: int = 1

    def feed(self, event: Mapping[str, Any]) -> None:
        step = event["type"].rpartition(".")[2]
        if step == "start":
            self.state, self.attempt = "writing", event["attempt"]
        elif step == "delta":
            self.state = "writing"
            self.text += plain_text(event["text"])
        elif step == "end":
            self.state = "cut off" if event.get("truncated") else _ENDS[event["status"]]

    @property
    def heading(self) -> Text:
        mark, style = _LOOKS[self.state]
        return Text(f"{mark} {self.name} ", style=style, overflow="ellipsis", no_wrap=True)

    @property
    def told_state(self) -> str:
        return self.state if self.attempt == 1 or self.state != "writing" else f"writing, try {self.attempt}"

    def as_panel(self, width: int, lines: int) -> Panel:
        return Panel(
            tail_of_text(self.text, width, lines),
            title=self.heading,
            title_align="left",
            subtitle=Text(self.told_state, style="dim"),
            subtitle_align="right",
            border_style=_LOOKS[self.state][1],
            height=lines + 2,
        )


@dataclass(slots=True)
class Board:
    """Takes a run's events, and draws how far its points are. A rich renderable."""

    clock: Callable[[], float] = time.monotonic
    points: dict[int, _Section] = field(default_factory=dict)
    frame: dict[str, _Section] = field(default_factory=dict)
    """What stands around the points, as soon as it is begun."""
    direct: str | None = None
    """The text of an answer that is written without a skeleton."""
    _started: float = field(init=False)
    _first_text_at: float | None = None
    _ended_at: float | None = None
    _tokens: int | None = None
    """How many tokens the provider says that the texts have, once they are written."""

    def __post_init__(self) -> None:
        self._started = self.clock()

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take an event of the run."""
        kind = event["type"]
        if kind.endswith(".delta") and "text" in event and self._first_text_at is None:
            self._first_text_at = self.clock()
        if kind in ("sot.skeleton", "sot.skeleton.delta"):
            for point in event["points"] if kind == "sot.skeleton" else [event["point"]]:
                self.points.setdefault(point["index"], _Section(f"{point['index']}. {point['title']}"))
            for part in ("opening", "introduction"):
                if event.get(part):
                    self.frame.setdefault(part, _Section(part.capitalize()))
        elif kind == "sot.answer.delta" or (kind == "sot.route" and event["route"] == "direct"):
            self.direct = (self.direct or "") + plain_text(event.get("text", ""))
        elif kind == "sot.answer":
            self._ended_at = self.clock()
        elif kind.startswith("sot.point."):
            name = f"{event['index']}. {event.get('title', '')}"
            self.points.setdefault(event["index"], _Section(name)).feed(event)
        elif kind.startswith("sot.frame."):
            self.frame.setdefault(event["part"], _Section(event["part"].capitalize())).feed(event)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Take what the run returned: its tokens are counted, where the provider reports them."""
        texts = [*result["expansions"], *result["frame"].values()] or [{"status": "ok"}]
        stages = [result["usage"][stage] for stage in ("expansion", "frame", "direct")]
        tokens, calls = (sum(stage[key] for stage in stages) for key in ("output_tokens", "calls"))
        if any(stage.get("estimated") for stage in stages):
            return
        # More calls than texts: one broke off. It reports nothing, so what it wrote is not among the tokens.
        if tokens and calls == len(texts) and all(text["status"] == "ok" for text in texts):
            self._tokens = tokens

    @property
    def _sections(self) -> list[_Section]:
        """The sections in the order of the answer."""
        opening, introduction, conclusion = map(self.frame.get, FRAME_PART_NAMES)
        points = list(self.points.values())  # in one step: events add to them while another thread draws
        return [text for text in (opening, introduction, *points, conclusion) if text]

    @property
    def summary(self) -> str:
        """The clock, how many points are done, and how fast texts are written: "about", where that is an estimate."""
        now = self.clock() if self._ended_at is None else self._ended_at
        parts = [f"{now - self._started:5.1f} s"]
        if self.points:
            done = sum(point.state not in ("waiting", "writing") for point in list(self.points.values()))
            parts.append(f"{done} of {len(self.points)} points")
        elif self.direct is None:
            parts.append("drafting the skeleton")
        if self._first_text_at is not None and now > self._first_text_at:
            chars = sum(len(text.text) for text in self._sections) + len(self.direct or "")
            tokens = chars / _CHARS_PER_TOKEN if self._tokens is None else self._tokens
            about = "about " if self._tokens is None else ""
            parts.append(f"{about}{tokens / (now - self._first_text_at):.0f} tokens/s")
        return "  ".join(parts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = (options.height or console.height) - _SUMMARY_LINES
        if self.direct is None:
            yield from self._drawn_sections(options.max_width, room)
        else:
            yield tail_of_text(self.direct, options.max_width, max(3, room))
        yield Text(self.summary, style="dim")

    @property
    def finished(self) -> str:
        """The texts that are whole, as Markdown, or what there is of a direct answer."""
        if self.direct is not None:
            return self.direct
        return "\n\n".join(f"**{text.name}**\n\n{text.text}" for text in self._sections if text.state == "done")

    def _drawn_sections(self, width: int, height: int) -> Iterator[RenderableType]:
        columns = max(1, min(_MOST_COLUMNS, width // _NARROWEST_PANEL, len(self._sections) or 1))
        rows = -(-len(self._sections) // columns) or 1
        lines = min(_MOST_LINES, height // rows - _BORDERS)
        if lines < 1:  # a line for each section, and what room is left for the text that is read now
            yield from (each.heading + Text(f"({each.told_state})", style="dim") for each in self._sections)
            lines = min(_MOST_LINES, height - len(self._sections) - _BORDERS)
            unfinished = (section for section in self._sections if section.state in ("waiting", "writing"))
            if lines > 0 and (being_read := next(unfinished, None)) is not None and being_read.text:
                yield being_read.as_panel(width - 4, lines)
            return
        grid = Table.grid(*(Column(ratio=1) for _ in range(columns)), expand=True)
        cells = [section.as_panel(width // columns - 4, lines) for section in self._sections]
        for start in range(0, len(cells), columns):
            grid.add_row(*cells[start : start + columns])
        yield grid


async def follow(graph: Any, given: Any, config: Any, feed: Callable[[Mapping[str, Any]], None]) -> Mapping[str, Any]:
    """Run a graph to its end or its interrupt, hand on its events, and return its result."""
    result: Mapping[str, Any] = {}
    async with aclosing(graph.astream(given, config, stream_mode=["custom", "values"])) as parts:
        async for mode, data in parts:
            if mode == "custom":
                feed(data)
            else:
                result = {**result, **data}
    return result


def tail_of_text(text: str, width: int, lines: int) -> Text:
    """The last lines of a text as a terminal of this width breaks it."""
    console = Console(width=max(width, 8), color_system=None)
    wrapped = Text(text).wrap(console, max(width, 8))
    return Text("\n").join(wrapped[-lines:])


def screen_for(console: Console, *, stream: bool, silent: bool, show_skeleton: bool | None = None) -> Screen:
    """The screen that fits where standard output goes.

    `show_skeleton` has the skeleton printed, too; `None`: on a terminal, where somebody reads, and not into a pipe.
    """
    if silent:
        return Screen()
    if not console.is_terminal:
        return _Pipe(stream=stream, show_skeleton=bool(show_skeleton))
    return _Terminal(
        console, live=stream and os.environ.get("TERM") != "dumb", show_skeleton=show_skeleton is not False
    )


class Screen:
    """Shows a run while it goes on, and its answer at the end. This one shows nothing."""

    def watch(self) -> AbstractContextManager[object]:
        """A context in which events are shown."""
        return nullcontext()

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take an event of the run."""

    def finish(self, result: Mapping[str, Any]) -> None:
        """Show the answer, as far as it isn't there yet."""


class _Pipe(Screen):
    """The answer in reading order as it is written; before it, where that is wanted, the skeleton."""

    def __init__(self, *, stream: bool, show_skeleton: bool) -> None:
        # Imported only now: LangGraph takes seconds, and "Loading the model ..." is to be on the screen before.
        from sot_graph.streaming import AnswerReader

        self._stream = stream
        self._show_skeleton = show_skeleton
        self._reader = AnswerReader()
        self._held: list[str] | None = [] if show_skeleton else None
        """What of the answer waits for the skeleton: an opening, or what is pipelined, may be written before that."""
        self._has_begun = False

    def feed(self, event: Mapping[str, Any]) -> None:
        text = self._reader.feed(event) if self._stream else ""
        if self._held is not None and event["type"] in {"sot.skeleton", "sot.answer.delta"}:
            if event["type"] == "sot.skeleton":
                self._write(f"Skeleton\n\n{_skeleton_text(event['points'])}\n\n")
            text, self._held = "".join(self._held) + text, None
        if self._held is not None:
            self._held.append(text)
        elif text:
            self._write_answer(text)

    def finish(self, result: Mapping[str, Any]) -> None:
        if not self._has_begun:
            self._write_answer(result["answer"])
        self._write("\n")

    def _write_answer(self, text: str) -> None:
        self._write(text if self._has_begun or not self._show_skeleton else f"Answer\n\n{text}")
        self._has_begun = True

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(plain_text(text))
        sys.stdout.flush()


class _Terminal(Screen):
    """The points fill in side by side, and at the end the answer takes their place, as Markdown.

    Where it isn't `live`, no board moves: the skeleton is printed when it is there, and then the answer.
    """

    def __init__(self, console: Console, *, live: bool, show_skeleton: bool) -> None:
        self._console = console
        self._show_skeleton = show_skeleton
        self._board = Board() if live else None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """A context in which the board moves. Who leaves by Ctrl-C keeps the points that are whole on the screen."""
        if self._board is None:
            yield
            return
        try:
            with Live(self._board, console=self._console, refresh_per_second=FRAMES_PER_SECOND, transient=True):
                yield
        except KeyboardInterrupt:
            if finished := self._board.finished:
                self._show("The answer, as far as it goes", finished)
            raise

    def feed(self, event: Mapping[str, Any]) -> None:
        if self._board is not None:
            self._board.feed(event)
        elif self._show_skeleton and event["type"] == "sot.skeleton":
            self._show("Skeleton", _skeleton_text(event["points"]))

    def finish(self, result: Mapping[str, Any]) -> None:
        if self._show_skeleton and self._board is not None and result["skeleton"]:
            self._show("Skeleton", _skeleton_text(result["skeleton"]))
        self._show("Answer", result["answer"])
        if self._board is not None:
            self._board.finish(result)
            self._console.print(self._board.summary, style="dim", markup=False)

    def _show(self, heading: str, text: str) -> None:
        self._console.rule(heading, align="left", style="dim")
        self._console.print(Markdown(plain_text(text)))


def _skeleton_text(points: list[SkeletonPoint]) -> str:
    return "\n".join(f"{point['index']}. {point['title']}" for point in points)
