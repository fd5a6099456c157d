"""Writing one point; what became of it is in the expansion's status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from sot_graph.expansion.cleaning import TextCleaner
from sot_graph.expansion.expanding import ExpanderWriter
from sot_graph.expansion.replying import TextWriter
from sot_graph.expansion.telling import Teller
from sot_graph.expansion.timing import write_in_time
from sot_graph.models import ModelCall, Prompt
from sot_graph.prompts.messages import expansion_prefill
from sot_graph.types import Expansion

if TYPE_CHECKING:
    from sot_graph.expansion.expander import Expander, ExpanderInput
    from sot_graph.prompts.templates import SotPrompts
    from sot_graph.types import SkeletonPoint

__all__ = ["PointWriter"]

logger = logging.getLogger("sot_graph")


class _Told(TypedDict):
    """What any writer tells while it writes."""

    make_cleaner: Callable[[], TextCleaner]
    send: Callable[[str], None]
    on_attempt: Callable[[int], None]


class PointWriter:
    """Writes one point, and never raises for what a model did.

    Args:
        call: How to call the model.
        prompts: For the prefill, and for what to do with a text that was cut off.
        point: The point.
        messages: The prompt, or what makes it.
        expander: Writes it in the model's place.
        given: What the expander gets.
    """

    def __init__(
        self,
        call: ModelCall,
        prompts: SotPrompts,
        point: SkeletonPoint,
        messages: Prompt,
        *,
        expander: Expander | None = None,
        given: ExpanderInput | None = None,
    ) -> None:
        self._call = call
        self._prompts = prompts
        self._point = point
        index, title = point["index"], point["title"]
        self._teller = Teller(
            call.task,
            start=lambda attempt: {"type": "sot.point.start", "index": index, "title": title, "attempt": attempt},
            delta=lambda text: {"type": "sot.point.delta", "index": index, "text": text},
        )
        told: _Told = {
            "make_cleaner": self._cleaner,
            "send": self._teller.send,
            "on_attempt": self._teller.begin,
        }
        self._writer: TextWriter | ExpanderWriter
        if expander is None or given is None:
            self._writer = TextWriter(call, messages, **told)
        else:
            self._writer = ExpanderWriter(expander, given, call, **told)

    @property
    def first_text_at(self) -> float | None:
        """When the first text was there, in seconds from the run's start; `None` where nothing was streamed."""
        return self._teller.first_text_at

    async def write(self) -> Expansion:
        """Write it within `point_timeout` and what is left until the deadline."""
        status, error = await write_in_time(self._writer, self._call)
        if status != "ok":
            what = "failed" if status == "failed" else "is not whole"
            logger.warning("Point %d %s: %s", self._point["index"], what, error)
        expansion = Expansion(
            index=self._point["index"],
            title=self._point["title"],
            text=self._writer.text,
            status=status,
            error=error,
        )
        if self._writer.truncated:
            expansion["truncated"] = True
        if self._writer.sources:
            expansion["sources"] = list(self._writer.sources)
        return expansion

    def _cleaner(self) -> TextCleaner:
        return TextCleaner(
            self._point["index"],
            self._point["title"],
            prefill=expansion_prefill(self._prompts, self._point),
            trim_to_sentence=self._prompts.trim_to_sentence,
        )
