"""The recorder itself: it understands every way in which LangSmith's client sends."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from tests.support.trace_recorder import TraceRecorder


def send(client, name="a", **more):
    """One run, begun and ended."""
    run_id, now = uuid4(), datetime.now(UTC)
    place = {} if more.pop("single", False) else {"trace_id": run_id, "dotted_order": f"{now:%Y%m%dT%H%M%S%fZ}{run_id}"}
    client.create_run(name, {"question": "Why?"}, "chain", id=run_id, start_time=now, **place)
    client.update_run(run_id, outputs={"answer": "So."}, end_time=now, name=name, **place, **more)


@pytest.mark.parametrize(
    ("settings", "single"),
    [({}, False), ({"auto_batch_tracing": False}, True), ({"info": {"batch_ingest_config": None}}, False)],
)
def test_a_run_is_put_together_however_it_is_sent(settings, single, recorder):
    send(recorder.client(**settings), single=single)
    root = recorder.root()
    assert (root.name, root.posts, root.has_ended) == ("a", 1, True)
    assert (root.inputs, root.outputs) == ({"question": "Why?"}, {"answer": "So."})


def test_what_never_ended_and_what_failed_is_seen_in_the_text(recorder):
    client = recorder.client()
    send(client, "failed", error="ValueError('no')Traceback (most recent call last): ...", tags=["mine", "seq:step:1"])
    run_id, now = uuid4(), datetime.now(UTC)
    dotted = f"{now:%Y%m%dT%H%M%S%fZ}{run_id}"
    client.create_run("open", {}, "llm", id=run_id, start_time=now, trace_id=run_id, dotted_order=dotted)
    assert [root.as_text() for root in recorder.roots()] == [
        "failed  [mine]  ✗ ValueError('no')\n",
        "open  (0 tokens in, 0 out)  ... never ended\n",
    ]


def test_what_is_not_there_once_is_an_error_that_shows_the_tree(recorder):
    with pytest.raises(LookupError, match="0 traces"):
        recorder.root()
    send(recorder.client())
    with pytest.raises(LookupError, match="0 runs are named 'b'"):
        recorder.root().find("b")
    send(recorder.client())
    with pytest.raises(LookupError, match="2 traces"):
        recorder.root()


def test_waiting_for_what_never_comes_says_what_came(recorder):
    send(recorder.client())
    recorder.root()
    with pytest.raises(TimeoutError, match="POST /runs/multipart"):
        recorder.wait_for(lambda: False, timeout=0.01)


def test_it_answers_as_it_is_told(recorder):
    with TraceRecorder(status=500, body=b"no") as failing:
        client = failing.client(auto_batch_tracing=False, retry_config=0)
        with pytest.raises(Exception, match="500"):
            send(client, single=True)
        assert set(failing.requests) == {"POST /runs"}
