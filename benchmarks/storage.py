"""What a conversation takes in a checkpointer, beside a plain chat whose node returns the same answers.

The plain chat's messages are as `ChatOpenAI` returns them, with what the provider tells about the call.

SQLite's stores the whole state in each checkpoint. PostgreSQL's stores a value only when it changes. LangGraph's in
memory does so, too, and is measured in its place: its bytes, without what a database takes beside them.

uv run python benchmarks/storage.py
"""

import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Durability

from sot_graph import SotOptions, create_sot_graph
from sot_graph.testing import (
    Physics,
    ScriptedChatModel,
    SimulatedEndpoint,
    SkeletonResponder,
    answer_skeleton_of_thought,
)

Make = Callable[[BaseCheckpointSaver[Any]], Any]
LONGEST = 10**9
MODEL = ScriptedChatModel(answer_skeleton_of_thought(points=8))


def chat(node: Any, saver: BaseCheckpointSaver[Any]) -> Any:
    """A chat of one node."""
    builder = StateGraph(MessagesState)
    builder.add_node("answer", node)
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


def as_called(answer: str) -> Callable[[Any], Any]:
    """A node that returns this answer as `ChatOpenAI` would: a call's own message, with another text."""
    with SimulatedEndpoint(SkeletonResponder(), physics=Physics.instant()) as endpoint:
        reply = endpoint.chat_model().invoke("How do plants grow?")
    return lambda _: {"messages": [reply.model_copy(update={"content": answer, "id": f"lc_run--{uuid.uuid4()}"})]}


def converse(graph: Any, turns: int, durability: Durability) -> None:
    """So many turns on one thread."""
    config = {"configurable": {"thread_id": "1"}}
    for turn in range(turns):
        question = HumanMessage(f"Question {turn}: how do plants grow?")
        graph.invoke({"messages": [question]}, config, durability=durability)


def in_sqlite(make: Make, turns: int, durability: Durability = "async") -> float:
    """The database's size after so many turns, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "threads.sqlite"
        with SqliteSaver.from_conn_string(str(path)) as saver:
            converse(make(saver), turns, durability)
            saver.conn.execute("vacuum")
        return path.stat().st_size / 1e6


def by_value(make: Make, turns: int) -> float:
    """What a checkpointer stores that keeps each value once, in MB."""
    saver = InMemorySaver()
    converse(make(saver), turns, "async")
    threads = [kept for namespaces in saver.storage.values() for kept in namespaces.values()]
    stored = [
        part for thread in threads for checkpoint, metadata, _ in thread.values() for part in (checkpoint, metadata)
    ]
    stored += saver.blobs.values()
    stored += [write[2] for writes in saver.writes.values() for write in writes.values()]
    return sum(len(data) for _, data in stored) / 1e6


def main() -> None:
    """Print two tables."""
    answer = create_sot_graph(MODEL).invoke({"question": "How do plants grow?"})["answer"]
    called = as_called(answer)
    ways: dict[str, Make] = {
        "a plain chat": lambda saver: chat(called, saver),
        "a plain chat of bare texts": lambda saver: chat(lambda _: {"messages": [AIMessage(answer)]}, saver),
    }
    for dispatch in ("send", "pipelined"):
        options = SotOptions(dispatch=dispatch, max_question_chars=LONGEST)
        ways |= {
            f"the graph, {dispatch}": lambda saver, options=options: create_sot_graph(  # type: ignore[misc]
                MODEL, options=options, checkpointer=saver
            ),
            f"as a node, {dispatch}": lambda saver, options=options: chat(  # type: ignore[misc]
                create_sot_graph(MODEL, options=options), saver
            ),
        }
    forgets = create_sot_graph(MODEL, options=SotOptions(max_question_chars=LONGEST), checkpointer=False)
    ways["as a node with `checkpointer=False`"] = lambda saver: chat(forgets, saver)
    turns = [int(word) for word in sys.argv[1:]] or [20, 100]
    sizes = {name: [in_sqlite(make, count) for count in turns] for name, make in ways.items()}
    for name in ("the graph, send", "as a node, send"):
        sizes[f'{name}, `durability="exit"`'] = [in_sqlite(ways[name], count, "exit") for count in turns]
    print_table("SQLite", turns, sizes)
    names = ("a plain chat", "the graph, send", "as a node, send")
    print_table("each value once", turns, {name: [by_value(ways[name], count) for count in turns] for name in names})


def print_table(title: str, turns: list[int], sizes: dict[str, list[float]]) -> None:
    """A table in Markdown, with the plain chat first."""
    plain = sizes["a plain chat"]
    print(f"| {title}; 8 points, answers of 3.7 kB | " + " | ".join(f"{count} turns, MB" for count in turns) + " |")
    print("|---" * (len(turns) + 1) + "|")
    for name, found in sizes.items():
        cells = [f"{size:.1f} ({size / base:.1f} x)" for size, base in zip(found, plain, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print()


if __name__ == "__main__":
    main()
