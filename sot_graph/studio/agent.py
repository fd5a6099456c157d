"""An example agent with the graph inside: what Studio unfolds."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import END, START, MessagesState, StateGraph

from sot_graph.graph import create_sot_graph
from sot_graph.options import SotContext
from sot_graph.routing.learned.learned_router import LearnedRouter

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

__all__ = ["CHAT", "LONG_ANSWER", "build_agent"]

CHAT = "chat"
LONG_ANSWER = "long_answer"


def build_agent(
    model: Runnable[Any, Any],
) -> CompiledStateGraph[MessagesState, SotContext, MessagesState, MessagesState]:
    """A chat in which questions that gain by a skeleton go through the graph, and all others to the model itself.

    A learned router decides, without a model call. The options of `SotContext` reach the graph inside.

    Args:
        model: A LangChain chat model.

    Example:
        >>> from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought
        >>> agent = build_agent(ScriptedChatModel(answer_skeleton_of_thought()))
        >>> len(agent.invoke({"messages": [("user", "Hello!")]})["messages"])
        2
    """
    reply: Runnable[Any, Any] = (
        RunnableLambda(itemgetter("messages")) | model | RunnableLambda(lambda message: {"messages": [message]})
    )
    builder = StateGraph(MessagesState, context_schema=SotContext)
    builder.add_node(CHAT, reply)
    builder.add_node(LONG_ANSWER, create_sot_graph(model))
    edge = LearnedRouter().as_edge({"skeleton": LONG_ANSWER, "direct": CHAT})
    builder.add_conditional_edges(START, edge, [LONG_ANSWER, CHAT])
    builder.add_edge(LONG_ANSWER, END)
    builder.add_edge(CHAT, END)
    return builder.compile(name="agent")
