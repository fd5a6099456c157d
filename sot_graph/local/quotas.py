"""How much of a machine's cores a container lets its processes use.

Neither `os.cpu_count` nor `os.sched_getaffinity` knows: a container with two of 64 cores' time may run on all 64.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["cores_by_quota"]


def cores_by_quota(root: Path = Path("/")) -> float | None:
    """The cores' worth of time that Linux's control groups, of version 1 or 2, leave to this process.

    Args:
        root: Where `proc` and `sys` are.

    Returns:
        The least quota of this process's group and all around it, such as 1.5; `None`: there is none.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):  # another system than Linux
        return None
    return min((quota for line in lines for quota in _quotas(root / "sys/fs/cgroup", line)), default=None)


def _quotas(mount: Path, line: str) -> Iterator[float]:
    """The quotas that one line leads to: `0::/a.slice/b` of version 2, `4:cpu,cpuacct:/docker/1f` of version 1."""
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if not controllers:
        folders, read = [mount], _quota_of_version_2
    elif "cpu" in controllers.split(","):
        folders, read = [mount / controllers, mount / "cpu"], _quota_of_version_1
    else:
        return
    # Inside a container the path may be the host's, of which only the last folder is there, as the mount itself.
    group = PurePosixPath(path.lstrip("/"))
    for folder in folders:
        for part in (group, *group.parents):
            try:
                quota = read(folder / part)
            except (OSError, ValueError, ZeroDivisionError):
                continue
            if quota > 0:
                yield quota


def _quota_of_version_2(group: Path) -> float:
    quota, period = (group / "cpu.max").read_text().split()
    return 0 if quota == "max" else int(quota) / int(period)


def _quota_of_version_1(group: Path) -> float:
    quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return quota / period  # -1: there is none
