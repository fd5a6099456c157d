"""With checkpointers, and in strict mode."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from sot_graph import SotConfigError, create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

CONFIG = {"configurable": {"thread_id": "1"}}


def scripted():
    return ScriptedChatModel(answer_skeleton_of_thought(points=3))


def test_a_thread_in_sqlite_is_read_back_whole(tmp_path):
    path = str(tmp_path / "threads.sqlite")
    with SqliteSaver.from_conn_string(path) as saver:
        result = create_sot_graph(scripted(), checkpointer=saver).invoke({"question": "Why?"}, CONFIG)
    with SqliteSaver.from_conn_string(path) as saver:
        values = create_sot_graph(scripted(), checkpointer=saver).get_state(CONFIG).values
    for key in ("answer", "skeleton", "expansions", "usage", "timings", "messages"):
        assert values[key] == result[key]


async def test_a_thread_in_sqlite_works_asynchronously(tmp_path):
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "threads.sqlite")) as saver:
        graph = create_sot_graph(scripted(), checkpointer=saver)
        first = await graph.ainvoke({"question": "Why?"}, CONFIG)
        second = await graph.ainvoke({"question": "How?"}, CONFIG)
    assert len(second["messages"]) == 4
    assert second["usage"]["total"]["calls"] == first["usage"]["total"]["calls"]


STRICT = """
from langgraph.checkpoint.sqlite import SqliteSaver
from sot_graph import create_sot_graph
from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought

config = {"configurable": {"thread_id": "1"}}
with SqliteSaver.from_conn_string("threads.sqlite") as saver:
    graph = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought(points=3)), checkpointer=saver)
    graph.invoke({"question": "Why?"}, config)
    result = graph.invoke({"question": "How?"}, config)
    for snapshot in graph.get_state_history(config):
        assert all(type(message).__name__ != "dict" for message in snapshot.values.get("messages", []))
    kept = graph.get_state(config).values
    print(len(result["messages"]), len(result["expansions"]), kept["answer"] == result["answer"])
"""


def test_strict_deserialisation_keeps_everything(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", STRICT],
        env={**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["4", "3", "True"], done.stderr


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_a_checkpoint_of_another_schema_is_refused_with_both_versions(mode):
    saver = InMemorySaver()
    graph = create_sot_graph(scripted(), checkpointer=saver)
    config = dict(CONFIG)
    graph.update_state(
        config,
        {"schema_version": 99, "skeleton": [{"index": 1, "title": "a", "depends_on": []}], "expansions": []},
        as_node="expand_point",
    )
    with pytest.raises(SotConfigError, match=r"schema 99.*schema 3"):
        await (graph.ainvoke(None, config) if mode == "ainvoke" else _in_thread(graph.invoke, None, config))


async def _in_thread(function, *args):
    import asyncio

    return await asyncio.to_thread(function, *args)


def test_no_point_keeps_the_conversation_or_the_skeleton(tmp_path):
    """They are in the state once. Else a thread would grow by the points times its length, turn after turn."""
    with SqliteSaver.from_conn_string(str(tmp_path / "threads.sqlite")) as saver:
        graph = create_sot_graph(scripted(), checkpointer=saver)
        sizes = []
        for turn in range(4):
            graph.invoke({"question": f"Question {turn}?"}, CONFIG)
            written = saver.conn.execute("select sum(length(value)) from writes where channel = '__pregel_tasks'")
            sizes.append(written.fetchone()[0])
    added = [other - one for one, other in pairwise(sizes)]
    assert set(added) == {sizes[0]}
    assert sizes[0] < 1000
