"""A batch is killed (`kill -9`) again and again: nothing is lost, nothing doubled."""

import asyncio
import json
import random
import time
from collections import Counter

import pytest

from sot_graph import SotOptions, create_sot_graph
from sot_graph.batch.answer_file import AnswerFile
from sot_graph.batch.call_journal import CallJournal
from sot_graph.batch.question_pool import QuestionPool
from sot_graph.testing import SimulatedEndpoint
from tests.batch.conftest import CALLS, TITLES, row_asked_about, rows_of
from tests.support.chat_requests import number_of, one_point

ROWS, WORKERS, KILLS = 48, 4, 10


def answer_all(base_url, path, rows=ROWS):
    """What is killed."""

    class Anywhere:
        pass

    anywhere = Anywhere()
    anywhere.base_url = base_url
    model = SimulatedEndpoint.chat_model(anywhere)
    with AnswerFile(path) as answers, CallJournal(journal_of(path), answers.is_whole) as journal:
        graph = create_sot_graph(model, options=SotOptions(stream=False), cache=journal)
        asyncio.run(QuestionPool(graph=graph, answers=answers, journal=journal, workers=WORKERS).run(rows_of(rows)))


def journal_of(path):
    return path.with_name("answers.jsonl.calls")


def ids_in(path):
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line)["id"] for line in text[: text.rfind(b"\n") + 1].splitlines()]


@pytest.mark.xdist_group("forkserver")
def test_ten_kills_lose_nothing_and_double_nothing(endpoint, processes, tmp_path):
    path = tmp_path / "answers.jsonl"
    moments = random.Random(20)
    asked = 0
    for _ in range(KILLS):
        done = set(ids_in(path))
        process = processes.Process(target=answer_all, args=(endpoint.base_url, path))
        process.start()
        moment = moments.randint(1, 4 * CALLS)
        endpoint.wait_for(lambda log, moment=moment: len(log) >= moment, timeout=60)
        process.kill()
        process.join()
        endpoint.wait_for(lambda log: all(one.outcome for one in log))
        about = Counter(row_asked_about(one.request) for one in endpoint.requests)
        assert not done & about.keys()
        # Questions in flight go on: at most one a worker, with each of its calls once.
        assert len(about.keys() - set(ids_in(path))) <= WORKERS
        assert max(about.values()) <= CALLS
        asked += len(endpoint.requests)
        endpoint.reset()
    answer_all(endpoint.base_url, path)
    asked += len(endpoint.requests)
    assert sorted(ids_in(path), key=int) == [row["id"] for row in rows_of(ROWS)]
    # Only calls in flight are made again: a worker has a skeleton in flight, or the points of one.
    assert ROWS * CALLS <= asked <= ROWS * CALLS + KILLS * WORKERS * len(TITLES)
    assert path.read_bytes().endswith(b"\n")
    assert not journal_of(path).exists()


@pytest.mark.xdist_group("forkserver")
def test_what_was_written_of_a_question_in_flight_is_not_asked_again(endpoint, processes, tmp_path):
    path = tmp_path / "answers.jsonl"

    def is_last(request):
        return one_point(request) and number_of(request) == len(TITLES)

    with endpoint.hold(WORKERS + 1, is_last, timeout=60):
        process = processes.Process(target=answer_all, args=(endpoint.base_url, path, WORKERS))
        process.start()
        kept = WORKERS * (CALLS - 1)
        while not (journal_of(path).exists() and journal_of(path).read_bytes().count(b"\n") == kept):
            assert process.is_alive()
            time.sleep(0.01)
        process.kill()
        process.join()
    endpoint.wait_for(lambda log: all(one.outcome for one in log))
    endpoint.reset()
    answer_all(endpoint.base_url, path, WORKERS)
    assert [is_last(one.request) for one in endpoint.requests] == [True] * WORKERS
    assert sorted(ids_in(path)) == [row["id"] for row in rows_of(WORKERS)]
