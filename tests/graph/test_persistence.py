"""With checkpointers, and in strict mode."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from sot_graph import SotConfigError, SotOptions, build_sot_graph, create_sot_graph
from sot_graph.testing import (
    Physics,
    ScriptedChatModel,
    SimulatedEndpoint,
    SkeletonResponder,
    answer_skeleton_of_thought,
)

CONFIG = {"configurable": {"thread_id": "1"}}
RESPONDER = SkeletonResponder(titles=["Light", "Water", "Soil"])


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
from sot_graph.testing import Physics, ScriptedChatModel, answer_skeleton_of_thought

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
@pytest.mark.parametrize(("facts", "version"), [({"run_facts": {"schema_version": 99}}, "99"), ({}, "below 5")])
async def test_a_checkpoint_of_another_schema_is_refused_with_both_versions(mode, facts, version):
    saver = InMemorySaver()
    graph = create_sot_graph(scripted(), checkpointer=saver)
    config = dict(CONFIG)
    graph.update_state(
        config,
        {
            **facts,
            "skeleton": [{"index": 1, "title": "a", "depends_on": []}],
            "expansions": [],
        },
        as_node="expand_point",
    )
    with pytest.raises(SotConfigError, match=rf"schema {version}.*schema 5"):
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


class _AsModel(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = Field(default_factory=list)


@dataclass(frozen=True)
class _AsDataclass:
    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)


def _prompts(endpoint):
    return [str(one.request.messages) for one in endpoint.requests]


def _texts_in(part, saver):
    """All texts that the threads' child graphs have stored, in a table of SQLite."""
    kind, value = ("type", "checkpoint") if part == "checkpoints" else ("type", "value")
    rows = saver.conn.execute(f"select {kind}, {value} from {part} where checkpoint_ns != ''")
    return "\n".join(str(saver.serde.loads_typed(row)) for row in rows)


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
@pytest.mark.parametrize("kept_as", [MessagesState, _AsModel, _AsDataclass])
def test_as_a_node_the_graph_stores_no_earlier_message(tmp_path, kept_as, dispatch):
    """The parent's checkpoints hold the conversation already. Prompts have it all the same."""
    with (
        SqliteSaver.from_conn_string(str(tmp_path / "threads.sqlite")) as saver,
        SimulatedEndpoint(RESPONDER, physics=Physics.instant()) as endpoint,
    ):
        node = create_sot_graph(endpoint.chat_model(), options=SotOptions(dispatch=dispatch))
        graph = StateGraph(kept_as).add_node("answer", node).add_edge(START, "answer").compile(checkpointer=saver)
        for said in ("Tell me of FERNS.", "Tell me of MOSSES."):
            graph.invoke({"messages": [HumanMessage(said)]}, CONFIG)
        last = [prompt for prompt in _prompts(endpoint) if "MOSSES" in prompt]
        stored = [_texts_in(part, saver) for part in ("checkpoints", "writes")]
        before = len(endpoint.requests) - len(last)
    assert len(last) == before  # a skeleton and its points
    assert all("FERNS" in prompt for prompt in last)
    for text in stored:
        turns = text.split("Tell me of MOSSES.", 1)
        assert len(turns) == 2
        assert "FERNS" not in turns[1]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_a_node_that_is_resumed_in_another_process_knows_the_conversation(mode):
    """The parent gives it the same input again."""
    saver = InMemorySaver()
    with SimulatedEndpoint(RESPONDER, physics=Physics.instant()) as endpoint:

        def made():
            """What another process would make."""
            node = create_sot_graph(endpoint.chat_model(), options=SotOptions(review_skeleton=True))
            return StateGraph(MessagesState).add_node("answer", node).add_edge(START, "answer").compile(saver)

        async def run(graph, given):
            if mode == "invoke":
                return await _in_thread(graph.invoke, given, CONFIG)
            return await graph.ainvoke(given, CONFIG)

        earlier = [HumanMessage("Tell me of FERNS."), AIMessage("They are green.")]
        await run(made(), {"messages": [*earlier, HumanMessage("And of MOSSES?")]})
        drafted = len(endpoint.requests)
        result = await run(made(), Command(resume=["Shade", "Water"]))
        points = _prompts(endpoint)[drafted:]
    assert len(points) == 2
    assert all("FERNS" in prompt and "They are green." in prompt for prompt in points)
    assert [message.text for message in result["messages"][:3]] == [
        "Tell me of FERNS.",
        "They are green.",
        "And of MOSSES?",
    ]
    assert len(result["messages"]) == 4


EARLIER = [HumanMessage("Tell me of FERNS.", id="1"), AIMessage("They are green.", id="2")]
ASKED = {"messages": [*EARLIER, HumanMessage("And of MOSSES?", id="3")]}


@pytest.fixture
def endpoint():
    with SimulatedEndpoint(RESPONDER, physics=Physics.instant()) as started:
        yield started


def _parent_of(node, kept_as=MessagesState, saver=None):
    return StateGraph(kept_as).add_node("answer", node).add_edge(START, "answer").compile(saver)


@pytest.mark.parametrize("make", [create_sot_graph, lambda model: build_sot_graph(model).compile()])
@pytest.mark.parametrize("config", [None, {"configurable": {"x": 1}}])
def test_a_graph_below_a_node_knows_nothing_of_the_nodes_conversation(endpoint, make, config):
    inner = make(endpoint.chat_model(model="inner"))
    outer = create_sot_graph(
        endpoint.chat_model(), expander=lambda _: inner.invoke({"question": "Why?"}, config)["answer"]
    )
    _parent_of(outer).invoke(ASKED)
    asked = [str(one.request.messages) for one in endpoint.requests if one.request.model == "inner"]
    assert len(asked) == 12
    assert not any("FERNS" in prompt for prompt in asked)


def test_a_thread_of_the_graphs_own_keeps_its_conversation_within_a_parent(endpoint):
    own = {"thread_id": "own"}
    sot = create_sot_graph(endpoint.chat_model(), checkpointer=InMemorySaver()).with_config(configurable=own)

    def answer(state):
        return {"messages": sot.invoke({"messages": state["messages"][-1:]})["messages"][-1:]}

    graph = _parent_of(answer, saver=InMemorySaver())
    for said in ("Tell me of FERNS.", "And of MOSSES?"):
        graph.invoke({"messages": [HumanMessage(said)]}, CONFIG)
    assert "FERNS" in _prompts(endpoint)[-1]


@pytest.mark.parametrize("passes_config", [False, True])
def test_a_function_may_call_the_graph_twice(endpoint, passes_config):
    sot = create_sot_graph(endpoint.chat_model())

    def answer(state, config: RunnableConfig):
        given = ({"messages": state["messages"]}, *([config] if passes_config else []))
        return {"messages": [sot.invoke(*given)["messages"][-1], sot.invoke(*given)["messages"][-1]]}

    result = _parent_of(answer, saver=InMemorySaver()).invoke(ASKED, CONFIG)
    assert len(result["messages"]) == 5
    assert len(endpoint.requests) == 8
    assert all("FERNS" in prompt for prompt in _prompts(endpoint))


def test_what_a_function_has_made_of_the_conversation_is_kept_for_a_resume(endpoint):
    """The function makes it anew when it is resumed, perhaps in other words."""
    sot = create_sot_graph(endpoint.chat_model(), options=SotOptions(review_skeleton=True))
    summaries = iter(["SUMMARY-1", "SUMMARY-2"])

    def answer(state, config: RunnableConfig):
        summary = SystemMessage(next(summaries), id="1")
        return {"messages": sot.invoke({"messages": [summary, state["messages"][-1]]}, config)["messages"]}

    graph = _parent_of(answer, saver=InMemorySaver())
    graph.invoke(ASKED, CONFIG)
    graph.invoke(Command(resume=True), CONFIG)
    assert len(endpoint.requests) == 4
    assert all("SUMMARY-1" in prompt and "SUMMARY-2" not in prompt for prompt in _prompts(endpoint))


def test_an_earlier_message_that_is_edited_in_the_nodes_checkpoint_stands_in_its_place(endpoint):
    sot = create_sot_graph(endpoint.chat_model(), options=SotOptions(review_skeleton=True))
    graph = _parent_of(sot, saver=InMemorySaver())
    graph.invoke(ASKED, CONFIG)
    child = graph.get_state(CONFIG, subgraphs=True).tasks[0].state.config
    graph.update_state(child, {"messages": [AIMessage("They are PURPLE.", id="2")]}, as_node="draft_skeleton")
    drafted = len(endpoint.requests)
    graph.invoke(Command(resume=True), CONFIG)
    points = _prompts(endpoint)[drafted:]
    assert len(points) == 3
    assert all("FERNS" in prompt and "PURPLE" in prompt and "green" not in prompt for prompt in points)


@pytest.mark.parametrize("mode", ["checkpoints", "debug"])
def test_what_streams_tell_of_a_run_can_be_sent_on(endpoint, mode):
    graph = _parent_of(create_sot_graph(endpoint.chat_model()), saver=InMemorySaver())
    configs = []
    for _, part in graph.stream(ASKED, CONFIG, stream_mode=mode, subgraphs=True):
        payload = part.get("payload", part)
        configs += [payload[name] for name in ("config", "parent_config") if name in payload]
    assert configs
    assert "FERNS" not in json.dumps(configs)


@dataclass
class _WithAProperty:
    question: str = ""
    log: list = field(default_factory=list)
    sot: dict = field(default_factory=dict)

    @property
    def messages(self):
        return self.log


def test_a_parent_may_compute_its_messages(endpoint):
    result = _parent_of(create_sot_graph(endpoint.chat_model()), _WithAProperty).invoke(
        {"question": "Why?", "log": ASKED["messages"]}
    )
    assert result["sot"]["answer"]


def test_a_function_streams_the_graphs_updates(endpoint):
    """As any graph of LangGraph's, where no mode is asked for."""
    sot, parts = create_sot_graph(endpoint.chat_model()), []
    _parent_of(lambda state: parts.extend(sot.stream({"messages": state["messages"]}))).invoke(ASKED)
    assert [name for part in parts for name in part] == ["draft_skeleton", *["expand_point"] * 3, "join"]


class _WithoutReducer(TypedDict, total=False):
    messages: list


@pytest.mark.parametrize("kept", [{}, {"messages": None}, {"messages": "none yet"}])
def test_a_node_may_be_sent_messages_where_the_parent_has_none(endpoint, kept):
    builder = StateGraph(_WithoutReducer).add_node("answer", create_sot_graph(endpoint.chat_model()))
    builder.add_conditional_edges(START, lambda _: [Send("answer", ASKED)], ["answer"])
    result = builder.compile(InMemorySaver()).invoke({**kept, "other": 1}, CONFIG)
    assert result["messages"][-1].text
    assert all("FERNS" in prompt for prompt in _prompts(endpoint))
