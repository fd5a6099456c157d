"""`SharedPrompt`: what the prompts of the skeleton and of every point begin with, to the letter.

A provider's cache serves it to the points for a tenth of its price, as long as nothing else stands before it, as a
schema or a tool would. Where the provider wants to be told how far that part goes, it is marked in every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.messages import BaseMessage, HumanMessage

from sot_graph.llm.structured_output import StructuredMode, pick_mode
from sot_graph.prompts.messages import skeleton_messages

if TYPE_CHECKING:
    from sot_graph.run import Inquiry, RunContext


def skeleton_call_messages(
    run: RunContext, inquiry: Inquiry, skeleton_format: str, *, recalls: bool = False
) -> list[BaseMessage]:
    """The messages of the skeleton's call. The points' prompts begin with the same, but for a revision."""
    options = run.options
    return skeleton_messages(
        run.graph.prompts,
        question=inquiry.question,
        history=inquiry.history,
        skeleton_format=skeleton_format,
        min_points=options.min_points,
        max_points=options.max_points,
        title_length=options.title_length,
        may_depend=inquiry.may_depend,
        recalls=recalls,
        documents=inquiry.documents,
    )


class SharedPrompt:
    """The messages of one run's skeleton call.

    Args:
        run: The node's execution.
        inquiry: What the run is to answer.
    """

    def __init__(self, run: RunContext, inquiry: Inquiry) -> None:
        self._run = run
        self._inquiry = inquiry
        self.recalls = run.options.point_context == "question" and bool(inquiry.history)
        """Whether a title may say what its point needs of the conversation, which is written without it."""
        self._made: dict[str, list[BaseMessage]] = {}

    def messages(self, skeleton_format: str) -> list[BaseMessage]:
        """The messages that ask for a skeleton in this format."""
        if skeleton_format not in self._made:
            self._made[skeleton_format] = skeleton_call_messages(
                self._run, self._inquiry, skeleton_format, recalls=self.recalls
            )
        return self._made[skeleton_format]

    @property
    def mode(self) -> StructuredMode:
        """How JSON is asked for: in words alone where that lets a cache serve the points, or no schema is taken."""
        mode, graph = self._run.options.structured_mode, self._run.graph
        if mode != "auto" or "JSON" not in graph.prompts.skeleton:
            return mode
        is_refused = pick_mode(graph.skeleton_model.model, mode) in graph.skeleton_model.refused_modes
        return "prompt" if is_refused or self._is_kept("structured") else mode

    def mark(self, skeleton_format: str, mode: StructuredMode) -> None:
        """Have all further calls of this run mark the end of these messages, where that is worth it."""
        turn = None
        has_schema = skeleton_format == "structured" and mode != "prompt"
        if self._run.options.prompt_cache == "auto" and not has_schema and self._is_kept(skeleton_format):
            users = [one.content for one in self.messages(skeleton_format) if isinstance(one, HumanMessage)]
            turn = users[-1]
        self._run.invocation.shared_turn = turn

    def _is_kept(self, skeleton_format: str) -> bool:
        """Whether a provider's cache keeps these messages for the points' calls, which begin with them."""
        graph = self._run.graph
        if graph.model is not graph.skeleton_model or graph.expander is not None:
            return False
        if self._run.options.point_context == "question":
            return False
        return graph.prompts.expansion_layout == "shared" and graph.model.prompt_cache.keeps(
            self.messages(skeleton_format)
        )
