"""`sot-graph route`, and routing in `sot-graph ask`."""

import json

import pytest
from typer.testing import CliRunner

from sot_graph.cli.app import app
from sot_graph.cli.process import question_lines
from sot_graph.testing import Physics, SkeletonResponder
from tests.support.strict_endpoint import StrictEndpoint

LIST = "What are the most effective ways to deal with stress?"
SUM = "What is 17 * 23?"


@pytest.fixture
def endpoint():
    write = SkeletonResponder(points=3, words_per_point=6)
    answer = lambda request: '{"kind":"A"}' if "Which letter?" in request.last_user else write(request)  # noqa: E731
    with StrictEndpoint(answer, physics=Physics.instant()) as running:
        yield running


def command(*arguments):
    return CliRunner().invoke(app, list(arguments))


def at(endpoint):
    return "--model", "m", "--base-url", endpoint.base_url


def test_a_question_gets_its_route_confidence_and_reason_without_a_model():
    done = command("route", SUM)
    assert done.exit_code == 0
    route, reason = done.stdout.rstrip("\n").split("\t")
    assert route.startswith("direct 0.")
    assert reason


def test_json_gives_one_object_a_question(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text(f"{SUM}\n\n{LIST}\n", encoding="utf-8")
    done = command("route", "--file", str(path), "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["question"], row["route"]) for row in rows] == [(SUM, "direct"), (LIST, "skeleton")]
    assert all(0 <= row["confidence"] <= 1 and row["reason"] for row in rows)


def test_a_model_can_be_asked(endpoint):
    done = command("route", SUM, "--router", "model", *at(endpoint))
    assert done.stdout.startswith("skeleton\t")
    assert len(endpoint.requests) == 1


def test_a_cascade_asks_the_model_only_where_the_learned_router_is_unsure(endpoint):
    command("route", SUM, "--router", "cascade", *at(endpoint))
    assert endpoint.requests == []


def test_what_the_model_refuses_is_a_failed_run_and_no_bad_usage(endpoint):
    endpoint.models = {"other"}
    done = command("route", SUM, "--router", "model", *at(endpoint))
    assert done.exit_code == 1
    assert "The model `m` does not exist" in done.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["route"], "one question, or --file"),
        (["route", SUM, "--file", "x"], "one question, or --file"),
        (["route", " "], "empty"),
        (["route", "--file", "nowhere.txt"], "--file nowhere.txt can't be read: No such file or directory."),
        (["route", SUM, "--router", "model", "--base-url", "http://127.0.0.1:1/v1"], "--model"),
    ],
)
def test_bad_usage_is_status_2_with_one_line(arguments, hint):
    done = command(*arguments)
    assert done.exit_code == 2
    assert hint in done.stderr.replace("\n", " ")


def test_a_binary_file_of_questions_is_bad_usage(tmp_path):
    path = tmp_path / "questions.bin"
    path.write_bytes(b"\xff\xfe\x00")
    assert command("route", "--file", str(path)).exit_code == 2


@pytest.mark.parametrize(("question", "route"), [(SUM, "direct"), (LIST, "skeleton")])
def test_ask_takes_the_route_that_its_router_says(endpoint, question, route):
    done = command("ask", question, "--router", "learned", "--json", *at(endpoint))
    assert json.loads(done.stdout)["route"] == route


# --- The drafting call decides ---


@pytest.fixture
def deciding():
    write = SkeletonResponder(points=3, words_per_point=6)
    answer = lambda request: write(request) if "stress" in request.text else "It is 391, I think. It may be more."  # noqa: E731
    with StrictEndpoint(answer, physics=Physics.instant()) as running:
        yield running


@pytest.mark.parametrize(("question", "route"), [(SUM, "direct"), (LIST, "skeleton")])
def test_the_drafting_call_decides_and_is_asked_once(deciding, question, route):
    done = command("route", question, "--router", "draft", *at(deciding))
    assert done.stdout.split("\t")[0] == route
    assert len(deciding.requests) == 1


@pytest.mark.parametrize(("question", "calls"), [(SUM, 1), (LIST, 4)])
def test_ask_has_the_draft_decide(deciding, question, calls):
    done = command("ask", question, "--router", "draft", "--json", *at(deciding))
    result = json.loads(done.stdout)
    assert result["usage"]["total"]["calls"] == len(deciding.requests) == calls
    assert result["route"] == ("direct" if calls == 1 else "skeleton")


# --- Training ---

OWN = [
    (f"{ask} the {thing}", label)
    for thing in "abcdefghij"
    for ask, label in (("Dossier on", "skeleton"), ("Status of", "direct"))
]


def test_a_router_is_trained_measured_and_used(tmp_path, endpoint):
    labelled, saved = tmp_path / "labelled.csv", tmp_path / "my-router.json"
    labelled.write_text("question,label\n" + "\n".join(f'"{text}",{label}' for text, label in OWN), encoding="utf-8")
    done = command("route", "--train", str(labelled), "--save", str(saved))
    assert done.exit_code == 0
    assert "20 questions, 10 for a skeleton" in done.stdout
    assert "trained (5-fold)                   1.000" in done.stdout
    assert command("route", "Dossier on the k", "--weights", str(saved)).stdout.startswith("skeleton")
    assert command("route", "Dossier on the k").stdout.startswith("direct")
    assert f"--router learned:{saved}" in done.stdout
    for kind in ("learned", "cascade"):
        asked = command("ask", "Dossier on the k", "--router", f"{kind}:{saved}", "--json", *at(endpoint))
        assert json.loads(asked.stdout)["route"] == "skeleton"
    assert command("route", "Dossier on the k", "--router", f"learned:{saved}").stdout.startswith("skeleton")


@pytest.mark.parametrize("arguments", [["ask", SUM], ["route", SUM], ["batch", "q.jsonl", "--out", "a.jsonl"]])
@pytest.mark.parametrize(
    ("router", "said"),
    [
        ("coin", "not 'coin'"),
        ("model:x", "not 'model:x'"),
        ("learned:", "learned:FILE"),
        ("learned:none.json", "none.json"),
    ],
)
def test_a_router_that_there_is_not_is_bad_usage(arguments, router, said):
    done = command(*arguments, "--router", router)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_where_the_weights_are_to_go_is_looked_at_before_the_training(tmp_path):
    done = command("route", "--train", str(tmp_path / "labelled.csv"), "--save", "/nowhere/x.json")
    assert done.exit_code == 2
    assert "there is no folder /nowhere" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("name", "text"),
    [("q.jsonl", '{"id": "1", "question": "What is 17 * 23?"}\n'), ("q.csv", f"id,question\n1,{SUM}\n")],
)
def test_a_file_of_rows_is_read_as_the_batch_reads_it(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert command("route", "--file", str(tmp_path / name)).stdout.splitlines()[0].endswith(f"\t{SUM}")
    (tmp_path / name).write_text("")
    assert "no question" in command("route", "--file", str(tmp_path / name)).stderr


@pytest.mark.parametrize("row", [{"id": "1", "question": "What is 17 * 23?"}, {"question": "What is 17 * 23?"}])
def test_a_row_that_is_there_twice_has_its_line_twice(tmp_path, row):
    (tmp_path / "q.jsonl").write_text(f"{json.dumps(row)}\n" * 2)
    assert len(command("route", "--file", str(tmp_path / "q.jsonl")).stdout.splitlines()) == 2


def test_a_table_without_a_column_of_questions_says_what_it_needs(tmp_path):
    (tmp_path / "q.csv").write_text(f"{SUM}\n{SUM}\n")
    assert "it needs a column question" in command("route", "--file", str(tmp_path / "q.csv")).stderr


def measured(text, label, way):
    """A row as the evaluation or the comparison has it, of a question whose better way is `label`."""
    is_list = label == "skeleton"
    seconds = {"direct": {"seconds": 4.0}, "skeleton": {"seconds": 2.0 if is_list or way == "judged" else 5.0}}
    if way == "compared":
        return {"question": text, **seconds}
    arms = [{"arm": f"{name},max_points=5" if name == "skeleton" else name, **seconds[name]} for name in seconds]
    outcome = (0 if is_list else -1) if way == "judged" else 0
    row = {"question": text, "arms": arms, "preferences": {"general": {"outcome": outcome}}}
    if text.endswith("j"):  # the arms may stand in any order
        row |= {"arms": arms[::-1], "preferences": {"general": {"outcome": -outcome}}}
    return row if way == "judged" else {**row, "preferences": None}


@pytest.mark.parametrize("way", ["judged", "timed", "compared"])
def test_what_was_measured_labels_the_questions(tmp_path, way):
    rows, saved = tmp_path / "rows.jsonl", tmp_path / "my-router.json"
    failed = {"question": "x", "direct": {"error": "It broke."}, "skeleton": {"seconds": 1.0}}
    routed = {"question": "y", "direct": {"seconds": 2.0}, "skeleton": {"seconds": 1.9, "route": "direct"}}
    lines = [json.dumps(row) for row in [*(measured(text, label, way) for text, label in OWN), failed, routed]]
    rows.write_text("\n".join(lines), encoding="utf-8")
    done = command("route", "--train", str(rows), "--save", str(saved))
    assert "20 questions, 10 for a skeleton" in done.stdout, done.stderr
    assert command("route", "Dossier on the k", "--weights", str(saved)).stdout.startswith("skeleton")


def test_a_model_labels_the_questions(tmp_path, endpoint):
    endpoint.responder = lambda request: '{"kind":"A"}' if "Dossier" in request.last_user else '{"kind":"C"}'
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(text for text, _ in OWN), encoding="utf-8")
    done = command("route", "--train", str(questions), "--label-with", "m", "--base-url", endpoint.base_url)
    assert "20 questions, 10 for a skeleton" in done.stdout
    assert len(endpoint.requests) == 20


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Why?\nHow?", "has no column 'question'"),
        ("question\nWhy?", "has no column 'label'"),
        ("label,question\ndirect,Why?\ndirect", "row 2 has no question"),
        ("question,label\nWhy?,maybe", "not 'maybe'"),
        ("question,label\nWhy?,direct", "20 or more"),
        ('{"question": "Why?"}', "line 1 is no row of rows.jsonl"),
        ('{"question": "Why?", "arms": [{"arm": "skeleton", "seconds": 1}]}', "line 1 is no row of rows.jsonl"),
    ],
)
def test_a_file_that_can_not_teach_is_bad_usage(tmp_path, text, hint):
    path = tmp_path / "labelled.csv"
    path.write_text(text, encoding="utf-8")
    done = command("route", "--train", str(path))
    assert done.exit_code == 2
    assert hint in " ".join(done.stderr.split())


def test_what_belongs_to_training_is_refused_without_it():
    assert "belong to --train" in command("route", SUM, "--save", "x.json").stderr.replace("\n", " ")


@pytest.mark.parametrize(
    "arguments", [[SUM], ["--file", "q.txt"], ["--weights", "w.json"], ["--router", "model"], ["--json"]]
)
def test_what_belongs_to_asking_is_refused_with_training(tmp_path, arguments):
    path = tmp_path / "labelled.csv"
    path.write_text("question,label\n" + "\n".join(f'"{text}",{label}' for text, label in OWN), encoding="utf-8")
    done = command("route", "--train", str(path), *arguments)
    assert done.exit_code == 2
    assert "don't belong to --train" in " ".join(done.stderr.split())


def test_a_line_separator_of_unicode_within_a_question_ends_no_line(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "Why\u2028indeed?\x85"}\r\n\n{"question": "How?"}\n', encoding="utf-8")
    assert [json.loads(line)["question"] for line in question_lines(rows, "--train")] == [
        "Why\u2028indeed?\x85",
        "How?",
    ]
