"""`run.answer`: reading order as a projection of LangGraph's event streaming (beta in LangGraph 1.2)."""

from __future__ import annotations

from typing import Any, ClassVar

from langgraph.stream import StreamChannel, StreamTransformer

from sot_graph.streaming.answer_reader import AnswerReader, is_sot_event

__all__ = ["AnswerTransformer"]


class AnswerTransformer(StreamTransformer):
    """Adds `answer` to a run stream: the answer's text in reading order.

    `create_sot_graph` attaches it. LangGraph ignores the transformers of an embedded graph, so a parent names it:
    `parent.compile(transformers=[AnswerTransformer])`, or `astream_events(..., transformers=[AnswerTransformer])`.
    With several SoT subgraphs it follows the first that begins; use `astream_answer(..., node=...)` to choose.

    Example:
        >>> async def show(graph: Any) -> None:
        ...     async with await graph.astream_events({"question": "Why?"}, version="v3") as run:
        ...         async for text in run.answer:
        ...             print(text, end="", flush=True)
    """

    _native = True
    required_stream_modes: ClassVar[tuple[str, ...]] = ("custom",)

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self._channel: StreamChannel[str] = StreamChannel()
        self._reader = AnswerReader()
        self._source: tuple[str, ...] | None = None

    def init(self) -> dict[str, Any]:
        """The projection."""
        return {"answer": self._channel}

    def process(self, event: Any) -> bool:
        """Take an event of the run; it goes on to everybody else in any case."""
        params = event["params"]
        if event["method"] == "custom" and is_sot_event(params["data"]):
            namespace = tuple(params["namespace"])
            if self._source is None and namespace[: len(self.scope)] == self.scope:
                self._source = namespace
            if namespace == self._source and (text := self._reader.feed(params["data"])):
                self._channel.push(text)
        return True
