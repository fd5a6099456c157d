"""What a conversation takes in a checkpointer, beside a plain chat whose node returns the same answers.

uv run python benchmarks/storage.py
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Durability

from sot_graph import SotOptions, create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

LONGEST = 10**9
MODEL = ScriptedChatModel(answer_skeleton_of_thought(points=8))


def chat(node: Any, saver: SqliteSaver) -> Any:
    """A chat of one node."""
    builder = StateGraph(MessagesState)
    builder.add_node("answer", node)
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


def megabytes(make: Callable[[SqliteSaver], Any], turns: int, durability: Durability) -> float:
    """The database's size after so many turns on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "threads.sqlite"
        with SqliteSaver.from_conn_string(str(path)) as saver:
            graph = make(saver)
            config = {"configurable": {"thread_id": "1"}}
            for turn in range(turns):
                graph.invoke(
                    {"messages": [HumanMessage(f"Question {turn}: how do plants grow?")]}, config, durability=durability
                )
            saver.conn.execute("vacuum")
        return path.stat().st_size / 1e6


def main() -> None:
    """Print a table in Markdown."""
    answer = create_sot_graph(MODEL).invoke({"question": "How do plants grow?"})["answer"]
    ways: dict[str, Callable[[SqliteSaver], Any]] = {
        "a plain chat": lambda saver: chat(lambda _: {"messages": [AIMessage(answer)]}, saver)
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
    sizes = {name: [megabytes(make, count, "async") for count in turns] for name, make in ways.items()}
    for name in ("the graph, send", "as a node, send"):
        sizes[f'{name}, `durability="exit"`'] = [megabytes(ways[name], count, "exit") for count in turns]
    plain = sizes["a plain chat"]
    print("| 8 points, answers of 3.7 kB | " + " | ".join(f"{count} turns, MB" for count in turns) + " |")
    print("|---" * (len(turns) + 1) + "|")
    for name, found in sizes.items():
        cells = [f"{size:.1f} ({size / base:.1f} x)" for size, base in zip(found, plain, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
