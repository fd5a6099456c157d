"""How many threads the embedded model computes with, by what it may use and what else the machine does."""

import os

import pytest

from sot_graph.errors import SotConfigError
from sot_graph.local import LocalServer, cores
from sot_graph.local.quotas import cores_by_quota


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with so many cores, of which so many are this process's, and so many threads that want one."""
    shown = tmp_path / "loadavg"
    monkeypatch.setattr(cores, "_LOADAVG", shown)

    def be(*, of_all, ours=None, busy, quota=None):
        monkeypatch.setattr(cores, "cores_by_quota", lambda: quota)
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


@pytest.mark.parametrize(
    ("ours", "quota", "threads"),
    [(64, 2.0, 2), (64, 1.5, 1), (64, 0.25, 1), (2, 8.0, 2), (64, None, 64)],
)
def test_a_container_gets_as_many_threads_as_its_quota_has_whole_cores(machine, ours, quota, threads):
    machine(of_all=64, ours=ours, busy=0, quota=quota)
    assert cores.usable_threads() == threads


@pytest.fixture
def linux(tmp_path):
    """A root with these files."""

    def be(**files):
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return be


V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.scope\n",
                "sys/fs/cgroup/a.slice/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/a.slice/b.scope/cpu.max": "max 100000\n",
            },
            1.5,
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "50000 100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n0::/docker/1f\n",
                f"{V1}/cpu.cfs_quota_us": "300000\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "2:cpuset:/\n0::/\n"}, None),
        ({"proc/self/cgroup": "nonsense\n0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 0\n"}, None),
        ({"proc/self/cgroup": ""}, None),
        ({}, None),
    ],
    ids=[
        "2: in a container",
        "2: no quota",
        "2: of a group around",
        "2: the least",
        "1: in a container, by the host's path",
        "1: no quota",
        "no cpu controller",
        "nonsense",
        "no period",
        "no group",
        "no Linux",
    ],
)
def test_a_quota_is_found_where_the_kernel_tells_it(linux, files, quota):
    assert cores_by_quota(linux(**files)) == quota


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
