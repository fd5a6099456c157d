"""A member of a langgraph-swarm team that writes the long answers. Runs on a simulated endpoint: no key, no network.

python examples/swarm.py

The assistant talks, and hands questions that want a long answer over to the writer. The writer is a Skeleton-of-Thought
graph and a node that hands the conversation back.
"""

from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph_swarm import SwarmState, create_handoff_tool, create_swarm

from sot_graph import create_sot_graph, stream_answer
from sot_graph.testing import ChatRequest, Physics, Reply, SimulatedEndpoint, SkeletonResponder, ToolCall

POINTS = {
    "Choosing a sunny spot": "Most vegetables want six hours of sun a day.",
    "Preparing the soil": "Loosen it a spade deep and mix in compost.",
    "Picking easy crops": "Begin with radishes, beans and lettuce.",
}
write_points = SkeletonResponder(titles=list(POINTS), text=lambda ask: POINTS.get(ask.title, "You are welcome."))


def simulated_model(request: ChatRequest) -> Reply:
    """The assistant hands long questions over; everything else is the writer's skeleton, or a point of it."""
    if request.tools and "garden" in request.last_user:
        return Reply(tool_calls=[ToolCall("transfer_to_writer")])
    if request.tools:
        return Reply("You are welcome.")
    return write_points(request)


def build_team(model):
    """An assistant and a writer, with a memory."""
    writer = StateGraph(SwarmState)
    writer.add_node("write", create_sot_graph(model))
    writer.add_node("hand_back", lambda _: {"active_agent": "assistant"})
    writer.add_edge(START, "write")
    writer.add_edge("write", "hand_back")

    hand_over = create_handoff_tool(agent_name="writer", description="Hands over to the writer of long answers.")
    assistant = create_agent(model, [hand_over], name="assistant")
    team = create_swarm([assistant, writer.compile(name="writer")], default_active_agent="assistant")
    return team.compile(checkpointer=InMemorySaver())


def main() -> None:
    """Two turns: a long answer by the writer, then small talk with the assistant."""
    with SimulatedEndpoint(simulated_model, physics=Physics.instant()) as endpoint:
        team = build_team(endpoint.chat_model())
        thread = {"configurable": {"thread_id": "1"}}

        question = "What are good tips for starting a vegetable garden?"
        print(f"> {question}\n")
        for text in stream_answer(team, {"messages": [("user", question)]}, thread):
            print(text, end="")

        print("\n\n> Thanks!\n")
        print(team.invoke({"messages": [("user", "Thanks!")]}, thread)["messages"][-1].text)
        print("\nThe thread holds:", ", ".join(message.type for message in team.get_state(thread).values["messages"]))


if __name__ == "__main__":
    main()
