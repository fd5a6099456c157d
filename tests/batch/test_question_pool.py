"""So many questions at once, what stops them, and what is tried again."""

import asyncio
import json

import pytest
from langchain_core.runnables import RunnableLambda

from sot_graph import SotConfigError, SotOptions, create_sot_graph
from sot_graph.batch import answer_row, question_pool
from sot_graph.batch.answer_file import AnswerFile
from sot_graph.batch.question_pool import QuestionPool
from sot_graph.errors import ExpansionError
from sot_graph.testing import Fault, Status
from tests.batch.conftest import CALLS, row_asked_about, rows_of
from tests.support.chat_requests import number_of, one_point
from tests.support.http_errors import http_error


@pytest.fixture
def graph(endpoint):
    return create_sot_graph(endpoint.chat_model(), options=SotOptions(stream=False, max_retries=0))


@pytest.fixture
def answers(tmp_path):
    with AnswerFile(tmp_path / "answers.jsonl") as opened:
        yield opened


def lines_of(answers):
    return [json.loads(line) for line in answers.path.read_text().splitlines()]


async def test_every_row_is_answered_once_and_so_many_at_a_time(endpoint, graph, answers):
    taken = []

    def rows():
        for row in rows_of(20):
            taken.append(row["id"])
            yield row

    pool = QuestionPool(graph=graph, answers=answers, workers=4)
    most_ahead = []
    pool.on_change = lambda: most_ahead.append(len(taken) - answers.tally.answered)
    await pool.run(rows())
    assert sorted(int(line["id"]) for line in lines_of(answers)) == list(range(20))
    assert max(most_ahead) <= 4
    assert len(endpoint.requests) == 20 * CALLS
    assert lines_of(answers)[0].keys() == {"id", "asked", "answer", "route", "statuses", "usage", "seconds"}
    assert lines_of(answers)[0]["statuses"] == ["ok"] * 3
    assert lines_of(answers)[0]["usage"].keys() - {"cost"} == {"skeleton", "expansion", "total"}


async def test_what_is_answered_is_not_asked_again(endpoint, graph, answers):
    await QuestionPool(graph=graph, answers=answers).run(rows_of(3))
    endpoint.reset()
    await QuestionPool(graph=graph, answers=answers, retries=True).run(rows_of(5))
    assert {row_asked_about(one.request) for one in endpoint.requests} == {"3", "4"}


async def test_a_retry_writes_the_points_that_failed_and_no_others(endpoint, graph, answers):
    endpoint.faults = [Fault(Status(400), lambda request: one_point(request) and number_of(request) == 2)]
    await QuestionPool(graph=graph, answers=answers).run(rows_of(2))
    assert [line["statuses"] for line in lines_of(answers)] == [["ok", "failed", "ok"]] * 2
    endpoint.faults = []
    endpoint.reset()
    await QuestionPool(graph=graph, answers=answers).run(rows_of(2))
    assert endpoint.requests == []
    await QuestionPool(graph=graph, answers=answers, retries=True).run(rows_of(2))
    assert [number_of(one.request) for one in endpoint.requests] == [2, 2]
    last = lines_of(answers)[-1]
    assert last["statuses"] == ["ok"] * 3
    assert "expansions" not in last
    assert "**2. Beta two**\n\nAbout Beta two." in last["answer"]
    assert last["usage"]["total"]["calls"] == CALLS + 1


async def test_a_retry_takes_of_its_rate_what_it_asks(endpoint, graph, answers, monkeypatch):
    class Counting(question_pool.Pace):
        def take(self, amount):
            taken.append(amount)
            return 0.0

        correct = take

    monkeypatch.setattr(question_pool, "Pace", Counting)
    endpoint.faults = [Fault(Status(400), lambda request: one_point(request) and number_of(request) == 2)]
    for retries, calls in ((False, CALLS), (True, 1)):
        taken = []
        await QuestionPool(graph=graph, answers=answers, calls_per_minute=1.0, retries=retries).run(rows_of(1))
        assert sum(taken) == calls


async def test_a_retry_after_a_run_that_raised_writes_no_introduction_again(endpoint):
    options = SotOptions(stream=False, max_retries=0, on_point_failure="raise", frame="intro")
    graph, row = create_sot_graph(endpoint.chat_model(), options=options), rows_of(1)[0]
    endpoint.faults = [Fault(Status(400), lambda request: one_point(request) and number_of(request) == 2)]
    earlier = await answer_row(graph, row)
    endpoint.faults = []
    endpoint.reset()
    record = await answer_row(graph, row, earlier=earlier)
    assert [number_of(one.request) for one in endpoint.requests] == [2]
    assert record["answer"].startswith(earlier["frame"]["introduction"]["text"])


async def test_a_question_whose_points_all_failed_keeps_its_skeleton_for_the_retry(endpoint, graph, answers):
    endpoint.faults = [Fault(Status(400), one_point)]
    await QuestionPool(graph=graph, answers=answers).run(rows_of(1))
    assert "None of the 3 points" in lines_of(answers)[0]["error"]
    endpoint.faults = []
    endpoint.reset()
    await QuestionPool(graph=graph, answers=answers, retries=True).run(rows_of(1))
    assert [one_point(one.request) for one in endpoint.requests] == [True] * 3
    assert lines_of(answers)[-1]["statuses"] == ["ok"] * 3


@pytest.mark.parametrize("refusal", [Status(401), Status(429, body={"error": {"code": "insufficient_quota"}})])
async def test_refusals_in_a_row_end_it_and_mark_no_question(endpoint, graph, answers, refusal):
    endpoint.faults = [Fault(refusal)]
    pool = QuestionPool(graph=graph, answers=answers, workers=1)
    await pool.run(rows_of(50))
    assert "5 questions in a row were refused" in pool.stopped
    assert str(refusal.code) in pool.stopped
    assert len(endpoint.requests) == 5
    assert lines_of(answers) == []


async def test_a_row_that_is_refused_between_others_is_marked(endpoint, graph, answers):
    endpoint.faults = [Fault(Status(401), lambda request: row_asked_about(request) in ("1", "4"))]
    pool = QuestionPool(graph=graph, answers=answers, workers=1)
    await pool.run(rows_of(5))
    assert pool.stopped == ""
    assert [line["id"] for line in lines_of(answers) if "error" in line] == ["1", "4"]


async def test_an_outage_ends_it_after_a_hundred_questions_and_marks_none(endpoint, graph, answers):
    await QuestionPool(graph=graph, answers=answers).run(rows_of(3))
    endpoint.stop()
    pool = QuestionPool(graph=graph, answers=answers, workers=4)
    await pool.run(rows_of(500))
    assert "100 questions in a row had no answer" in pool.stopped
    assert f"Check that the endpoint is up and that the base URL is right: {endpoint.base_url}." in pool.stopped
    assert {line["id"] for line in lines_of(answers)} == {"0", "1", "2"}


async def test_an_answer_that_was_in_flight_when_it_ended_marks_none_of_those_that_ended_it(graph, answers):
    ended = asyncio.Event()

    class Failing:
        async def ainvoke(self, given, **how):
            if "Question 0:" not in given["question"]:
                raise ConnectionError("It is down.")
            await ended.wait()
            return await graph.ainvoke(given, **how)

    pool = QuestionPool(graph=Failing(), answers=answers, workers=2)
    pool.on_change = lambda: ended.set() if pool.stopped else None
    await pool.run(rows_of(200))
    assert [line["id"] for line in lines_of(answers)] == ["0"]


async def test_failures_before_a_stop_are_not_marked_since_nobody_knows_whose_fault_they_are(endpoint, graph, answers):
    endpoint.stop()
    pool = QuestionPool(graph=graph, answers=answers, workers=1)
    pool.on_change = lambda: pool.stop("Interrupted.")
    await pool.run(rows_of(10))
    assert lines_of(answers) == []


async def test_an_outage_of_the_points_marks_no_question_either(endpoint, graph, answers):
    endpoint.faults = [Fault(Status(503), one_point)]
    quick = create_sot_graph(endpoint.chat_model(), options=SotOptions(max_retries=0, rate_limit_patience=0))
    pool = QuestionPool(graph=quick, answers=answers, workers=8)
    await pool.run(rows_of(120))
    assert "100 questions in a row had no answer" in pool.stopped
    assert lines_of(answers) == []


async def test_a_failure_before_an_answer_is_written_also_while_it_is_being_stopped(answers):
    class Failing:
        async def ainvoke(self, given, **_):
            if "Question 0:" in given["question"]:
                raise ConnectionError("It is down.")
            pool.stop("Interrupted.")
            return {"answer": "Text.", "route": "direct", "expansions": [], "usage": {}, "finish_reason": "stop"}

    pool = QuestionPool(graph=Failing(), answers=answers, workers=1)
    await pool.run(rows_of(3))
    assert [line["id"] for line in lines_of(answers)] == ["0", "1"]


async def test_failures_that_are_not_written_yet_count_as_they_will_once_they_are(answers):
    usage = {"total": {"input_tokens": 5}, "cost": {"total": 1.0}}
    answers.append({"id": "0", "error": "It is down.", "usage": usage})

    class Failing:
        async def ainvoke(self, _input, **_):
            error = ExpansionError("None of the points could be written.", [])
            error.usage = usage
            raise error from ConnectionError("It is down.")

    pool = QuestionPool(graph=Failing(), answers=answers, workers=1, retries=True)
    known, shown = [], []
    pool.on_change = lambda: (known.append(pool.known), shown.append(pool.done.failed))
    await pool.run(rows_of(3))
    assert shown == [1, 2, 3]
    assert [(each.failed, each.dollars) for each in known] == [(1, 2.0), (2, 3.0), (3, 4.0)]
    assert pool.known == answers.tally == known[-1]


async def test_questions_that_can_not_be_answered_are_marked_and_no_start_asks_them_again(answers):
    asked = []

    class Failing:
        async def ainvoke(self, given, **_):
            asked.append(given["question"])
            raise ExpansionError("None of the points could be written.", []) from http_error(400)

    for _ in range(2):
        pool = QuestionPool(graph=Failing(), answers=answers, workers=1)
        await pool.run(rows_of(150))
    assert pool.stopped == ""
    assert len(asked) == len(set(asked)) == len(lines_of(answers)) == 150


async def test_a_question_that_can_not_be_answered_marks_none_of_those_that_an_outage_failed(answers):
    class Failing:
        async def ainvoke(self, given, **_):
            raise http_error(400) if "Question 1:" in given["question"] else ConnectionError("It is down.")

    pool = QuestionPool(graph=Failing(), answers=answers, workers=1)
    await pool.run(rows_of(150))
    assert "100 questions in a row had no answer" in pool.stopped
    assert [line["id"] for line in lines_of(answers)] == ["1"]


async def test_an_outage_ends_it_whatever_the_hundredth_failure_is(answers):
    down, refused = ConnectionError("It is down."), SotConfigError("The key is wrong.")
    failures = iter([*[down] * 99, refused])

    class Failing:
        async def ainvoke(self, _input, **_):
            raise next(failures)

    pool = QuestionPool(graph=Failing(), answers=answers, workers=1)
    await pool.run(rows_of(150))
    assert "100 questions in a row had no answer" in pool.stopped


async def test_enough_is_enough_and_what_is_in_flight_is_finished(endpoint, graph, answers):
    pool = QuestionPool(graph=graph, answers=answers, workers=2)
    pool.reason_to_stop = lambda: "enough" if answers.tally.answered >= 3 else ""
    await pool.run(rows_of(50))
    assert pool.stopped == "enough"
    assert 3 <= len(lines_of(answers)) <= 4
    assert len(endpoint.requests) == CALLS * len(lines_of(answers))


async def test_a_stop_wakes_those_who_wait_for_their_rate(graph, answers):
    pool = QuestionPool(graph=graph, answers=answers, workers=8, calls_per_minute=0.001)
    pool.on_change = lambda: pool.stop("over")
    async with asyncio.timeout(60):
        await pool.run(rows_of(8))
    assert len(lines_of(answers)) == 1


async def test_an_answer_that_cannot_be_written_ends_the_batch(graph, answers):
    def fail(_record):
        raise OSError(28, "No space left on device")

    answers.append = fail
    with pytest.raises(OSError, match="No space left"):
        await QuestionPool(graph=graph, answers=answers, workers=2).run(rows_of(10))


async def test_the_row_function_never_raises_for_a_row(endpoint, graph):
    endpoint.faults = [Fault(Status(401))]
    record = await answer_row(graph, {"question": "Why?"})
    assert record.keys() == {"id", "asked", "error", "seconds"}
    assert (await answer_row(graph, {"id": "x", "question": " "}))["error"].startswith("question is empty")


async def test_good_points_stay_whatever_a_later_try_comes_to():
    def fail(_input, **_):
        raise ConnectionError("It is down.")

    kept = {"statuses": ["ok", "failed"], "expansions": [{"title": "A"}, {"title": "B"}], "skeleton": ["A", "B"]}
    record = await answer_row(RunnableLambda(fail), {"id": "1", "question": "Why?"}, earlier={"answer": "A.", **kept})
    assert {key: record.get(key) for key in kept} == kept
    assert "It is down." in record["error"]
    assert not record.keys() & {"answer", "usage"}


async def test_a_conversation_is_a_row_too(endpoint, graph):
    messages = [{"role": "user", "content": "Hello"}, {"role": "ai", "content": "Hi"}]
    record = await answer_row(graph, {"id": 7, "messages": [*messages, {"role": "user", "content": "How?"}]})
    assert record["id"] == "7"
    assert "Hello" in str(endpoint.requests[0].request.raw)
