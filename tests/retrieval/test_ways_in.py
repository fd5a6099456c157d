"""The other ways in: the tool, messages of an agent's tools, the middleware, an expander, files, the command."""

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pypdf.errors import DependencyError

from sot_graph import SkeletonOfThoughtMiddleware, SotConfigError, create_sot_graph, create_sot_tool, load_documents
from sot_graph.cli.app import app
from tests.retrieval.conftest import TITLES, citing_model, point_calls, shown_numbers

ASK = "How do I start a garden?"
FOUND = [Document("Loose soil.", metadata={"source": "soil.md"}), Document("Six hours.", metadata={"source": "sun.md"})]
CONVERSATION = [
    HumanMessage(ASK),
    AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "1"}]),
    ToolMessage("Loose soil.\n\nSix hours.", tool_call_id="1", artifact=FOUND),
]


@pytest.mark.parametrize("checkpointer", [None, InMemorySaver()], ids=["alone", "in a thread"])
async def test_a_tool_brings_a_retriever(make_graph, checkpointer):
    graph, model = make_graph(checkpointer=checkpointer)
    tool = create_sot_tool(graph, retriever=lambda query: [f"Found for {query}."])
    call = {"name": tool.name, "args": {"question": ASK}, "id": "1", "type": "tool_call"}
    message = await tool.ainvoke(call, {"configurable": {"thread_id": "1"}})
    assert f"1. Found for {ASK}." in message.content
    assert message.artifact["sources"][0]["number"] == 1
    assert shown_numbers(point_calls(model)["Soil"]) == [1, 2]
    with pytest.raises(SotConfigError, match="retriever"):
        create_sot_tool(graph, retriever=7)


def test_documents_that_an_agents_tools_found_are_cited_in_a_node(make_graph):
    graph, model = make_graph(lambda numbers: f"[{numbers[-1]}]")
    parent = StateGraph(MessagesState).add_node("answer", graph).add_edge(START, "answer").compile()
    answer = parent.invoke({"messages": CONVERSATION})["messages"][-1].text
    assert answer.endswith("**Sources**\n\n1. sun.md")
    assert all(str(call.messages).count("Loose soil.") == 1 for call in model.calls)  # as a document alone


def test_what_tools_found_for_an_earlier_question_is_history(make_graph):
    graph, model = make_graph(lambda numbers: "")
    graph.invoke({"messages": [*CONVERSATION, AIMessage("So."), HumanMessage("And roses?")]})
    assert shown_numbers(model.calls[0].messages) == []
    assert "Loose soil." in str(model.calls[0].messages)


@pytest.mark.parametrize("artifact", [None, {"rows": 3}, [], ["a.md"], [{"title": "A"}]], ids=str)
def test_another_artifact_leaves_a_tools_message_as_text(make_graph, artifact):
    graph, model = make_graph(lambda numbers: "")
    messages = [*CONVERSATION[:2], ToolMessage("Loose soil.", tool_call_id="1", artifact=artifact)]
    graph.invoke({"messages": messages})
    assert "<tool_result>\nLoose soil.\n</tool_result>" in str(model.calls[0].messages[1].text)


def test_the_middleware_cites_what_the_agents_tools_found():
    model = citing_model(lambda numbers: f"[{numbers[0]}]" if numbers else "")
    agent = create_agent(model, middleware=[SkeletonOfThoughtMiddleware(lambda question, history: "skeleton")])
    answer = agent.invoke({"messages": CONVERSATION})["messages"][-1].text
    assert answer.endswith("**Sources**\n\n1. soil.md")


def test_a_parents_documents_reach_the_node(make_graph):
    class State(MessagesState):
        documents: list

    graph, _ = make_graph()
    parent = StateGraph(State).add_node("answer", graph).add_edge(START, "answer").compile()
    result = parent.invoke({"messages": [HumanMessage(ASK)], "documents": FOUND})
    assert result["messages"][-1].text.endswith("**Sources**\n\n1. soil.md")
    assert result["documents"] == FOUND


def test_an_expander_finds_the_documents_in_its_prompt_and_its_text_cites_them():
    def expander(given):
        return f"See [{shown_numbers(given['messages'])[-1]}]."

    graph = create_sot_graph(citing_model(), expander=expander)
    result = graph.invoke({"question": ASK, "documents": FOUND})
    assert "See [1]." in result["answer"]
    assert result["answer"].endswith("**Sources**\n\n1. sun.md")


def test_files_and_folders_are_documents(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.md").write_text("# A", encoding="utf-8")
    (tmp_path / "b.txt").write_text("\ufeffB", encoding="utf-8")
    (tmp_path / "empty.md").write_text(" ")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "c.md").write_text("C")
    documents = load_documents(tmp_path, tmp_path / "b.txt")
    assert [(document.page_content, document.metadata["source"]) for document in documents] == [
        ("B", "b.txt"),
        ("# A", "sub/a.md"),
        ("B", (tmp_path / "b.txt").as_posix()),
    ]
    for wrong in (tmp_path / "none.md", tmp_path / "picture.png", tmp_path / "empty.md"):
        with pytest.raises(SotConfigError, match=wrong.name):
            load_documents(wrong)


@pytest.mark.parametrize("error", [DependencyError, AttributeError])
def test_a_pdf_that_pypdf_fails_at_in_any_way_is_told_as_one_that_can_not_be_read(tmp_path, monkeypatch, error):
    def read(path):
        message = "cryptography>=3.1 is required for AES algorithm"
        raise error(message)

    monkeypatch.setattr("pypdf.PdfReader", read)
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4")
    with pytest.raises(SotConfigError, match=r"a\.pdf can't be read as PDF: cryptography"):
        load_documents(tmp_path / "a.pdf")


def test_a_pdf_is_a_document_a_page(tmp_path):
    from pypdf import PdfWriter

    def page(text):
        content = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
        font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
        return content, font

    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R 5 0 R] /Count 2 >>"]
    for number, text in enumerate(("Seeds", "Soil")):
        content, font = page(text)
        resources = f"<< /Font << /F1 {font} >> >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents {4 + 2 * number} 0 R "
            f"/Resources {resources} >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    body = b"%PDF-1.4\n"
    offsets = []
    for number, each in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{each}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    body += (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n"
        f"<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    ).encode()
    path = tmp_path / "Seed-1.pdf"
    path.write_bytes(body)
    assert [(each.page_content.strip(), each.metadata["page"]) for each in load_documents(path)] == [
        ("Seeds", 1),
        ("Soil", 2),
    ]
    PdfWriter().write(tmp_path / "empty.pdf")
    path.write_bytes(b"no PDF")
    with pytest.raises(SotConfigError, match=r"Seed-1\.pdf can't be read as PDF"):
        load_documents(path)


def test_the_command_answers_from_files(tmp_path, monkeypatch, capsys):
    from contextlib import contextmanager

    from sot_graph.cli import ask_command
    from sot_graph.default_model import ModelChoice

    model = citing_model(lambda numbers: f"[{numbers[0]}]")

    @contextmanager
    def opened(*_):
        yield model, ModelChoice(name="simulated")

    monkeypatch.setattr(ask_command, "opened_model", opened)
    (tmp_path / "soil.md").write_text("Loose.")
    (tmp_path / "sun.md").write_text("Six hours.")
    with pytest.raises(SystemExit) as ended:
        app(["ask", ASK, "--docs", str(tmp_path), "--docs", str(tmp_path / "sun.md"), "--no-stream"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert f"About {TITLES[1]} [1]." in printed
    assert "soil.md" in printed
    with pytest.raises(SystemExit) as ended:
        app(["ask", ASK, "--docs", str(tmp_path / "none")])
    assert ended.value.code == 2
    assert "none can't be read" in capsys.readouterr().err
