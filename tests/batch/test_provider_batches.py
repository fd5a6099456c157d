"""Questions answered by the providers' batches: one batch a stage, nothing asked twice, whatever is killed when."""

import json
import os
from collections import Counter, defaultdict

import httpx
import pytest
from langchain_core.runnables import RunnableLambda
from typer.testing import CliRunner

from sot_graph import SotConfigError, SotError, SotOptions, create_sot_graph
from sot_graph.batch.answer_file import AnswerFile
from sot_graph.batch.provider_batches import PROVIDERS
from sot_graph.batch.submission import RequestLedger, Submission, _endpoint
from sot_graph.cli import batch_command
from sot_graph.cli.app import app
from sot_graph.testing import SkeletonResponder
from tests.batch.conftest import CALLS, TITLES, rows_of
from tests.support.batch_apis import LoopbackAnthropicBatches, LoopbackOpenAIBatches

APIS = {"openai": LoopbackOpenAIBatches, "anthropic": LoopbackAnthropicBatches}
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
ROWS = 3


@pytest.fixture(params=["openai", "anthropic"])
def kind(request):
    if request.param == "anthropic":
        pytest.importorskip("langchain_anthropic")
    return request.param


@pytest.fixture
def api(kind, monkeypatch):
    for key in KEYS:
        monkeypatch.setenv(key, "test")
    responder = SkeletonResponder(titles=TITLES, text=lambda ask: f"About {ask.title or ask.stage}.")
    with APIS[kind](responder) as running:
        yield running


def address(kind, url):
    return f"{url}/v1" if kind == "openai" else url


class Opened:
    """A submission of its own process, as it were; closed, it may be opened again."""

    def __init__(self, kind, url, folder, *, rows=ROWS, frame="none", model="m"):
        self.answers = AnswerFile(folder / "answers.jsonl")
        self.ledger = RequestLedger(folder / "answers.jsonl.requests")
        self.said = []
        provider = PROVIDERS[kind](address(kind, url))
        options = SotOptions(stream=False, frame=frame, on_router_failure="raise")
        self.submission = Submission(
            provider=provider,
            ledger=self.ledger,
            answers=self.answers,
            rows=lambda: iter([row for row in rows_of(rows) if row["id"] not in self.answers]),
            make_graph=lambda url: create_sot_graph(provider.model(model, url), options=options),
            say=self.said.append,
        )

    def __enter__(self):
        return self.submission

    def __exit__(self, *_):
        self.ledger.__exit__()
        self.answers.__exit__()


def records_in(folder):
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def bodies_of(api):
    return Counter(json.dumps(body, sort_keys=True) for _, body in api.paid)


def test_skeletons_are_one_batch_and_points_the_next(kind, api, tmp_path):
    with Opened(kind, api.url, tmp_path) as submission:
        assert submission.submit() == ROWS
        assert [name for name, _ in api.paid] == [api.paid[0][0]] * ROWS
        assert submission.collect() == ROWS
        assert len(api.paid) == ROWS * CALLS
        assert len(api.batches) == 2
        assert submission.collect() == 0
    assert sorted(record["id"] for record in records_in(tmp_path)) == [row["id"] for row in rows_of(ROWS)]
    assert all(record["statuses"] == ["ok"] * 3 for record in records_in(tmp_path))
    assert all(record["usage"]["total"]["calls"] == CALLS for record in records_in(tmp_path))
    assert "**2. Beta two**\n\nAbout Beta two." in records_in(tmp_path)[0]["answer"]
    assert set(bodies_of(api).values()) == {1}


@pytest.mark.parametrize(("limit", "most"), [("max_requests", 2), ("max_bytes", 4_000), ("max_bytes", 1)])
def test_no_batch_is_larger_than_the_provider_takes(kind, api, tmp_path, monkeypatch, limit, most):
    with Opened(kind, api.url, tmp_path) as submission:
        monkeypatch.setattr(type(submission.provider), limit, most)
        submission.submit()
        assert [submission.collect(), submission.collect()] == [ROWS, 0]
    sizes = defaultdict(list)
    for name, body in api.paid:
        sizes[name].append(1 if limit == "max_requests" else len(json.dumps(body)))
    assert len(sizes) > 2
    assert all(sum(each) <= most or len(each) == 1 for each in sizes.values())
    assert set(bodies_of(api).values()) == {1}


def test_a_frame_takes_a_batch_more_and_no_call_more(kind, api, tmp_path):
    with Opened(kind, api.url, tmp_path, frame="intro+conclusion") as submission:
        submission.submit()
        assert [submission.collect() for _ in range(3)] == [ROWS, ROWS, 0]
    assert len(api.paid) == ROWS * (CALLS + 2)
    assert all("About conclusion." in record["answer"] for record in records_in(tmp_path))


def test_what_is_not_over_is_waited_for(kind, api, tmp_path):
    api.is_over = False
    with Opened(kind, api.url, tmp_path) as submission:
        submission.submit()
        assert not submission.status()
        assert submission.collect() == ROWS
        assert len(api.paid) == ROWS
        api.is_over = True
        assert submission.status()


def test_a_request_that_fails_at_the_provider_is_sent_three_times(kind, api, tmp_path):
    api.fails = lambda body: "<point>2. " in str(body) and "Question 1:" in str(body)
    with Opened(kind, api.url, tmp_path) as submission:
        submission.submit()
        assert [submission.collect() for _ in range(4)] == [ROWS, 1, 1, 0]
    failed = {record["id"]: record["statuses"] for record in records_in(tmp_path)}
    assert failed.pop("1") == ["ok", "failed", "ok"]
    assert set(map(tuple, failed.values())) == {("ok",) * 3}
    assert sorted(bodies_of(api).values()) == [1] * (ROWS * CALLS - 1) + [3]


def test_a_request_that_failed_once_counts_once_however_often_collecting_is_killed(tmp_path):
    def killed(ledger, key):
        yield key, 500, {}
        raise KeyboardInterrupt

    path = tmp_path / "requests"
    with RequestLedger(path) as ledger:
        key = ledger.key({})
        ledger.ask(key, {})
        ledger.begin_batch([key])
    for _ in range(4):
        with RequestLedger(path) as ledger, pytest.raises(KeyboardInterrupt):
            ledger.collect(next(iter(ledger.batches.values())), killed(ledger, key))
    with RequestLedger(path) as ledger:
        ledger.collect(next(iter(ledger.batches.values())), iter([(key, 500, {})]))
        assert ledger.reply(key) is None
        ledger.ask(key, {})
        for _ in range(2):
            assert ledger.open_keys() == [key]
            ledger.collect(ledger.begin_batch([key]), iter([(key, 500, {})]))
        assert ledger.reply(key) == (422, {})


@pytest.mark.parametrize("kind", ["openai"])
def test_what_only_an_earlier_try_asked_is_not_sent(kind, api, tmp_path):
    with Opened(kind, api.url, tmp_path, model="tpyo") as submission:
        submission.submit()
        next(iter(api.batches.values()))["problem"] = "There is no model `tpyo`."
        with pytest.raises(SotError, match="There is no model"):
            submission.collect()
    with Opened(kind, api.url, tmp_path, model="m") as submission:
        submission.submit()
    assert {body["model"] for name, body in api.paid if name == "batch-1"} == {"m"}


async def test_nobody_else_on_the_machine_can_have_a_request_sent(tmp_path):
    async def ask(url, asked):
        async with httpx.AsyncClient() as client:
            return (await client.post(f"{url}/v1/chat/completions", json=asked)).status_code

    with RequestLedger(tmp_path / "requests") as ledger:
        async with _endpoint(ledger, defaultdict(set)) as url:
            assert await ask(url.rpartition("/")[0], {"model": "theirs"}) == 404
            assert await ask(f"{url}/worker", {"model": "ours"}) == 401
        assert [body["model"] for _, body in ledger.bodies(ledger.open_keys())] == ["ours"]


def test_a_file_of_something_else_is_no_ledger(tmp_path):
    path = tmp_path / "requests"
    path.write_text('{"id": "1"}\n')
    with pytest.raises(SotConfigError, match="line 1 is no record of a batch"):
        RequestLedger(path)


def test_what_was_sent_by_a_process_that_died_at_once_is_found_at_the_provider(kind, api, tmp_path):
    class KilledError(BaseException):
        pass

    for step in ("submit", "collect"):
        with Opened(kind, api.url, tmp_path) as submission:
            send = submission.provider.send

            def send_and_die(*sent, send=send):
                send(*sent)
                raise KilledError

            submission.provider.send = send_and_die
            with pytest.raises(KilledError):
                getattr(submission, step)()
    with Opened(kind, api.url, tmp_path) as submission:
        assert submission.collect() == 0
    assert len(api.batches) == 2
    assert set(bodies_of(api).values()) == {1}
    assert len(records_in(tmp_path)) == ROWS


@pytest.mark.parametrize("is_over", [True, False])
def test_somebody_elses_batch_of_the_same_size_is_not_taken_for_ours(kind, api, tmp_path, is_over):
    other = tmp_path / "other"
    other.mkdir()
    opened = Opened(kind, api.url, tmp_path)
    with opened as submission:
        submission.submit()
        opened.ledger.drop(next(iter(opened.ledger.batches.values())))
        opened.ledger.begin_batch(opened.ledger.open_keys())  # and then it was killed
    api.batches.clear()
    with Opened(kind, api.url, other, model="another") as submission:
        submission.submit()
    api.is_over = is_over
    with Opened(kind, api.url, tmp_path) as submission:
        submission.submit()
        api.is_over = True
        assert [submission.collect() for _ in range(3)][-1] == 0
    assert len(records_in(tmp_path)) == ROWS


async def test_what_an_earlier_try_cost_is_not_halved_again(tmp_path):
    record = {
        "id": "0",
        "error": "It failed.",
        "usage": {"total": {"calls": 4}, "cost": {"skeleton": 1.0, "total": 1.0}},
    }

    def failing(_input):
        raise ValueError

    with AnswerFile(tmp_path / "answers.jsonl") as answers, RequestLedger(tmp_path / "requests") as ledger:
        answers.append(record)
        submission = Submission(
            provider=None,
            ledger=ledger,
            answers=answers,
            rows=lambda: iter(rows_of(1)),
            make_graph=lambda _: RunnableLambda(failing),
            say=print,
        )
        for _ in range(2):
            await submission.replay()
            assert answers.unfinished({"id": "0"})["usage"]["cost"] == {"skeleton": 1.0, "total": 1.0}


@pytest.mark.parametrize("kind", ["openai"])
def test_a_batch_that_the_provider_refuses_is_an_error_with_its_words(kind, api, tmp_path):
    with Opened(kind, api.url, tmp_path) as submission:
        submission.submit()
        next(iter(api.batches.values()))["problem"] = "The model `m` can't be used in batches."
        with pytest.raises(SotError, match="can't be used in batches"):
            submission.collect()
        submission.submit()
        assert len(api.batches) == 2


def go_on(kind, url, folder):
    """What is killed. The process that it is forked off may have been started without a key."""
    os.environ |= dict.fromkeys(KEYS, "test")
    with Opened(kind, url, folder) as submission:
        while submission.collect():
            pass


@pytest.mark.xdist_group("forkserver")
def test_a_kill_at_every_call_pays_for_nothing_twice(kind, api, processes, tmp_path):
    kills = 0
    for _ in range(30):
        process = processes.Process(target=go_on, args=(kind, api.url, tmp_path))
        # It dies at its first call, at its second, ..., before it hears what came of it.
        last = len(api.calls) + 1 + kills % 4
        api.after_call = lambda number, last=last, process=process: number == last and process.kill()
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        kills += 1
    assert process.exitcode == 0
    assert kills >= 5
    assert set(bodies_of(api).values()) == {1}
    assert len(api.paid) == ROWS * CALLS
    assert sorted(record["id"] for record in records_in(tmp_path)) == [row["id"] for row in rows_of(ROWS)]


def test_the_command_takes_the_steps(kind, api, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows_of(2))))
    url = address(kind, api.url)

    def run(*steps):
        words = ["batch", "q.jsonl", *steps, "--out", "a.jsonl", "-m", "m", "--base-url", url, "--provider-batch", kind]
        ran = CliRunner().invoke(app, words)
        assert ran.exit_code == 0, ran.output
        return " ".join(ran.stderr.split())

    assert "No batch is at the provider" in run("status")
    assert "Sent 2 requests" in run("submit")
    (tmp_path / "q.jsonl").rename(tmp_path / "moved.jsonl")
    assert "2 of 2" in run("status")
    (tmp_path / "moved.jsonl").rename(tmp_path / "q.jsonl")
    assert "2 questions wait" in run("collect")
    assert f"2 questions answered, {2 * len(TITLES)} points" in run("collect")
    assert "Nothing is left to do" in run("collect")
    assert "No batch is at the provider" in run("status")
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2


def test_what_failed_is_asked_again_once_a_retry_and_nothing_else_is(kind, api, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_command.time, "sleep", lambda _seconds: None)
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows_of(2))))
    failing = {"<point>2. ": "Question 1:"}
    api.fails = lambda body: any(each in str(body) and row in str(body) for each, row in failing.items())
    url, empty = address(kind, api.url), {"Beta two"}
    api.responder = SkeletonResponder(
        titles=TITLES, text=lambda ask: "" if ask.title in empty else f"About {ask.title}."
    )

    def run(*more):
        words = ["batch", "q.jsonl", *more, "--out", "a.jsonl", "-m", "m", "--base-url", url, "--provider-batch", kind]
        assert CliRunner().invoke(app, words).exit_code == 0
        lines = (tmp_path / "a.jsonl").read_text().splitlines()
        last = {record["id"]: record["statuses"][1] for record in map(json.loads, lines)}
        return last["0"], last["1"], sum(bodies_of(api).values()), len(lines)

    calls = 2 * CALLS + 2
    assert run() == ("failed", "failed", calls, 2)
    assert run() == ("failed", "failed", calls, 2)
    assert run("--retry-errors") == ("failed", "failed", calls + 1 + 3, 4)
    empty.clear()
    assert run("submit", "--retry-errors")[2:] == (calls + 4 + 2, 4)
    assert run("submit", "--retry-errors")[2:] == (calls + 4 + 2, 4)
    assert run("collect", "--retry-errors")[0] == "ok"
    failing.clear()
    assert run("--retry-errors")[:2] == ("ok", "ok")


@pytest.mark.parametrize("kind", ["openai"])
def test_what_a_retry_has_sent_is_collected_without_saying_again_that_it_is_one(kind, api, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_command.time, "sleep", lambda _seconds: None)
    (tmp_path / "q.jsonl").write_text(json.dumps(rows_of(1)[0]))
    empty = {"Beta two"}
    api.responder = SkeletonResponder(
        titles=TITLES, text=lambda ask: "" if ask.title in empty else f"About {ask.title}."
    )

    def run(*more):
        words = ["batch", "q.jsonl", *more, "--out", "a.jsonl", "-m", "m", "--base-url", address(kind, api.url)]
        ran = CliRunner().invoke(app, [*words, "--provider-batch", kind])
        assert ran.exit_code == 0, ran.output
        return " ".join(ran.stderr.split())

    run()
    assert "Nothing is left to do" not in run("collect")
    empty.clear()
    assert "1 questions wait" in run("submit", "--retry-errors")
    assert "1 questions answered" in run("collect")
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[-1])["statuses"] == ["ok"] * 3
    assert "Nothing is left to do" in run("collect")


@pytest.mark.parametrize("kind", ["openai"])
def test_the_command_waits_through_an_outage_of_the_provider(kind, api, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows_of(2))))
    outages = ["GET"] * 6 + ["POST"] * 3  # a call, and its client's own two retries: looking twice, sending once
    handle, looks = api.handle, []

    def break_down(method, path, body):
        if looks and outages[:1] == [method]:
            outages.pop(0)
            return 500, {"error": {"message": "It is down."}}
        return handle(method, path, body)

    monkeypatch.setattr(api, "handle", break_down)
    monkeypatch.setattr(batch_command.time, "sleep", looks.append)
    words = ["batch", "q.jsonl", "--out", "a.jsonl", "-m", "m", "--base-url", f"{api.url}/v1", "--provider-batch", kind]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    assert ran.stderr.count("It is down. (HTTP 500); it is tried again in a minute.") == 3
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2
    assert set(bodies_of(api).values()) == {1}


@pytest.mark.parametrize("kind", ["openai"])
@pytest.mark.parametrize("text", [None, '{"question": "Why?"}\n{"id": 1}'])
def test_a_file_that_can_not_be_read_is_bad_usage_and_nothing_is_sent(kind, api, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "q.jsonl").write_text(text)
    words = ["batch", "q.jsonl", "--out", "a.jsonl", "-m", "m", "--base-url", f"{api.url}/v1", "--provider-batch", kind]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 2
    assert "q.jsonl" in ran.stderr
    assert api.calls == []


@pytest.mark.parametrize("kind", ["openai"])
def test_an_answer_that_can_not_be_written_is_said_by_itself(kind, api, tmp_path):
    opened = Opened(kind, api.url, tmp_path)

    def fail(_record):
        raise OSError(28, "No space left on device")

    with opened as submission:
        submission.submit()
        submission.collect()
        opened.answers.append = fail
        with pytest.raises(OSError, match="No space left"):
            submission.collect()


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_without_a_key_nothing_is_sent(kind, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    if kind == "anthropic":
        pytest.importorskip("langchain_anthropic")
    with pytest.raises(SotConfigError, match="need a key"):
        PROVIDERS[kind](None)
