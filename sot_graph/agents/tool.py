"""`create_sot_tool`: the graph as a tool, for agents that hand over the writing of long answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import StructuredTool, ToolException
from langgraph.errors import GraphBubbleUp
from langgraph.pregel import Pregel
from pydantic import BaseModel, Field

from sot_graph.errors import SotConfigError, SotError
from sot_graph.llm.provider_errors import explain
from sot_graph.retrieval.retriever import Retriever, check_retriever
from sot_graph.run import RETRIEVER

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

logger = logging.getLogger("sot_graph")

_DESCRIPTION = (
    "Writes a long, well-organised answer: explanations, guides, overviews, comparisons with several points. Hand over "
    "the whole question, with every fact that the answer is to use: the writer sees nothing of this conversation. Not "
    "for short answers."
)


class _Arguments(BaseModel):
    """What the agent's model fills in."""

    question: str = Field(
        min_length=1, description="The question, complete in itself, with every fact that the answer is to use."
    )


def create_sot_tool(
    graph: Pregel[Any, Any, Any, Any],
    *,
    name: str = "write_long_answer",
    description: str = _DESCRIPTION,
    return_direct: bool = False,
    retriever: Retriever | None = None,
) -> BaseTool:
    """A graph of `create_sot_graph` as a tool of an agent.

    The tool's message has the answer as its content, and the result (`skeleton`, `usage`, ...) as its artifact. The
    points are streamed through the agent: `astream_answer(agent, ...)` reads the tool's answer. What fails, whoever's
    error it is, becomes a message with `status="error"` that the agent's model can read; interrupts and cancellations
    go through.

    Args:
        graph: The graph. One without a checkpointer takes over the agent's.
        name: What the agent's model calls it: letters, digits, `_` and `-`.
        description: When the agent's model is to call it, and what it hands over.
        return_direct: Whether the answer is the agent's own, as it is. Otherwise the model reads it and goes on, and
            often writes all of it again.
        retriever: Finds documents that the tool's answers rest on and cite, in place of the graph's own, as in
            `create_sot_graph`.

    Raises:
        SotConfigError: Not a graph with a question and an answer, or a name that no provider takes; no retriever.

    Examples:
        >>> from sot_graph import create_sot_graph
        >>> from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought
        >>> tool = create_sot_tool(create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought())))
        >>> tool.invoke({"question": "How do plants grow?"}).startswith("**1. ")
        True
    """
    _check(graph, name)
    if retriever is not None:
        check_retriever(retriever)

    def with_retriever(config: RunnableConfig) -> RunnableConfig:
        if retriever is None:
            return config
        return {**config, "configurable": {**config.get("configurable", {}), RETRIEVER: retriever}}

    def write(question: str, config: RunnableConfig) -> tuple[str, dict[str, Any]]:
        with _readable_errors(name):
            return _content_and_artifact(graph.invoke({"question": question}, with_retriever(config)))

    async def awrite(question: str, config: RunnableConfig) -> tuple[str, dict[str, Any]]:
        with _readable_errors(name):
            return _content_and_artifact(await graph.ainvoke({"question": question}, with_retriever(config)))

    return StructuredTool.from_function(
        write,
        awrite,
        name=name,
        description=description,
        args_schema=_Arguments,
        response_format="content_and_artifact",
        return_direct=return_direct,
        handle_tool_error=True,
        handle_validation_error=_wrong_arguments,
    )


def _wrong_arguments(error: Any) -> str:
    """For the agent's model, which can then call again. The values are left out: they may be long."""
    wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}" for each in error.errors())
    return f"The arguments are wrong: {wrong}. Call again with the whole question as `question`."


def _content_and_artifact(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if values.get("__interrupt__"):
        message = (
            "it waits for a person, and nobody can answer where the tool is called outside of a graph. Give the tool "
            "to an agent with a checkpointer, which stops there and goes on."
        )
        raise SotConfigError(message)
    answer = values.get("answer")
    if not (isinstance(answer, str) and answer.strip()):
        message = "the graph ended with nothing in its key `answer`."
        raise SotConfigError(message)
    return answer, {key: values[key] for key in values if key != "messages"}


@contextmanager
def _readable_errors(name: str) -> Iterator[None]:
    """What fails is for the agent's model to read, but for what stops a run on purpose."""
    try:
        yield
    except (GraphBubbleUp, CancelledError):
        raise
    except Exception as error:
        is_told = isinstance(error, SotError)
        said = str(error) if is_told else f"{type(error).__name__}: {explain(error)}"
        # Of an error that isn't ours, a traceback: it is a defect, in a join perhaps, and this is where it is seen.
        logger.warning("The tool %s failed: %s", name, said, exc_info=None if is_told else error)
        message = f"The answer could not be written: {said}"
        raise ToolException(message) from error


def _check(graph: object, name: object) -> None:
    if not (isinstance(graph, Pregel) and {"question", "answer"} <= set(graph.channels)):
        message = (
            f"create_sot_tool takes a compiled graph of create_sot_graph, not {type(graph).__name__}. A parent of one "
            "must have the keys `question` and `answer`."
        )
        raise SotConfigError(message)
    if not (isinstance(name, str) and re.fullmatch("[A-Za-z0-9_-]{1,64}", name)):
        message = f"create_sot_tool: the name {name!r} must be 1 to 64 letters, digits, _ or -, as providers want it."
        raise SotConfigError(message)
