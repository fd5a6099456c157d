"""What is kept of questions in flight, and for how long."""

import json

import pytest

from sot_graph.batch import call_journal
from sot_graph.batch.call_journal import CallJournal

SPACE = ("sot_graph", "1")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.jsonl.calls"


def opened(path, *done):
    return CallJournal(path, done.__contains__)


def keep(journal, name, **texts):
    journal.begin(name)
    journal.set({(SPACE, key): (text, None) for key, text in texts.items()})


def kept(journal, name, *keys):
    journal.begin(name)
    return {key: text for (_, key), text in journal.get([(SPACE, key) for key in keys]).items()}


def test_a_question_gets_what_was_written_for_it_and_nothing_of_anothers(path):
    with opened(path) as journal:
        keep(journal, "1", a="A", b="B")
        assert kept(journal, "1", "a", "c") == {"a": "A"}
        assert kept(journal, "2", "a") == {}
    with opened(path) as journal:
        assert kept(journal, "1", "a", "b") == {"a": "A", "b": "B"}


def test_what_has_an_answer_is_forgotten_and_an_empty_file_removed(path):
    with opened(path) as journal:
        keep(journal, "1", a="A")
        keep(journal, "2", a="A")
        journal.end("1")
        assert kept(journal, "1", "a") == {}
    with opened(path, "1", "2") as journal:  # its answer was written, and then the process was killed
        assert kept(journal, "2", "a") == {}
    assert not path.exists()


def test_the_file_holds_the_questions_in_flight_however_many_were_before(path, monkeypatch):
    monkeypatch.setattr(call_journal, "_MOST_DEAD_LINES", 10)
    path.with_name(f"{path.name}.new").write_text("half a li")  # of a process that was killed
    with opened(path) as journal:
        keep(journal, "in flight", a="A")
        for number in range(25):
            keep(journal, str(number), a="A")
            journal.end(str(number))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert lines[0] == {"id": "in flight", "key": "a", "value": "A"}
        assert len(lines) <= 11
        keep(journal, "in flight", b="B")
    with opened(path) as journal:
        assert kept(journal, "in flight", "a", "b") == {"a": "A", "b": "B"}
