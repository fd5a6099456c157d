"""What the command shows: live on a terminal, as plain text in a pipe, nothing where JSON is wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from sot_graph.cli.live import Board

if TYPE_CHECKING:
    from sot_graph.types import SkeletonPoint

__all__ = ["Screen", "screen_for", "skeleton_text"]

_FRAMES_PER_SECOND = 12


class Screen(Protocol):
    """Shows a run while it goes on, and its answer at the end."""

    def watch(self) -> Any:
        """A context in which events are shown."""

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take an event of the run."""

    def finish(self, result: Mapping[str, Any]) -> None:
        """Show the answer, as far as it isn't there yet."""


def screen_for(console: Console, *, stream: bool, silent: bool) -> Screen:
    """The screen that fits where standard output goes."""
    if silent:
        return _Silence()
    if not console.is_terminal:
        return _Plain(stream=stream)
    if not stream or os.environ.get("TERM") == "dumb":
        return _AtTheEnd(console)
    return _LiveBoard(console)


def skeleton_text(points: list[SkeletonPoint]) -> str:
    """A skeleton as numbered lines."""
    return "\n".join(f"{point['index']}. {point['title']}" for point in points)


class _Silence:
    @contextmanager
    def watch(self) -> Iterator[None]:
        yield

    def feed(self, event: Mapping[str, Any]) -> None:
        pass

    def finish(self, result: Mapping[str, Any]) -> None:
        pass


class _Plain(_Silence):
    """For a pipe: the skeleton, then the answer in reading order as it is written."""

    def __init__(self, *, stream: bool) -> None:
        # Here, where the model is loaded: it imports seconds of LangGraph, before which something is to be seen.
        from sot_graph.streaming.answer_reader import AnswerReader

        self._stream = stream
        self._reader = AnswerReader()
        self._has_begun = False

    def feed(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "sot.skeleton" and not self._has_begun:  # pipelined, it is whole when points are there
            self._write(f"Skeleton\n\n{skeleton_text(event['points'])}\n\n")
        if self._stream and (text := self._reader.feed(event)):
            self._begin()
            self._write(text)

    def finish(self, result: Mapping[str, Any]) -> None:
        if not self._has_begun:
            self._begin()
            self._write(result["answer"])
        self._write("\n")

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._write("Answer\n\n")

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class _AtTheEnd(_Silence):
    """For a terminal that is to stay still: the skeleton when it is there, then the answer, as Markdown."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def feed(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "sot.skeleton":
            self._show("Skeleton", skeleton_text(event["points"]))

    def finish(self, result: Mapping[str, Any]) -> None:
        self._show("Answer", result["answer"])

    def _show(self, heading: str, text: str) -> None:
        self._console.rule(heading, align="left", style="dim")
        self._console.print(Markdown(text))


class _LiveBoard(_AtTheEnd):
    """For a terminal: the points fill in side by side; at the end the answer takes their place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._board = Board()

    @contextmanager
    def watch(self) -> Iterator[None]:
        with Live(self._board, console=self._console, refresh_per_second=_FRAMES_PER_SECOND, transient=True):
            yield

    def feed(self, event: Mapping[str, Any]) -> None:
        self._board.feed(event)

    def finish(self, result: Mapping[str, Any]) -> None:
        if result["skeleton"]:
            self._show("Skeleton", skeleton_text(result["skeleton"]))
        self._show("Answer", result["answer"])
        self._board.finish(result)
        self._console.print(self._board.summary, style="dim", markup=False)
