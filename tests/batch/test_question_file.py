"""Questions in files of all three kinds."""

import json

import pytest

from sot_graph import SotConfigError
from sot_graph.batch.question_file import QuestionFile, Shard

ROWS = [{"id": "a", "question": "Why?"}, {"id": "b", "messages": [{"role": "user", "content": "How?"}]}]


def file_of(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return QuestionFile(path)


def test_a_table_may_have_semicolons_as_excel_writes_them(tmp_path):
    assert [row["question"] for row in file_of(tmp_path, "q.csv", "id;question\n1;Why, and how?\n")] == [
        "Why, and how?"
    ]


def test_json_lines_are_read_with_their_ids(tmp_path):
    file = file_of(tmp_path, "q.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n")
    assert list(file) == ROWS


def test_a_table_holds_conversations_and_documents_as_json(tmp_path):
    messages, documents = json.dumps(ROWS[1]["messages"]), json.dumps(["Light is needed."])
    lines = ["id,question,messages,documents", "a,Why?,,", *[f'b,,"{messages}","{documents}"'.replace('\\"', '""')]]
    lines[2] = 'b,,"{}","{}"'.format(messages.replace('"', '""'), documents.replace('"', '""'))
    rows = list(file_of(tmp_path, "q.csv", "\n".join(lines)))
    assert rows == [ROWS[0], {**ROWS[1], "documents": ["Light is needed."]}]


def test_parquet_is_read_by_pyarrow(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "q.parquet"
    table = pyarrow.Table.from_pylist([{"id": 7, "question": "Why?"}, {"id": 8, "question": "How?"}])
    pytest.importorskip("pyarrow.parquet").write_table(table, path)
    assert list(QuestionFile(path)) == [{"id": "7", "question": "Why?"}, {"id": "8", "question": "How?"}]


def test_without_an_id_the_content_is_one_and_the_same_content_is_asked_once(tmp_path):
    rows = list(file_of(tmp_path, "q.jsonl", '{"question": "Why?"}\n"Why?"\n{"question": "How?"}\n'))
    assert [row["question"] for row in rows] == ["Why?", "How?"]
    assert len({row["id"] for row in rows}) == 2


def test_the_shards_have_every_row_once_wherever_it_stands(tmp_path):
    questions = [{"question": f"Question {number}?"} for number in range(200)]
    file = file_of(tmp_path, "q.jsonl", "\n".join(map(json.dumps, questions)))
    parts = [list(QuestionFile(file.path, Shard.parse(f"{number}/4"))) for number in range(1, 5)]
    assert sorted(row["id"] for part in parts for row in part) == sorted(row["id"] for row in file)
    assert all(30 < len(part) < 70 for part in parts)
    file.path.write_text("\n".join(map(json.dumps, reversed(questions))))
    assert {row["id"] for row in QuestionFile(file.path, Shard(2, 4))} == {row["id"] for row in parts[1]}


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "1/0"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(SotConfigError, match="3/16"):
        Shard.parse(text)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("q.jsonl", '{"question": "Why?"}\n{"question": ', "line 2 is no JSON"),
        ("q.jsonl", '{"prompt": "Why?"}', "line 1: it needs a column question, or messages. What is there: prompt."),
        ("q.jsonl", '{"question": "Why?", "documents": "[1"}', "line 1, documents is no JSON"),
        ("q.jsonl", '{"messages": {"role": "user"}}', "messages is no list"),
        ("q.csv", "text\nWhy?", "line 2: it needs a column question, or messages. What is there: text."),
        ("q.jsonl", '{"id": 1, "question": " "}', "question is empty"),
        ("q.csv", "question,id\n,7", "question is empty"),
        ("q.jsonl", '{"question": 5}', "question is no text, but 5."),
        ("q.txt", "Why?", "not as .txt"),
        ("q", "Why?", "without a suffix"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path, name, text, said):
    with pytest.raises(SotConfigError, match=said):
        list(file_of(tmp_path, name, text))


def test_a_table_that_is_broken_is_named(tmp_path):
    with pytest.raises(SotConfigError, match=r"q.csv can't be read: field larger than field limit"):
        list(file_of(tmp_path, "q.csv", f"question\n{'a' * 10_000_001}\n"))
    pytest.importorskip("pyarrow")
    with pytest.raises(SotConfigError, match=r"q.parquet can't be read: Parquet magic bytes not found"):
        list(file_of(tmp_path, "q.parquet", "Why, and how, and when?"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SotConfigError, match="No such file"):
        list(QuestionFile(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(("name", "text"), [("q.jsonl", ""), ("q.jsonl", "\n\n"), ("q.csv", "id,question\n")])
def test_a_file_without_a_question_is_an_error_and_no_job_that_is_done(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(SotConfigError, match="holds no questions"):
        list(QuestionFile(tmp_path / name))
