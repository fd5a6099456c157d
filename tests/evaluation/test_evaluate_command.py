"""`sot-graph evaluate` from the command line to its files, and as an experiment of LangSmith."""

import gc
import json
import os
import signal
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sot_graph.cli.app import app
from sot_graph.evaluation.arms import Arm
from sot_graph.evaluation.question_sets import questions_of_examples
from sot_graph.evaluation.study import Journal, Study, StudyPlan, evaluate_on_langsmith
from sot_graph.testing import Fault, Physics, ScriptedChatModel, SkeletonResponder, Status
from tests.support.trace_recorder import TraceRecorder
from tests.support.watched_endpoint import WatchedEndpoint

TEXTS = ["How can I sleep better?", "How do plants grow?", "What is 17 * 23?"]


@pytest.fixture
def endpoint():
    with WatchedEndpoint(SkeletonResponder(points=3), physics=Physics.instant()) as running:
        yield running


@pytest.fixture
def command(tmp_path, endpoint, monkeypatch):
    """Runs the command in this test's folder, on three questions."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # where Inspect notes which logs it is writing
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "")
    del os.environ["PYTHON_DOTENV_DISABLED"]  # what the command makes of it ends with the test
    monkeypatch.chdir(tmp_path)
    Path("q.jsonl").write_text("".join(json.dumps({"question": text, "category": "c"}) + "\n" for text in TEXTS))

    def run(*arguments):
        model = ("--model", "m", "--base-url", endpoint.base_url)
        return CliRunner().invoke(app, ["evaluate", *arguments, *model])

    return run


@pytest.mark.timeout(600)  # Inspect alone takes seconds to import, and minutes on a machine that is busy
# Inspect and the packages that it imports warn of their own use of one another.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
def test_the_command_answers_judges_and_reports(command, endpoint):
    Path(".env").write_text("SOT_TEST_DOTENV=read\n")
    done = command("q.jsonl", "--out", "runs/x")
    assert done.exit_code == 0, done.output
    assert "SOT_TEST_DOTENV" not in os.environ  # whose file it is, nobody knows
    asked = len(endpoint.requests)
    judged = command("q.jsonl", "--out", "runs/x", "--judge", "j", "--judge-base-url", endpoint.base_url)
    assert judged.exit_code == 0, judged.output
    assert len(endpoint.requests) == asked + 2 * len(TEXTS)  # the answers were kept
    assert "Net win rate: +0.0 points" in judged.stdout
    assert {path.name for path in Path("runs/x").iterdir()} == {
        *("journal.jsonl", "logs", "report.html", "report.md", "rows.jsonl")
    }
    rows = [json.loads(line) for line in Path("runs/x/rows.jsonl").read_text().splitlines()]
    assert [row["question"] for row in rows] == TEXTS
    from inspect_ai.log import list_eval_logs, read_eval_log

    logs = [read_eval_log(info) for info in list_eval_logs("runs/x/logs")]
    assert [log.status for log in logs] == ["success", "success"]
    last = max(logs, key=lambda log: len(log.results.scores))
    scores = {score.name: score.metrics["mean"].value for score in last.results.scores}
    assert scores["general"] == 0.0
    assert scores["general: conflict"] == 1.0
    assert "skeleton: equal_openings" in scores

    endpoint.faults = [Fault(Status(401))]
    refused = command("q.jsonl", "--out", "runs/y")
    assert refused.exit_code == 1
    assert "401" in refused.stderr or "key" in refused.stderr


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
def test_ctrl_c_is_status_130_and_the_same_command_goes_on(command, endpoint):
    with endpoint.hold(100, timeout=300):

        def interrupt():
            endpoint.wait_for(lambda log: len(log) >= 2, timeout=300)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        stopped = command("q.jsonl", "--out", "runs/x")
        thread.join()
    assert stopped.exit_code == 130, stopped.output
    assert "The same command goes on from here." in stopped.stderr
    assert stopped.stderr.splitlines()[-1] == "Interrupted."
    done = command("q.jsonl", "--out", "runs/x")
    assert done.exit_code == 0, done.output


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
def test_a_study_without_an_answer_is_a_failed_run_that_says_why_everywhere(command, endpoint):
    endpoint.faults = [Fault(Status(400, message="no\nsuch luck."))]
    done = command("q.jsonl", "--out", "runs/x")
    assert done.exit_code == 1
    told = "Without an answer: 3 by direct and 3 by skeleton. These questions are in no other figure. The first: "
    for text in (done.stdout, Path("runs/x/report.md").read_text(), Path("runs/x/report.html").read_text()):
        assert told in text
        assert "no such luck" in text
    assert done.stderr.splitlines()[-1] == "sot-graph: no question has an answer. The same command asks them again."
    endpoint.faults = []
    assert command("q.jsonl", "--out", "runs/x").exit_code == 0


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
def test_a_judge_that_there_is_not_is_named_with_its_options_and_the_answers_are_reported(
    command, endpoint, unused_tcp_port
):
    endpoint.faults = [Fault(Status(404, message="There is no j."), lambda request: "<first_answer>" in request.text)]
    for url, said in (
        (endpoint.base_url, "There is no j"),
        (f"http://127.0.0.1:{unused_tcp_port}/v1", "not be reached"),
    ):
        done = command("q.jsonl", "--out", "runs/x", "--judge", "j", "--judge-base-url", url)
        assert done.exit_code == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("sot-graph: the judge j gave no verdict of 3 pairs: ")
        assert said in last
        assert "--judge-base-url" in last
        for text in (done.stdout, Path("runs/x/report.md").read_text()):
            assert "no usable verdict of 3 of 3 pairs. The first: " in text
            assert "skeleton" in text


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
def test_the_embedded_model_of_inspects_own_command_runs_until_the_process_ends(tmp_path, monkeypatch):
    from sot_graph.evaluation import inspect_task

    open_models = []

    @contextmanager
    def local_model(_path):
        open_models.append(ScriptedChatModel(lambda _: "Because."))
        yield open_models[0]
        open_models.clear()

    monkeypatch.setattr("sot_graph.local.local_model", local_model)
    monkeypatch.setattr(inspect_task, "_until_exit", until_exit := ExitStack())
    (tmp_path / "q.jsonl").write_text('{"question": "Why?"}')
    inspect_task.evaluation(str(tmp_path / "q.jsonl"), model="m.gguf", out=str(tmp_path / "runs"))
    gc.collect()
    assert [model.invoke("Why?").text for model in open_models] == ["Because."]
    until_exit.close()
    assert open_models == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give the questions"),
        (["q.jsonl", "--langsmith", "plants"], "or --langsmith, not both"),
        (["nowhere.jsonl"], "nowhere.jsonl can't be read"),
        (["q.jsonl", "--arms", "direct", "sideways"], "an arm begins with direct or skeleton"),
        (["q.jsonl", "--arms", "direct", "direct"], "nothing to compare"),
        (["q.jsonl", "--arms", "direct", "--out", "runs/x"], "'--arms': it takes two ways, such as"),
        (["q.jsonl", "--arms", "direct", "skeleton,dispatch=fast"], "skeleton,dispatch=fast': dispatch='fast'"),
        (["q.jsonl", "--arms", "direct", "skeleton,skeleton_model=nope:x"], "nope"),
        (["q.jsonl", "--judge", "openai:"], "--judge is 'openai:', which names no model"),
        (["q.jsonl", "--judge", "http://a/v1"], "not a model's name: give --judge-base-url, and its name there"),
        (["q.jsonl", "--limit", "0"], "'--limit': Input should be greater than or equal to 1"),
        (["q.jsonl", "--workers", "-1"], "'--workers': Input should be greater than or equal to 1"),
        (["own", "more"], "There is more than the command takes: 'more'"),
    ],
)
def test_bad_usage_is_told_before_anything_is_asked(command, endpoint, arguments, said):
    done = command(*arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert endpoint.requests == []


def test_a_judge_without_a_key_is_bad_usage_that_names_its_options(command, endpoint, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    done = command("q.jsonl", "--judge", "j")
    assert done.exit_code == 2
    for said in ("the judge j", "OPENAI_API_KEY", "--judge,", "--judge-base-url"):
        assert said in done.stderr
    assert endpoint.requests == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "other"}, "holds a study with model 'other', not 'm'"),
        ({"model": "m", "base_url": "http://other/v1"}, "holds a study with base_url 'http://other/v1', not"),
    ],
)
def test_the_folder_of_another_study_is_bad_usage_and_no_model_is_loaded(command, endpoint, settings, said):
    Journal(Path("journal.jsonl"), settings).close()
    done = command("q.jsonl", "--out", ".")
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert endpoint.requests == []


def test_a_dataset_that_langsmith_has_not_is_bad_usage(command, endpoint, monkeypatch):
    with TraceRecorder(replies={"/datasets": []}) as recorder:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", recorder.url)
        monkeypatch.setenv("LANGSMITH_API_KEY", "test")
        done = command("--langsmith", "plants")
    assert done.exit_code == 2
    assert "LangSmith doesn't give the dataset 'plants': Dataset plants not found" in " ".join(done.stderr.split())
    assert endpoint.requests == []


DATASET = {"id": "11111111-1111-1111-1111-111111111111", "name": "plants", "created_at": "2026-01-01T00:00:00Z"}
EXAMPLES = [
    {
        "id": f"22222222-2222-2222-2222-22222222222{number}",
        "dataset_id": DATASET["id"],
        "inputs": {"question": text},
        "outputs": {},
        "metadata": {"category": f"c{number}"},
        "created_at": "2026-01-01T00:00:00Z",
        "modified_at": "2026-01-01T00:00:00Z",
    }
    for number, text in enumerate([*TEXTS, TEXTS[0]])
]


async def test_a_study_is_an_experiment_of_langsmith_with_the_scores_as_feedback(tmp_path, endpoint):
    experiment = {"id": "33333333-3333-3333-3333-333333333333", "name": "x", "start_time": DATASET["created_at"]}
    experiment |= {"tenant_id": experiment["id"], "reference_dataset_id": DATASET["id"]}
    replies = {
        "/datasets": [DATASET],
        f"/datasets/{DATASET['id']}": DATASET,
        "/examples": EXAMPLES,
        "/sessions": experiment,
        f"/sessions/{experiment['id']}": experiment,
    }
    with TraceRecorder(replies=replies) as recorder:
        client = recorder.client()
        questions = questions_of_examples(client.list_examples(dataset_name="plants"), "plants")
        assert [question.text for question in questions] == [*TEXTS, TEXTS[0]]
        arms = (Arm.parse("direct"), Arm.parse("skeleton"))
        plan = StudyPlan(out=tmp_path, questions=questions, arms=arms, model="m", judge="j", source="langsmith:plants")
        study = Study(plan, endpoint.chat_model(), endpoint.chat_model())
        try:
            rows = await evaluate_on_langsmith(study, "plants", workers=2, client=client)
        finally:
            study.close()
        feedback = recorder.feedback
        roots = [root for root in recorder.roots() if root.fields.get("reference_example_id")]
    assert {row["question"] for row in rows} == set(TEXTS)
    # Two examples with the same question keep their own ids and categories.
    wanted = [(example["id"], example["metadata"]["category"]) for example in EXAMPLES]
    assert sorted((row["id"], row["category"]) for row in rows) == wanted
    assert {root.fields["reference_example_id"] for root in roots} == {example["id"] for example in EXAMPLES}
    keys = {each["key"] for each in feedback}
    assert {"net_general", "conflict_general", "skeleton equal_openings", "direct seconds"} <= keys
    general = [each["score"] for each in feedback if each["key"] == "net_general"]
    assert general == [0, 0, 0, 0]
