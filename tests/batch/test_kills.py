"""A batch is killed (`kill -9`) again and again: nothing is lost, nothing doubled."""

import asyncio
import json
import random
from collections import Counter

import pytest

from sot_graph import SotOptions, create_sot_graph
from sot_graph.batch.answer_file import AnswerFile
from sot_graph.batch.question_pool import QuestionPool
from sot_graph.testing import SimulatedEndpoint
from tests.batch.conftest import CALLS, row_asked_about, rows_of

ROWS, WORKERS, KILLS = 48, 4, 10


def answer_all(base_url, path):
    """What is killed."""

    class Anywhere:
        pass

    anywhere = Anywhere()
    anywhere.base_url = base_url
    graph = create_sot_graph(SimulatedEndpoint.chat_model(anywhere), options=SotOptions(stream=False))
    with AnswerFile(path) as answers:
        asyncio.run(QuestionPool(graph=graph, answers=answers, workers=WORKERS).run(rows_of(ROWS)))


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
        # Only questions in flight are asked again: at most one a worker, with each of its calls once.
        assert len(about.keys() - set(ids_in(path))) <= WORKERS
        assert max(about.values()) <= CALLS
        asked += len(endpoint.requests)
        endpoint.reset()
    answer_all(endpoint.base_url, path)
    asked += len(endpoint.requests)
    assert sorted(ids_in(path), key=int) == [row["id"] for row in rows_of(ROWS)]
    assert ROWS * CALLS <= asked <= (ROWS + KILLS * WORKERS) * CALLS
    assert path.read_bytes().endswith(b"\n")
