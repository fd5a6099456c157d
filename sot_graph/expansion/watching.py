"""What an expander does while it writes: its model calls are counted, its tool calls told to those who listen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatGeneration, LLMResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sot_graph.runs import Task

__all__ = ["ExpanderWatcher"]

_LONGEST_INPUT = 2000


class ExpanderWatcher(BaseCallbackHandler):
    """Follows the runs below one point's expander.

    Args:
        task: The point's task.
        index: The point's index.
        clean: Cleans an error in place.
    """

    run_inline = True
    """In the order in which things happen, not in threads beside each other."""

    def __init__(self, task: Task, index: int, clean: Callable[[BaseException], None]) -> None:
        self._task = task
        self._index = index
        self._clean = clean
        self._tools: dict[UUID, tuple[str, str]] = {}
        self._is_left = False

    def leave(self) -> None:
        """The point is done; what its expander may still do, in a thread or against its cancellation, isn't told."""
        self._is_left = True

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[Any]], **kwargs: Any) -> None:
        """Count a call."""
        self._task.meter.begin_call("expansion")

    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], **kwargs: Any) -> None:
        """Count a call."""
        self._task.meter.begin_call("expansion")

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        """Count its tokens."""
        for generations in response.generations:
            for generation in generations[:1]:
                if isinstance(generation, ChatGeneration):
                    self._task.meter.add_tokens("expansion", getattr(generation.message, "usage_metadata", None))

    def on_tool_start(self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell of a tool's call."""
        name = str(kwargs.get("name") or (serialized or {}).get("name") or "tool")
        self._tools[run_id] = (name, input_str[:_LONGEST_INPUT])
        self._tell(run_id, "start")

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell of its end."""
        self._tell(run_id, "error" if getattr(output, "status", None) == "error" else "end")

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell of its failure."""
        self._clean(error)
        self._tell(run_id, "error")

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        """Clean it, before a tracer gets it."""
        self._clean(error)

    on_chain_error = on_llm_error
    on_retriever_error = on_llm_error

    def _tell(self, run_id: UUID, state: Literal["start", "end", "error"]) -> None:
        if self._is_left:
            return
        name, given = self._tools.get(run_id, ("tool", ""))
        self._task.emit(
            {
                "type": "sot.point.tool",
                "index": self._index,
                "call": str(run_id),
                "name": name,
                "input": given,
                "state": state,
            }
        )
