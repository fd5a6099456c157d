"""Threads for what blocks."""

import threading

import pytest

from sot_graph.concurrency import background_loop
from sot_graph.concurrency.background_loop import DaemonThreads


def test_calls_run_at_the_same_time_up_to_the_width():
    executor = DaemonThreads(3)
    meeting = threading.Barrier(3, timeout=30)
    calls = [executor.submit(meeting.wait) for _ in range(6)]
    assert sorted(call.result(30) for call in calls) == [0, 0, 1, 1, 2, 2]


def test_the_threads_keep_no_process_alive_and_are_used_again():
    executor = DaemonThreads(100)
    first = executor.submit(threading.current_thread).result(30)
    assert first.daemon
    for _ in range(50):
        executor.submit(int).result(30)
    assert executor._running < 50


def test_threads_that_are_not_needed_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(background_loop, "_IDLE_SECONDS", 0.01)
    executor = DaemonThreads(20)
    for _ in range(20):
        used = {executor.submit(threading.current_thread) for _ in range(40)}
    for thread in {call.result(30) for call in used}:
        thread.join(30)
        assert not thread.is_alive()
    assert executor.submit(int).result(30) == 0


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()])
def test_what_a_call_raises_comes_out_of_its_future(error: BaseException):
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        DaemonThreads(1).submit(fail).result(30)
    assert caught.value is error


def test_a_call_that_is_cancelled_before_its_turn_is_never_made():
    executor = DaemonThreads(1)
    go = threading.Event()
    first = executor.submit(go.wait)
    made: list[int] = []
    second = executor.submit(made.append, 1)
    assert second.cancel()
    go.set()
    assert first.result(30)
    executor.submit(int).result(30)
    assert made == []
