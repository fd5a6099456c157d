"""`NestedGraph`: a graph of `create_sot_graph` as another one's expander, for sections with sub-sections.

Each point is a question of its own to it: the prompt that the model would get. Its answer is the point's text, streamed
as any. Everything else is the nested graph's own: its heads, its points and how many, its router and its limits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sot_graph.concurrency.isolation import cancelled_once
from sot_graph.streaming.answer_reader import AnswerReader, is_sot_event
from sot_graph.writing.expander import ExpanderError, ExpanderInput

if TYPE_CHECKING:
    from langgraph.pregel.protocol import PregelProtocol


@dataclass(frozen=True, slots=True)
class NestedGraph:
    """An expander that has a graph answer each point."""

    graph: PregelProtocol[Any, Any, Any, Any]
    is_sot_graph: ClassVar[bool] = True
    """Its model calls hold the run's places. The point holds none meanwhile: it could be the last one."""

    async def __call__(self, given: ExpanderInput) -> AsyncIterator[Any]:
        """The text of a point, in reading order, and then what it cites.

        Raises:
            ExpanderError: A point of the nested answer is missing: this one isn't whole.
        """
        reader, result, rest, has_text = AnswerReader(), {}, "", False
        run: Any = self.graph.astream({"messages": given["messages"]}, stream_mode=["custom", "values"])
        async with aclosing(cancelled_once(run)) as parts:
            async for mode, part in parts:
                if mode == "values":
                    result = part
                elif is_sot_event(part):
                    text = reader.feed(part)
                    if reader.finished:
                        rest = text
                    elif text:
                        has_text = True
                        yield text
        sources = result["sources"]
        if not (has_text and sources):  # the last piece is its list of sources, and the outer answer lists them itself
            yield rest
        if sources:
            yield {"sources": sources}
        if cost := result["usage"].get("cost"):  # an expander's calls are counted as they are made, but not priced
            known = {name: cost[name] for name in ("total", "unpriced") if name in cost}
            yield {"cost": {**known, "expansion": cost["total"]} if "total" in cost else known}
        if failed := [point for point in result["expansions"] if point["status"] != "ok"]:
            message = f"its point {failed[0]['index']} is not whole: {failed[0]['error']}"
            raise ExpanderError(message)
