"""`sot-graph compare`: both ways, as text, as JSON and as a page."""

import json

import pytest
from typer.testing import CliRunner

from sot_graph.cli.app import app
from sot_graph.testing import Fault, Physics, SimulatedEndpoint, SkeletonResponder, Status

TITLES = ["Alpha one", "Beta two", "Gamma three"]


@pytest.fixture
def endpoint():
    responder = SkeletonResponder(titles=TITLES, text=lambda ask: f"About <{ask.title or 'all'}>.")
    with SimulatedEndpoint(responder, physics=Physics.instant()) as running:
        yield running


def compare(endpoint, *arguments):
    return CliRunner().invoke(app, ["compare", *arguments, "--model", "m", "--base-url", endpoint.base_url])


def test_both_answers_and_their_figures_are_printed(endpoint):
    done = compare(endpoint, "How?")
    assert done.exit_code == 0
    assert "Answered directly\n\nAbout <all>." in done.stdout
    assert "Gamma three" in done.stdout
    assert "first word of the answer, s" in done.stdout
    assert [line.split()[-3:-1] for line in done.stdout.splitlines() if "model calls" in line] == [["1", "4"]]


def test_json_has_a_line_a_question_and_a_file_has_many(endpoint, tmp_path):
    file = tmp_path / "questions.txt"
    file.write_text("How?\nWhy?\n")
    done = compare(endpoint, "--file", str(file), "--json", "--max-points", "2")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["question"] for row in rows] == ["How?", "Why?"]
    assert [row["skeleton"]["calls"] for row in rows] == [3, 3]
    assert {row["direct"]["route"] for row in rows} == {"direct"}
    assert all(row["skeleton"]["seconds"] >= row["skeleton"]["first_word"] > 0 for row in rows)


def test_a_report_holds_both_answers_and_the_medians(endpoint, tmp_path):
    file, page = tmp_path / "questions.txt", tmp_path / "page.html"
    file.write_text("How?\nWhy?\n")
    done = compare(endpoint, "--file", str(file), "--report", str(page))
    assert done.exit_code == 0
    assert "The median of 2 questions" in done.stdout
    html = page.read_text()
    assert "The median of 2 questions" in html
    assert "About &lt;all&gt;." in html
    assert "<script" not in html


def test_that_there_is_no_answer_is_said_once(endpoint):
    endpoint.faults = [Fault(Status(200, body="<html>Log in</html>"))]
    done = compare(endpoint, "How?")
    assert done.exit_code == 1
    assert "There is no answer: No generation" in done.stdout
    assert ".." not in done.stdout


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_question_without_an_answer_takes_nothing_from_the_others(endpoint, tmp_path, arguments):
    endpoint.faults = [Fault(Status(400, message="No such luck"), lambda request: "Why?" in request.text)]
    file, page = tmp_path / "questions.txt", tmp_path / "page.html"
    file.write_text("How?\nWhy?\nWhen?\n")
    done = compare(endpoint, "--file", str(file), "--report", str(page), *arguments)
    assert done.exit_code == 1
    assert done.stdout.count("About <all>.") == page.read_text().count("About &lt;all&gt;.") == 2
    assert "No such luck" in page.read_text()
    assert "The median of 2 questions" in page.read_text()
    assert ("The median of 2 questions" in done.stdout) == (not arguments)
    assert "2 of 6 answers are missing. The first: No such luck" in " ".join(done.stderr.split())


def test_where_the_first_question_has_no_answer_at_all_no_other_is_asked(endpoint, tmp_path):
    (tmp_path / "questions.txt").write_text("One?\nTwo?\n")
    endpoint.faults = [Fault(Status(400), lambda request: "One?" in request.text)]
    ran = compare(endpoint, "--file", str(tmp_path / "questions.txt"))
    assert ran.exit_code == 1
    assert not any("Two?" in one.request.text for one in endpoint.requests)
    assert "median" not in ran.stdout


def test_a_report_that_can_not_be_written_is_told_before_anything_is_asked(endpoint, tmp_path):
    done = compare(endpoint, "How?", "--report", str(tmp_path))
    assert done.exit_code == 2
    assert "that is a folder" in " ".join(done.stderr.split())
    assert endpoint.requests == []


def test_a_wrong_number_of_points_is_told_as_the_option(endpoint):
    done = compare(endpoint, "How?", "--max-points", "0")
    assert done.exit_code == 2
    assert "sot-graph: --max-points 0" in " ".join(done.stderr.split())
    assert "arm" not in done.stderr
    assert endpoint.requests == []


def test_no_question_and_no_file_is_bad_usage(endpoint):
    assert compare(endpoint).exit_code == 2
