"""What a batch remembers of itself."""

import json

import pytest

from sot_graph import SotConfigError
from sot_graph.batch.answer_file import AnswerFile

USAGE = {"total": {"input_tokens": 10, "output_tokens": 5, "calls": 4}}
WHOLE = {
    "id": "a",
    "answer": "Light 😀.",
    "route": "skeleton",
    "statuses": ["ok", "ok"],
    "usage": USAGE,
    "seconds": 1.0,
}
UNFINISHED = {**WHOLE, "id": "b", "statuses": ["ok", "failed"], "expansions": [{"index": 1}, {"index": 2}]}
FAILED = {"id": "c", "error": "the model did not answer in time", "seconds": 1.0}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.jsonl"


def written(path, *records):
    with AnswerFile(path) as answers:
        for record in records:
            answers.append(record)
        return answers.tally


def test_what_was_written_is_known_to_the_next_process(path):
    tally = written(path, WHOLE, UNFINISHED, FAILED)
    assert (tally.answered, tally.failed, tally.incomplete, tally.points, tally.calls) == (2, 1, 1, 3, 8)
    with AnswerFile(path) as again:
        assert again.tally == tally
        assert [name in again for name in "abcd"] == [True, True, True, False]
        assert [again.unfinished({"id": name}) for name in "abc"] == [None, UNFINISHED, FAILED]


def test_the_last_line_of_a_question_counts(path):
    tally = written(path, FAILED, UNFINISHED, {**WHOLE, "id": "c"}, {**WHOLE, "id": "b"})
    assert (tally.answered, tally.failed, tally.incomplete, tally.points) == (2, 0, 0, 4)
    with AnswerFile(path) as again:
        assert again.tally == tally
        assert [record["id"] for record in again.records()] == ["c", "b"]
        assert again.unfinished({"id": "b"}) is None


def test_an_answer_that_was_there_already_counts_once_however_often_it_is_replaced(path):
    assert written(path, WHOLE, WHOLE, WHOLE) == written(path.with_name("once.jsonl"), WHOLE)
    with AnswerFile(path) as again:
        assert (again.tally.answered, again.is_whole(WHOLE["id"])) == (1, True)


def test_each_record_says_what_made_it_and_another_model_or_other_settings_are_refused(path):
    mini, large = {"model": "mini"}, {"model": "mini", "settings": "max_points=5"}
    with AnswerFile(path, mini) as answers:
        answers.append(WHOLE)
        answers.append(FAILED)
        assert list(answers.records()) == [WHOLE | mini, FAILED | mini]
    AnswerFile(path, mini).close()
    for other, said in ((large, r"of mini \(default settings\), not of mini \(max_points=5\)"), ({"model": "x"}, "x")):
        with pytest.raises(SotConfigError, match=f"{said}.*another --out"):
            AnswerFile(path, other)


def test_records_that_do_not_say_what_made_them_and_failures_are_accepted(path):
    with AnswerFile(path, {"model": "typo"}) as answers:
        answers.append(FAILED)
        answers.append(FAILED | {"expansions": [{"title": "A", "text": ""}]})
    with AnswerFile(path) as answers:
        answers.append(WHOLE)
    AnswerFile(path, {"model": "mini"}).close()


@pytest.mark.parametrize("kept", [{"expansions": [{"text": "A."}]}, {"frame": {"introduction": {"text": "A."}}}])
def test_a_failure_that_keeps_texts_of_another_model_is_refused(path, kept):
    with AnswerFile(path, {"model": "mini"}) as answers:
        answers.append(FAILED | kept)
    with pytest.raises(SotConfigError, match="of mini"):
        AnswerFile(path, {"model": "x"})
    AnswerFile(path, {"model": "mini"}).close()


LONG_LINE = json.dumps({**WHOLE, "id": "b", "answer": "x" * 200_000}).encode()


@pytest.mark.parametrize("half", [LONG_LINE[:1], LONG_LINE[:20], LONG_LINE[:200_000], bytes(40), b"  "])
def test_half_a_line_is_cut_off(path, half):
    """Also what a power failure leaves of one: a file that is longer than what was written."""
    written(path, WHOLE)
    before = path.read_bytes()
    path.write_bytes(before + half)
    with AnswerFile(path) as again:
        assert "b" not in again
        again.append({**WHOLE, "id": "c"})
    assert path.read_bytes().startswith(before)
    assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()] == ["a", "c"]


def test_a_file_of_half_a_line_only_is_empty_afterwards(path):
    path.write_text('{"id": "a"')
    with AnswerFile(path) as again:
        assert "a" not in again
    assert path.read_text() == ""


def test_a_second_batch_on_the_same_file_is_refused(path):
    with AnswerFile(path), pytest.raises(SotConfigError, match="another batch writes to it"):
        AnswerFile(path)
    written(path, WHOLE)


ASKED = '{"id": "a", "question": "Why?"}'


@pytest.mark.parametrize("text", ["Dear diary,\n", "Dear diary,", f"{ASKED}\n{ASKED}", ASKED, "question\nWhy?\nHow?"])
def test_a_file_of_something_else_is_refused_and_left_alone(path, text):
    path.write_text(text)
    with pytest.raises(SotConfigError, match="line 1 is no record"):
        AnswerFile(path)
    assert path.read_text() == text


def test_a_line_that_lacks_but_its_end_is_kept(path):
    path.write_text(f"{json.dumps(WHOLE)}\n{json.dumps(FAILED)}")
    written(path, {**WHOLE, "id": "b"})
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "c", "b"]


def test_a_line_that_has_no_room_leaves_no_half_of_itself(path):
    resource = pytest.importorskip("resource")
    with AnswerFile(path) as answers:
        answers.append(WHOLE)
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 30, limits[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                answers.append(UNFINISHED)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        assert "b" not in answers


@pytest.mark.parametrize("line", ['{"answer": "x"}', '{"id": "a", "usage": "much"}'])
def test_lines_of_something_else_are_refused_and_left_alone(path, line):
    path.write_text(f"{json.dumps(WHOLE)}\n{line}\n")
    before = path.read_bytes()
    with pytest.raises(SotConfigError, match="line 2 is no record of a batch"):
        AnswerFile(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("tokens", "unpriced"), [(10, 1), (0, 0)])
def test_what_was_not_asked_has_no_price_and_needs_none(path, tokens, unpriced):
    usage = {"total": {"input_tokens": tokens, "output_tokens": 0, "calls": 4, "cache_hits": 1}}
    assert written(path, {**FAILED, "usage": usage}).unpriced == unpriced


def test_half_a_surrogate_pair_is_written_and_read(path):
    written(path, {**WHOLE, "id": "\ud800"})
    with AnswerFile(path) as again:
        assert "\ud800" in again


def test_parquet_has_a_row_a_question(path, tmp_path):
    reading = pytest.importorskip("pyarrow.parquet")
    with AnswerFile(path) as answers:
        answers.write_parquet(tmp_path / "answers.parquet")
        assert reading.read_table(tmp_path / "answers.parquet").num_rows == 0
        for record in (FAILED, WHOLE, {**WHOLE, "id": "c"}, {**WHOLE, "id": "\ud800"}):
            answers.append(record)
        answers.write_parquet(tmp_path / "answers.parquet")
    rows = reading.read_table(tmp_path / "answers.parquet").to_pylist()
    assert [(row["id"], row["answer"], row["error"]) for row in rows] == [
        ("a", "Light 😀.", None),
        ("c", "Light 😀.", None),
        ("\\ud800", "Light 😀.", None),
    ]
    assert json.loads(rows[0]["usage"]) == USAGE
