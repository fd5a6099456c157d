"""How many threads the embedded model computes with, by what else the machine does."""

import os

import pytest

from sot_graph.errors import SotConfigError
from sot_graph.local import LocalServer, cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with so many cores, of which so many are this process's, and so many threads that want one."""
    shown = tmp_path / "loadavg"
    monkeypatch.setattr(cores, "_LOADAVG", shown)

    def be(*, of_all, ours=None, busy):
        monkeypatch.setattr(os, "cpu_count", lambda: of_all)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(ours or of_all)), raising=False)
        shown.write_text(f"0.20 0.18 0.12 {busy + 1}/80 11206\n")
        return shown

    return be


@pytest.mark.parametrize(
    ("of_all", "ours", "busy", "threads"),
    [
        (2, 2, 0, 2),
        (2, 2, 1, 1),
        (2, 2, 9, 1),
        (1, 1, 3, 1),
        (8, 8, 0, 8),
        (8, 8, 1, 7),
        (64, 2, 30, 2),  # a container with two of many cores, most of them idle
        (64, 2, 64, 1),
    ],
)
def test_a_core_is_left_to_whatever_keeps_it_busy(machine, of_all, ours, busy, threads):
    machine(of_all=of_all, ours=ours, busy=busy)
    assert cores.usable_threads() == threads


@pytest.mark.parametrize(("load", "threads"), [(0.2, 4), (1.1, 3)])
def test_without_a_proc_the_load_of_the_last_minute_tells(machine, monkeypatch, load, threads):
    machine(of_all=4, busy=0).unlink()
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert cores.usable_threads() == threads


def test_a_system_that_tells_nothing_counts_as_busy(machine, monkeypatch):
    machine(of_all=4, busy=0).unlink()
    monkeypatch.delattr(os, "getloadavg")
    assert cores.usable_threads() == 3


def test_what_the_caller_says_wins(machine):
    pytest.importorskip("xllamacpp")
    machine(of_all=2, busy=1)
    try:
        assert LocalServer(threads=2).threads == 2
        assert LocalServer().threads == 1
    except SotConfigError:
        pytest.skip("no weights are installed")
