"""How many threads the embedded model computes with. No server is started."""

import os

import pytest

from sot_graph.errors import SotConfigError
from sot_graph.local import LocalServer, embedded_model


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which this process may use so many cores, in a container with such a quota of their time."""
    shown = tmp_path / "cpu.max"
    monkeypatch.setattr(embedded_model, "_CPU_QUOTA", shown)

    def be(*, cores, quota=None):
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        if quota is not None:
            shown.write_text(quota)

    return be


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 2), (8, 7)])
def test_a_core_is_left_to_other_programs(machine, cores, threads):
    machine(cores=cores)
    assert embedded_model.spare_threads() == threads


@pytest.mark.parametrize(
    ("cores", "quota", "threads"),
    [
        (64, "400000 100000\n", 3),
        (64, "250000 100000\n", 1),
        (64, "25000 100000\n", 1),
        (2, "800000 100000\n", 1),
        (64, "max 100000\n", 63),
        (64, "nonsense\n", 63),
    ],
)
def test_a_container_has_as_many_cores_as_its_quota_has_whole_ones(machine, cores, quota, threads):
    machine(cores=cores, quota=quota)
    assert embedded_model.spare_threads() == threads


def test_a_system_that_knows_no_affinity_has_the_machines_cores(machine, monkeypatch):
    machine(cores=2)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert embedded_model.spare_threads() == 63


def test_what_the_caller_says_wins(machine):
    pytest.importorskip("xllamacpp")
    machine(cores=2)
    try:
        assert LocalServer(threads=2).threads == 2
        assert LocalServer().threads == 1
    except SotConfigError:
        pytest.skip("no weights are installed")
