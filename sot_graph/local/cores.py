"""How many threads to compute with."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median

from sot_graph.local.quotas import cores_by_quota

__all__ = ["usable_threads"]

_LOADAVG = Path("/proc/loadavg")
_LOOKS = 5
_SECONDS_BETWEEN_LOOKS = 0.01


def usable_threads() -> int:
    """A thread for each core that this process may use; one less where something else is running.

    llama.cpp's threads wait for each other at every step, so one that has to share its core holds up all of them:
    on two cores beside one busy process, two threads take twice as long as one. Alone, they take half as long.
    """
    ours, all_cores = _our_cores(), os.cpu_count() or 1
    # In a container the machine's cores are not all ours, and what runs there isn't either.
    free = all_cores - _running_elsewhere(all_cores)
    return ours if free >= ours else max(1, ours - 1)


def _running_elsewhere(all_cores: int) -> float:
    """How much is running on this machine beside this thread."""
    try:
        looks = []
        for _ in range(_LOOKS):
            # "0.20 0.18 0.12 1/80 11206": the fourth says how many of all threads want a core at this moment.
            looks.append(int(_LOADAVG.read_text().split()[3].split("/")[0]) - 1)
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return median(looks)
    except (OSError, ValueError, IndexError):
        pass
    try:
        return round(os.getloadavg()[0])
    except (AttributeError, OSError):  # Windows: it may be busy
        return all_cores


def _our_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cores_by_quota()
    # A thread more than the quota has cores, and all of them stand still for the rest of each period: measured with a
    # quota of 1.5, one thread wrote more than two.
    return cores if quota is None else max(1, min(cores, int(quota)))
