"""The graph inside of other parents than a chat graph: other keys, a Send, the functional API. Offline.

python examples/parents.py

A chat graph is in `subgraph.py`, a team of agents in `swarm.py`.
"""

import operator
from collections import defaultdict
from typing import Annotated

from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from sot_graph import AnswerReader, create_sot_graph, stream_answer
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

sot = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought(["Seed", "Soil", "Sun"], "About {title}.")))


# --- A parent with keys of its own: a function of three lines between the two ---


class Report(TypedDict, total=False):
    """What this parent calls the question and the answer."""

    topic: str
    report: str


def write_report(state: Report) -> Report:
    """Hand over the topic, take back the answer. `async def` and `await sot.ainvoke` in an asynchronous parent."""
    result = sot.invoke({"question": state["topic"]})
    return {"report": result["answer"]}


def report_writer():
    """A parent of one node."""
    builder = StateGraph(Report)
    builder.add_node("write", write_report)
    builder.add_edge(START, "write")
    return builder.compile()


# --- A parent that writes about several topics at once ---


class Magazine(TypedDict, total=False):
    """Topics in, articles out."""

    topics: list[str]
    articles: Annotated[list[str], operator.add]


def write_article(state: Report) -> Magazine:
    """One topic of several."""
    result = sot.invoke({"question": state["topic"]})
    return {"articles": [result["answer"]]}


def each_topic(state: Magazine) -> list[Send]:
    """A task for each topic."""
    return [Send("write_article", {"topic": topic}) for topic in state["topics"]]


def magazine_writer():
    """A parent that fans out."""
    builder = StateGraph(Magazine)
    builder.add_node("write_article", write_article)
    builder.add_conditional_edges(START, each_topic, ["write_article"])
    return builder.compile()


# --- The functional API ---


@entrypoint()
def letter(topic: str) -> str:
    """A workflow that is a function."""
    result = sot.invoke({"question": topic})
    return f"Dear reader,\n\n{result['answer']}"


def main() -> None:
    """Each of them, in reading order where there is one answer, told apart where there are several."""
    print("=== Own keys\n")
    for text in stream_answer(report_writer(), {"topic": "How do plants grow?"}):
        print(text, end="")

    print("\n\n=== Two topics at once, told apart by their namespaces\n")
    readers, articles = defaultdict(AnswerReader), defaultdict(str)
    topics = {"topics": ["How do plants grow?", "How do forests grow?"]}
    for namespace, event in magazine_writer().stream(topics, stream_mode="custom", subgraphs=True):
        articles[namespace] += readers[namespace].feed(event)
    print(f"{len(articles)} articles, {sum(len(article) for article in articles.values())} characters")

    print("\n=== The functional API\n")
    print(letter.invoke("How do plants grow?"))


if __name__ == "__main__":
    main()
