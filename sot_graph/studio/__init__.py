"""What LangGraph's development server serves, and Studio shows: see `langgraph.json` and `docs/studio.md`.

    python -m sot_graph.studio    # beside a langgraph.json: `langgraph dev`, after a look whether there is a model

`sot_graph.studio.served_graphs` holds the graphs. Importing it starts their model: the server does so as it starts, in
a thread, where blocking is allowed; nothing else should.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from sot_graph.options import SotContext

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable
    from langgraph.graph import MessagesState
    from langgraph.graph.state import CompiledStateGraph

__all__ = ["AgentContext", "build_agent"]


class AgentContext(TypedDict, total=False):
    """What a run of the agent may set."""

    sot: SotContext
    """Options of the graph inside, for one run."""


def build_agent(
    model: Runnable[Any, Any],
) -> CompiledStateGraph[MessagesState, AgentContext, MessagesState, MessagesState]:
    """An example agent with the graph inside, which Studio unfolds.

    Questions that gain from a skeleton go through the graph, and all others to the model itself. A learned router
    decides, without a model call. The options of `context["sot"]` reach the graph inside.

    Args:
        model: A LangChain chat model.

    Examples:
        >>> from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought
        >>> agent = build_agent(ScriptedChatModel(answer_skeleton_of_thought()))
        >>> len(agent.invoke({"messages": [("user", "Hello!")]})["messages"])
        2
    """
    # LangGraph takes seconds to import, and `python -m sot_graph.studio` imports this module to check the model first.
    from langchain_core.runnables import RunnableLambda
    from langgraph.graph import END, START, MessagesState, StateGraph

    from sot_graph.graph import create_sot_graph
    from sot_graph.routing.learned_router import LearnedRouter

    reply: Runnable[Any, Any] = (
        RunnableLambda(itemgetter("messages")) | model | RunnableLambda(lambda message: {"messages": [message]})
    )
    builder = StateGraph(MessagesState, context_schema=AgentContext)
    builder.add_node("chat", reply)
    builder.add_node("long_answer", create_sot_graph(model))
    edge = LearnedRouter().as_edge({"skeleton": "long_answer", "direct": "chat"})
    builder.add_conditional_edges(START, edge, ["long_answer", "chat"])
    builder.add_edge("long_answer", END)
    builder.add_edge("chat", END)
    return builder.compile(name="agent")
