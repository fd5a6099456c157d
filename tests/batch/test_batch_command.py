"""`sot-graph batch`, from the command line to the exit status."""

import gc
import json
import os
import signal
import threading
from contextvars import ContextVar

import pytest
from typer.testing import CliRunner

from sot_graph.cli import process
from sot_graph.cli.app import app
from sot_graph.errors import ExpansionError
from sot_graph.routing.learned_router import LearnedRouter
from sot_graph.testing import Fault, Status
from tests.batch.conftest import CALLS, row_asked_about, rows_of
from tests.support.chat_requests import number_of, one_point, point_number


@pytest.fixture
def batch(endpoint, tmp_path, monkeypatch):
    """Runs the command on so many questions, with these arguments more."""
    monkeypatch.chdir(tmp_path)

    def run(count, *arguments, questions="q.jsonl"):
        (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows_of(count))))
        shown = ["batch", questions, "--out", "a.jsonl", "-m", "m", "--base-url", endpoint.base_url, *arguments]
        return CliRunner().invoke(app, shown)

    return run


def ids_in(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_a_batch_answers_goes_on_and_says_so(batch, endpoint, tmp_path):
    ran = batch(3, "--workers", "2")
    assert ran.exit_code == 0, ran.output
    assert "3 questions answered, 9 points" in ran.stderr
    endpoint.reset()
    ran = batch(5, "--parquet", "a.parquet", "--rpm", "100000", "--tpm", "1e9")
    assert ran.exit_code == 0, ran.output
    assert "2 questions answered" in ran.stderr
    assert {row_asked_about(one.request) for one in endpoint.requests} == {"3", "4"}
    assert not any(one.request.stream for one in endpoint.requests)
    assert sorted(ids_in(tmp_path / "a.jsonl")) == list("01234")
    assert (tmp_path / "a.parquet").stat().st_size
    ran = batch(5)
    assert ran.exit_code == 0
    assert "Nothing is left to do" in ran.stderr
    assert not (tmp_path / "a.jsonl.calls").exists()


def test_a_dry_run_answers_twenty_from_all_over_the_file_and_keeps_them(batch, endpoint, tmp_path):
    ran = batch(100, "--dry-run")
    assert ran.exit_code == 0, ran.output
    assert "All 100 questions would take about 400 calls" in ran.stderr
    assert sorted(map(int, ids_in(tmp_path / "a.jsonl"))) == list(range(0, 100, 5))


def test_a_dry_run_of_less_than_twice_twenty_reaches_the_end_of_the_file(batch, endpoint, tmp_path):
    assert batch(39, "--dry-run").exit_code == 0
    asked = sorted(map(int, ids_in(tmp_path / "a.jsonl")))
    assert (len(asked), asked[0], asked[-1]) == (20, 0, 37)


def test_a_second_dry_run_estimates_from_the_answers_that_are_there_and_asks_nothing(batch, endpoint):
    batch(100, "--dry-run")
    endpoint.reset()
    ran = batch(100, "--dry-run")
    assert ran.exit_code == 0, ran.output
    assert "The other 80 questions would take about 320 calls" in ran.stderr
    assert endpoint.requests == []


def test_a_dry_run_after_a_few_answers_speaks_of_the_others(batch):
    batch(5)
    assert "The other 75 questions would take about 300 calls" in batch(100, "--dry-run").stderr


def test_answers_of_another_model_or_other_settings_are_not_mixed_into_a_file(batch, endpoint, tmp_path):
    assert batch(1, "--max-points", "5").exit_code == 0
    record = json.loads((tmp_path / "a.jsonl").read_text())
    assert (record["model"], record["settings"]) == ("m", "max_points=5")
    endpoint.reset()
    for other in (["-m", "other", "--max-points", "5"], [], ["--max-points", "5", "--router", "learned"]):
        ran = batch(2, *other)
        assert ran.exit_code == 2
        assert "a.jsonl holds answers of m (max_points=5), not of " in ran.stderr
        assert "--out" in ran.stderr
    assert endpoint.requests == []
    assert batch(2, "--max-points", "5", "--rpm", "100000").exit_code == 0


def test_another_file_of_weights_is_another_setting_and_the_same_by_another_name_is_not(batch, tmp_path):
    for name in ("mine.json", "same.json"):
        LearnedRouter().save(tmp_path / name)
    assert batch(1, "--router", "learned:mine.json").exit_code == 0
    assert batch(2, "--router", "learned:same.json").exit_code == 0
    weights = json.loads((tmp_path / "mine.json").read_text())
    (tmp_path / "mine.json").write_text(json.dumps(weights | {"bias": weights["bias"] + 1}))
    ran = batch(3, "--router", "learned:mine.json")
    assert ran.exit_code == 2
    assert "name another --out" in ran.stderr


def test_a_server_without_batches_is_said_to_be_one(batch, endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    ran = batch(1, "--provider-batch", "openai")
    assert ran.exit_code == 2
    assert f"{endpoint.base_url} takes no batches (HTTP 404): leave --provider-batch out." in ran.stderr


def test_rows_that_have_changed_since_they_were_answered_are_said(batch, endpoint, tmp_path):
    assert batch(2).exit_code == 0
    asked = len(endpoint.requests)
    rows = [*rows_of(1), {"id": "1", "question": "Question 8: why?"}]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ran = batch(0, questions="other.jsonl")
    assert "Rows that have changed since they were asked aren't asked again: 1. The first: 1." in ran.stderr
    assert len(endpoint.requests) == asked
    assert "have changed" not in batch(2).stderr


def test_of_a_row_that_has_changed_no_text_of_the_old_one_is_kept(batch, endpoint, tmp_path):
    endpoint.faults = [Fault(Status(400), point_number(2))]
    assert "1 answers lack a text that failed: --retry-errors writes it." in batch(1).stderr
    endpoint.faults = []
    asked = len(endpoint.requests)
    (tmp_path / "other.jsonl").write_text(json.dumps({"id": "0", "question": "Question 8: why?"}))
    ran = batch(0, "--retry-errors", questions="other.jsonl")
    assert ran.exit_code == 0, ran.output
    assert "have changed" not in ran.stderr
    assert all("Question 8" in logged.request.text for logged in endpoint.requests[asked:])
    assert len(endpoint.requests) > asked + 3


def test_rows_with_an_id_seen_before_are_said(batch, tmp_path):
    rows = [*rows_of(2), {"id": "0", "question": "Question 7: why?"}, {"id": "1", "question": "Question 8: why?"}]
    (tmp_path / "twice.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ran = batch(0, questions="twice.jsonl")
    assert ran.exit_code == 0, ran.output
    assert "Rows with an id seen before aren't asked: 2. The first: twice.jsonl, line 3." in ran.stderr


def test_a_file_of_questions_that_can_not_be_read_leaves_no_file_of_answers(batch, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"question": "Why?"}\n{"id": 1}')
    assert batch(0, questions="bad.jsonl").exit_code == 2
    assert not (tmp_path / "a.jsonl").exists()


def test_an_empty_file_that_was_there_before_stays(batch, tmp_path):
    (tmp_path / "a.jsonl").touch()
    assert batch(0, questions="missing.jsonl").exit_code == 2
    assert (tmp_path / "a.jsonl").exists()


def test_garbage_is_collected_seldom_while_the_command_answers_and_as_ever_afterwards(batch, endpoint, monkeypatch):
    respond, before = endpoint.responder, gc.get_threshold()
    seen = set()
    endpoint.responder = lambda request: (
        seen.add((gc.get_threshold(), gc.get_freeze_count() > 100_000)) or respond(request)
    )
    assert batch(1).exit_code == 0
    assert seen == {((50_000, 20, 10), True)}
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_failures_are_said_and_retried(batch, endpoint, tmp_path):
    endpoint.faults = [
        Fault(Status(400), lambda request: row_asked_about(request) == "1"),
        Fault(Status(400), lambda request: one_point(request) and number_of(request) == 2),
    ]
    ran = batch(3)
    assert ran.exit_code == 1
    assert "1 questions have no answer" in ran.stderr
    assert "--retry-errors" in ran.stderr
    endpoint.faults = []
    endpoint.reset()
    ran = batch(3, "--retry-errors")
    assert ran.exit_code == 0, ran.output
    assert len(endpoint.requests) == CALLS + 2
    assert "3 questions answered, 5 points" in ran.stderr  # of the points that are new
    assert batch(3, "--retry-errors").exit_code == 0


def test_a_dry_run_of_what_failed_estimates_it(batch, endpoint, tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"id": "{number}", "error": "It failed."}}\n' for number in range(40)))
    ran = batch(40, "--dry-run", "--retry-errors")
    assert "20 questions answered, 60 points" in ran.stderr
    assert "All 40 questions would take about 160 calls" in ran.stderr


def test_an_estimate_is_by_all_that_were_tried_and_of_none_nothing_is_said(batch, endpoint, tmp_path):
    usage = {"total": {"calls": 4, "input_tokens": 100, "output_tokens": 100}}
    kept = [{"error": "It failed."}, {"answer": "A.", "route": "direct", "statuses": []}]
    lines = [{"id": str(number), **kept[number % 2], "usage": usage} for number in range(40)]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert "The other 20 questions would take about 80 calls" in batch(60, "--dry-run").stderr
    ran = batch(50, "--dry-run", "--retry-errors")
    assert "The 20 answers that it is estimated from are kept" in ran.stderr
    (tmp_path / "a.jsonl").unlink()
    batch(5)
    assert "would take" not in batch(10, "--dry-run").stderr


def test_a_wrong_key_ends_it_with_the_providers_words(batch, endpoint, tmp_path):
    endpoint.faults = [Fault(Status(401, message="Incorrect API key provided"))]
    ran = batch(100, "--workers", "2")
    assert ran.exit_code == 1
    assert "5 questions in a row were refused" in ran.stderr
    assert "Incorrect API key provided" in ran.stderr
    assert ids_in(tmp_path / "a.jsonl") == []


def test_of_a_short_file_too_the_reason_is_said_and_nothing_contradicts_it(batch, endpoint, tmp_path):
    endpoint.faults = [Fault(Status(401, message="Incorrect API key provided"))]
    first = batch(3)
    endpoint.faults = []
    again = batch(3)
    for ran in (first, again):
        assert ran.exit_code == 1
        assert "3 questions have no answer" in ran.stderr
        assert "Incorrect API key provided" in ran.stderr
        assert "--retry-errors" in ran.stderr
        assert "Nothing is left to do" not in ran.stderr
    assert batch(3, "--retry-errors").exit_code == 0
    assert "Nothing is left to do" in batch(3).stderr


@pytest.mark.parametrize("questions", [100, 2])
def test_ctrl_c_finishes_what_is_in_flight(batch, endpoint, tmp_path, monkeypatch, questions):
    ended = []

    def end_process(status):
        ended.append((status, (tmp_path / "a.parquet").exists(), (tmp_path / "a.jsonl.calls").exists()))
        raise SystemExit(status)

    monkeypatch.setattr(process, "_owns_process", ContextVar("owns", default=True))
    monkeypatch.setattr(process, "end_process", end_process)
    with endpoint.hold(3, timeout=60) as hold:

        def interrupt():
            endpoint.wait_for(lambda log: len(log) >= 2, timeout=60)
            os.kill(os.getpid(), signal.SIGINT)
            hold.release()

        thread = threading.Thread(target=interrupt)
        thread.start()
        ran = batch(questions, "--workers", "2", "--parquet", "a.parquet")
        thread.join()
    is_done = questions == 2
    assert ended == ([] if is_done else [(130, True, False)])
    assert ran.exit_code == (0 if is_done else 130)
    assert "Finishing 2 questions" in ran.stderr
    assert ("The same command goes on from here." in ran.stderr) != is_done
    assert len(ids_in(tmp_path / "a.jsonl")) == 2
    assert len(endpoint.requests) == 2 * CALLS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shard", "0/3"], "3/16"),
        (["--parquet", "none/a.parquet"], "there is no folder none"),
        (["--parquet", "."], "--parquet .: that is a folder"),
        (["--parquet", "a.jsonl"], "is the file of --out, too"),
        (["--out", "none/a.jsonl"], "can't be written"),
        (["--out", "a" * 300], "can't be written: File name too long"),
        (["--out", "-"], "need a file"),
        (["--out", "/dev/null"], "no ordinary file, but a pipe or a device"),
        (["--out", "."], "no ordinary file, but a folder"),
        (["--provider-batch", "openai", "--workers", "2"], "has no dry run, workers"),
    ],
)
def test_a_mistake_is_found_before_the_model_is_asked(batch, endpoint, arguments, said):
    ran = batch(1, *arguments)
    assert ran.exit_code == 2
    assert said in ran.stderr
    assert endpoint.requests == []


def test_a_budget_ends_it_and_is_for_the_whole_file(batch, endpoint, tmp_path):
    pytest.importorskip("genai_prices")
    ran = batch(3, "--workers", "1", "-m", "gpt-4o-mini")
    assert "dollars" in ran.stderr
    spent = sum(json.loads(line)["usage"]["cost"]["total"] for line in (tmp_path / "a.jsonl").read_text().splitlines())
    ran = batch(100, "--workers", "1", "-m", "gpt-4o-mini", "--budget", str(spent * 2))
    assert ran.exit_code == 1
    assert "The budget of" in ran.stderr
    assert len(ids_in(tmp_path / "a.jsonl")) == pytest.approx(6, abs=1)


def test_a_budget_holds_while_every_question_fails(batch, monkeypatch):
    pytest.importorskip("genai_prices")
    asked = []

    class Failing:
        async def ainvoke(self, given, **_):
            asked.append(given)
            error = ExpansionError("None of the points could be written.", [])
            error.usage = {"total": {"calls": 1, "input_tokens": 9, "output_tokens": 9}, "cost": {"total": 1.0}}
            raise error from ConnectionError("It is down.")

    monkeypatch.setattr("sot_graph.graph.create_sot_graph", lambda *_, **__: Failing())
    ran = batch(20, "-m", "gpt-4o-mini", "--workers", "1", "--budget", "3")
    assert "The budget of 3 dollars is used up" in ran.stderr
    assert "0 questions answered, 3 without an answer" in ran.stderr
    assert len(asked) == 3


def test_a_budget_for_a_model_without_a_price_is_refused_before_the_first_call(batch, endpoint):
    pytest.importorskip("genai_prices")
    for dry in ([], ["--dry-run"]):
        ran = batch(100, "--budget", "1", *dry)
        assert ran.exit_code == 2
        assert "doesn't know what m costs" in ran.stderr
    assert endpoint.requests == []


def test_a_budget_that_is_used_up_begins_nothing(batch, endpoint, tmp_path):
    pytest.importorskip("genai_prices")
    assert batch(3, "-m", "gpt-4o-mini").exit_code == 0
    spent = sum(json.loads(line)["usage"]["cost"]["total"] for line in (tmp_path / "a.jsonl").read_text().splitlines())
    endpoint.reset()
    for budget in (spent, 0):
        ran = batch(100, "-m", "gpt-4o-mini", "--budget", str(budget))
        assert ran.exit_code == 1
        assert "The budget of" in ran.stderr
        assert endpoint.requests == []


def test_a_budget_that_is_all_but_used_up_begins_no_more_than_it_pays_for(batch, endpoint, tmp_path):
    pytest.importorskip("genai_prices")
    batch(3, "-m", "gpt-4o-mini")
    spent = sum(json.loads(line)["usage"]["cost"]["total"] for line in (tmp_path / "a.jsonl").read_text().splitlines())
    batch(100, "-m", "gpt-4o-mini", "--budget", str(spent * 2))
    assert len(ids_in(tmp_path / "a.jsonl")) == pytest.approx(6, abs=1)


def test_what_is_kept_of_a_failed_question_is_dropped_unless_it_is_tried_again(batch, tmp_path):
    kept = tmp_path / "a.jsonl.calls"
    (tmp_path / "a.jsonl").write_text('{"id": "1", "error": "It failed."}\n')
    kept.write_text('{"id": "1", "key": "k", "value": "v"}\n')
    assert batch(3).exit_code == 1
    assert not kept.exists()


def test_a_file_of_something_else_in_place_of_what_is_kept_is_bad_usage(batch, endpoint, tmp_path):
    (tmp_path / "a.jsonl.calls").write_text('{"a": 1}\n')
    ran = batch(3)
    assert ran.exit_code == 2
    assert "a.jsonl.calls, line 1 is no record of a batch" in " ".join(ran.stderr.split())
    assert endpoint.requests == []
