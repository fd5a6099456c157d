"""Sources of the points, from agents that search files by SQLite's full-text search, in one list."""

import asyncio
import json
import re
import sqlite3
from datetime import date

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from sot_graph import SotConfigError, SotOptions, astream_answer, create_sot_graph, join_plain, stream_answer
from sot_graph.testing import Reply, ScriptedChatModel, SkeletonResponder, ToolCall, answer_skeleton_of_thought

ASK = {"question": "How do I start a garden?"}
TITLES = ["Sunlight", "Soil", "Water"]
FILES = {
    "light.md": "Sunlight drives growth. Six hours will do.",
    "soil.md": "Good soil is loose. Compost helps.",
    "water.md": "Water twice a week. Roots follow it into the soil.",
}


@pytest.mark.parametrize(
    "source",
    ["no\x00tes \x1b\ud800", {"title": "no\x00tes", "url": "https://notes.org/\x1b", "id": "\ud800"}],
    ids=["a text", "a mapping"],
)
def test_what_no_terminal_and_no_database_takes_is_in_no_source(source):
    graph = create_sot_graph(
        ScriptedChatModel(answer_skeleton_of_thought(TITLES)),
        expander=lambda given: {"text": "So [1].", "sources": [source]},
    )
    answer = graph.invoke(ASK)["answer"]
    assert "notes" in answer
    assert not {"\x00", "\x1b"} & set(answer)
    answer.encode()


class RowId:
    def __str__(self):
        return "65f0"


@pytest.mark.parametrize("kind", ["a document", "a mapping"])
async def test_whatever_stands_in_a_sources_metadata_it_comes_out_as_plain_json(kind):
    about = {"_id": RowId(), "date": date(2026, 1, 1), "tags": {"a"}, "score": float("nan"), "row": 2**70}
    source = Document("Compost.", metadata={"title": "Soil", **about})
    if kind == "a mapping":
        source = {"title": "Soil", "metadata": about}
    graph = create_sot_graph(
        ScriptedChatModel(answer_skeleton_of_thought(TITLES)),
        expander=lambda given: {"text": "So [1].", "sources": [source]},
        checkpointer=InMemorySaver(),
    )
    result = await graph.ainvoke(ASK, {"configurable": {"thread_id": "1"}})
    assert json.loads(json.dumps(result["sources"], allow_nan=False))[0]["metadata"]["_id"] == "65f0"
    assert result["sources"][0]["metadata"]["date"] == "2026-01-01"


@pytest.fixture
def search(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    index = sqlite3.connect(":memory:", check_same_thread=False)
    index.execute("CREATE VIRTUAL TABLE files USING fts5(name, text)")
    for path in sorted(tmp_path.glob("*.md")):
        index.execute("INSERT INTO files VALUES (?, ?)", (path.name, path.read_text(encoding="utf-8")))

    @tool(response_format="content_and_artifact")
    def search(query: str) -> tuple[str, list[dict]]:
        """Search the notes."""
        found = index.execute("SELECT name, text FROM files WHERE files MATCH ? ORDER BY rank", (query,)).fetchall()
        sources = [{"id": name, "title": name, "url": f"https://notes.org/{name}"} for name, _ in found]
        return "\n".join(f"[{name}] {text}" for name, text in found), sources

    yield search
    index.close()


@pytest.fixture
def graph(endpoint, search):
    def respond(request):
        if not request.tools:
            return SkeletonResponder(titles=TITLES)(request)
        last = request.messages[-1]
        if last["role"] == "tool":
            return Reply(
                " ".join(f"{text} [{name}]" for name, text in re.findall(r"\[(.+?)\] (.+?\.)", last["content"]))
            )
        return Reply(
            tool_calls=[ToolCall("search", {"query": request.last_user.split("<point>")[1][3:].split("<")[0]})]
        )

    endpoint.responder = respond
    model = endpoint.chat_model()
    return create_sot_graph(model, expander=create_agent(model, [search]), join=join_plain)


ANSWER = """\
1. Sunlight: Sunlight drives growth. [1]
2. Soil: Good soil is loose. [2] Water twice a week. [3]
3. Water: Water twice a week. [3]

Sources:
1. [light.md](https://notes.org/light.md)
2. [soil.md](https://notes.org/soil.md)
3. [water.md](https://notes.org/water.md)"""


async def test_what_the_agents_found_is_one_list(graph):
    result = await graph.ainvoke(ASK)
    assert result["answer"] == ANSWER
    assert [(source["number"], source["title"]) for source in result["sources"]] == [
        (1, "light.md"),
        (2, "soil.md"),
        (3, "water.md"),
    ]
    assert result["messages"][-1].text == ANSWER
    assert (await asyncio.to_thread(graph.invoke, ASK))["answer"] == ANSWER


async def test_what_is_streamed_has_the_numbers_of_the_whole_answer(graph):
    assert "".join([text async for text in astream_answer(graph, ASK)]) == ANSWER
    assert "".join(await asyncio.to_thread(lambda: list(stream_answer(graph, ASK)))) == ANSWER


def graph_of(expander, **kwargs):
    return create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought(TITLES)), expander=expander, **kwargs)


async def test_a_generator_may_name_its_sources_at_the_end():
    async def write(given):
        yield f"All about {given['point']['title']} [1"
        yield "]."
        yield {"sources": [f"{given['point']['title']}.md", "common.md"]}

    graph = graph_of(write)
    text = "".join([text async for text in astream_answer(graph, ASK)])
    assert text == (await graph.ainvoke(ASK))["answer"]
    assert text.endswith("All about Water [3].\n\n**Sources**\n\n1. Sunlight.md\n2. Soil.md\n3. Water.md")


@pytest.mark.parametrize("then", [["b.md"], ["a.md", "b.md"]], ids=["the new ones", "all of them"])
async def test_a_generator_may_name_its_sources_as_it_finds_them(then):
    async def write(given):
        yield {"text": "One [1]", "sources": ["a.md"]}
        yield {"sources": then}
        yield " and another [2]."

    result = await graph_of(write).ainvoke(ASK)
    assert result["answer"].endswith("One [1] and another [2].\n\n**Sources**\n\n1. a.md\n2. b.md")


async def test_text_before_the_first_citation_flows_while_it_is_written():
    go_on = asyncio.Event()

    async def write(given):
        yield "Known at once. Then "
        yield "[1] "
        await go_on.wait()
        yield "the end."
        yield {"sources": ["a.md"]}

    text = ""
    async for piece in astream_answer(graph_of(write), ASK):
        text += piece
        if "Known at once." in text:
            assert go_on.is_set() or "[" not in text
            go_on.set()
    assert text.startswith("**1. Sunlight**\n\nKnown at once. Then [1] the end.")


async def test_only_what_is_cited_of_what_the_tools_found_is_a_source():
    found = [{"id": "a", "title": "A"}, {"id": "b", "title": "B"}]

    def agent(text):
        return lambda given: {
            "messages": [*given["messages"], ToolMessage("", tool_call_id="1", artifact=found), AIMessage(text)]
        }

    titles = [source["title"] for source in (await graph_of(agent("See [b].")).ainvoke(ASK))["sources"]]
    assert titles == ["B"]
    nothing = await graph_of(agent("See nothing.")).ainvoke(ASK)
    assert nothing["sources"] == []
    assert "Sources" not in nothing["answer"]
    everything = await graph_of(agent("See nothing."), options=SotOptions(sources="all")).ainvoke(ASK)
    assert [source["title"] for source in everything["sources"]] == ["A", "B"]
    result = await graph_of(agent("See [2].")).ainvoke(ASK)
    assert "See [1]." in result["answer"]
    assert [source["title"] for source in result["sources"]] == ["B"]


async def test_what_is_cited_by_a_rows_number_is_found_and_a_range_leaves_none_out():
    found = [{"id": number, "title": f"Row {number}"} for number in (7, 8, 9)]

    def agent(text):
        return lambda given: {
            "messages": [*given["messages"], ToolMessage("", tool_call_id="1", artifact=found), AIMessage(text)]
        }

    result = await graph_of(agent("See [9] and [7–8].")).ainvoke(ASK)  # noqa: RUF001
    assert "See [1] and [2, 3]." in result["answer"]
    result = await graph_of(agent("See [9].")).ainvoke(ASK)
    assert [source["title"] for source in result["sources"]] == ["Row 9"]
    result = await graph_of(agent("See [9] and [1-2].")).ainvoke(ASK)
    assert "See [1] and [2, 3]." in result["answer"]


@pytest.mark.parametrize("artifact", [[1, 2], [{"row": 7}], {"picture": b"x"}, ["a.md", 7]], ids=str)
async def test_what_a_tool_keeps_for_itself_is_no_source_and_no_failure(artifact):
    def agent(given):
        tool = ToolMessage("", tool_call_id="1", artifact=artifact)
        return {"messages": [*given["messages"], tool, AIMessage("Text.")]}

    result = await graph_of(agent).ainvoke(ASK)
    assert {expansion["status"] for expansion in result["expansions"]} == {"ok"}
    assert result["sources"] == []


async def test_the_documents_of_a_retriever_are_sources():
    def write(given):
        documents = [Document("Loose.", metadata={"source": "https://notes.org/soil", "title": "Soil, loose"})]
        return {"text": "Loosen it [1].", "sources": documents}

    result = await graph_of(write).ainvoke(ASK)
    assert result["answer"].endswith("Loosen it [1].\n\n**Sources**\n\n1. [Soil, loose](https://notes.org/soil)")


@pytest.mark.parametrize("sources", [7, "a", {"title": "A"}, [7], ["a", {"id": "b"}]], ids=str)
async def test_sources_of_given_expansions_that_are_none_are_a_clear_error(run, sources):
    first = await graph_of(lambda given: {"text": "T [1].", "sources": ["a.md"]}).ainvoke(ASK)
    first["expansions"][1]["sources"] = sources
    with pytest.raises(SotConfigError, match=r"given_expansions: the sources of entry 2 .* are no list of texts or of"):
        await run(graph_of(lambda given: "Text."), {**ASK, "given_expansions": first["expansions"]})


async def test_ranges_and_footnotes_have_the_numbers_of_the_whole_answer():
    def write(given):
        index = given["point"]["index"]
        return {"text": "See [1-2], [^1] and [1]–[2].", "sources": [f"{index}a", f"{index}b"]}  # noqa: RUF001

    graph = graph_of(write)
    result = await graph.ainvoke(ASK)
    assert [line for line in result["answer"].splitlines() if line.startswith("See")] == [
        "See [1, 2], [1] and [1, 2].",
        "See [3, 4], [3] and [3, 4].",
        "See [5, 6], [5] and [5, 6].",
    ]
    assert "".join([text async for text in astream_answer(graph, ASK)]) == result["answer"]


async def test_the_second_question_of_a_thread_has_no_sources_of_the_first(saver):
    graph = graph_of(
        lambda given: {"text": "T [1].", "sources": ["a.md"]} if "first" in given["question"] else "T.",
        checkpointer=saver,
        options=SotOptions(min_points=1),
    )
    config = {"configurable": {"thread_id": "1"}}
    assert len((await graph.ainvoke({"question": "The first?"}, config))["sources"]) == 1
    second = await graph.ainvoke({"question": "Another?"}, config)
    assert second["sources"] == []
    assert "Sources" not in second["answer"]


@pytest.mark.parametrize("dispatch", ["send", "pipelined"])
async def test_sources_are_numbered_in_reading_order_however_the_points_are_begun(dispatch):
    graph = graph_of(
        lambda given: {"text": f"See [1] and [{given['point']['title']}].", "sources": ["common.md", source_of(given)]},
        options=SotOptions(dispatch=dispatch),
    )
    text = "".join([text async for text in astream_answer(graph, ASK)])
    assert [line for line in text.splitlines() if line.startswith("See")] == [
        "See [1] and [2].",
        "See [1] and [3].",
        "See [1] and [4].",
    ]
    assert text == (await graph.ainvoke(ASK))["answer"]


def source_of(given):
    return {"title": f"All about {given['point']['title']}", "id": given["point"]["title"]}
