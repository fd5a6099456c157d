"""Skeleton-of-Thought as one node of a chat graph: only list-like questions go through it.

    python examples/subgraph.py                        # a scripted model: no key, no network
    python examples/subgraph.py --model gpt-4o-mini    # with OPENAI_API_KEY

The parent knows nothing but `messages`. It gets one `AIMessage` a turn; the points stay inside the subgraph, and its
events come out with `subgraphs=True`.
"""

import argparse

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from sot_graph import LearnedRouter, create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

TURNS = ("Hello!", "What are good tips for starting a vegetable garden?", "Thanks!")
POINTS = {
    "Choosing a sunny spot": "Most vegetables want six hours of sun a day. Watch the place for a day before you dig.",
    "Preparing the soil": "Loosen it a spade deep and mix in compost. Good soil forgives most other mistakes.",
    "Picking easy crops": "Begin with radishes, beans and lettuce. They grow fast and show you early what they lack.",
    "Watering well": "Water deeply twice a week rather than a little every day. Roots then follow the water down.",
}


def scripted_model() -> ScriptedChatModel:
    """Answers by what it is asked: the skeleton, a point of it, or small talk."""
    write = answer_skeleton_of_thought(list(POINTS), lambda ask: POINTS.get(ask.title, "Happy to help."))
    return ScriptedChatModel(write)


def build_chat(model):
    """A chat with a memory, in which questions that gain from a skeleton get one. The router asks no model."""

    def small_talk(state: MessagesState) -> dict:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(model))
    builder.add_node("small_talk", small_talk)
    edge = LearnedRouter().as_edge({"skeleton": "answer", "direct": "small_talk"})
    builder.add_conditional_edges(START, edge, ["answer", "small_talk"])
    builder.add_edge("answer", END)
    builder.add_edge("small_talk", END)
    return builder.compile(checkpointer=InMemorySaver())


def main() -> None:
    """Three turns of one conversation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="such as gpt-4o-mini; without it: a scripted model")
    name = parser.parse_args().model
    if name:
        from langchain_openai import ChatOpenAI

        chat = build_chat(ChatOpenAI(model=name))
    else:
        chat = build_chat(scripted_model())

    thread = {"configurable": {"thread_id": "1"}}
    for text in TURNS:
        print(f"> {text}")
        events = chat.stream({"messages": [HumanMessage(text)]}, thread, stream_mode="custom", subgraphs=True)
        for _namespace, event in events:
            if event["type"] == "sot.point.end":
                print(f"[point {event['index']}: {event['status']}]")
        print(f"\n{chat.get_state(thread).values['messages'][-1].text}\n")

    kinds = [message.type for message in chat.get_state(thread).values["messages"]]
    print("The thread holds:", ", ".join(kinds))


if __name__ == "__main__":
    main()
