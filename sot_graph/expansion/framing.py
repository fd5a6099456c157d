"""Writing the introduction or the conclusion; what became of it is in its status."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sot_graph.expansion.cleaning import TextCleaner
from sot_graph.expansion.replying import TextWriter
from sot_graph.expansion.telling import Teller
from sot_graph.expansion.timing import write_in_time
from sot_graph.models import ModelCall
from sot_graph.types import FramePart

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from sot_graph.prompts.templates import SotPrompts
    from sot_graph.types import FramePartName

__all__ = ["FrameWriter"]

logger = logging.getLogger("sot_graph")


class FrameWriter:
    """Writes one part of the frame, and never raises for what a model did.

    Args:
        call: How to call the model.
        prompts: For what to do with a text that was cut off.
        name: The part.
        messages: The prompt.
    """

    def __init__(
        self, call: ModelCall, prompts: SotPrompts, name: FramePartName, messages: Sequence[BaseMessage]
    ) -> None:
        self._call = call
        self._prompts = prompts
        self._name: FramePartName = name
        self._teller = Teller(
            call.task,
            start=lambda attempt: {"type": "sot.frame.start", "part": name, "attempt": attempt},
            delta=lambda text: {"type": "sot.frame.delta", "part": name, "text": text},
        )
        self._writer = TextWriter(
            call, messages, make_cleaner=self._cleaner, send=self._teller.send, on_attempt=self._teller.begin
        )

    @property
    def first_text_at(self) -> float | None:
        """When the first text was there, in seconds from the run's start; `None` where nothing was streamed."""
        return self._teller.first_text_at

    async def write(self) -> FramePart:
        """Write it within `point_timeout` and what is left until the deadline."""
        status, error = await write_in_time(self._writer, self._call)
        text = self._writer.text
        if status != "ok":
            becomes = "breaks off" if text else "is left out"
            logger.warning("The %s %s: %s", self._name, becomes, error)
        part = FramePart(text=text, status=status, error=error)
        if self._writer.truncated:
            part["truncated"] = True
        return part

    def _cleaner(self) -> TextCleaner:
        # The part's name as its title: models like to put it before the text.
        return TextCleaner(title=self._name.capitalize(), trim_to_sentence=self._prompts.trim_to_sentence)
