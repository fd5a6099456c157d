"""What Python's garbage collector costs a busy process, and what three calls at its start save.

uv run python -m benchmarks.collector

A process answers questions of eight points, so many of them at once, as a server would. The collector looks through
all objects whenever those that have lived for a while are a quarter more: the imports' hundreds of thousands, again
and again, since each call in flight lives for a while.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.contenders import QUESTION, Setup, contending
from benchmarks.crowding import peak_megabytes
from tests.support.endpoint_process import EndpointProcess

__all__ = ["measure"]

POINTS, QUESTIONS, AT_ONCE, ROUNDS = 8, 600, 200, 3
NAMES = ("plain gather", "plain langgraph", "sot_graph")
WAYS = {"as it is": None, "set": (50_000, 20, 10)}
"""What is given to `gc.set_threshold`."""


async def measure(name: str, base_url: str, threshold: tuple[int, int, int] | None) -> dict[str, float]:
    """Questions a second of this process, its peak of memory in MB, and the collector's share of its CPU time."""
    looking = 0.0

    def watch(phase: str, _: dict[str, Any]) -> None:
        nonlocal looking
        looking += time.process_time() if phase == "stop" else -time.process_time()

    async with contending(Setup(base_url, POINTS), name) as contenders:
        answer = contenders[name].answer
        assert answer is not None
        await answer(QUESTION)
        if threshold is not None:
            gc.collect()
            gc.freeze()
            gc.set_threshold(*threshold)
        questions = iter(range(QUESTIONS))

        async def work() -> None:
            for number in questions:
                await answer(f"{QUESTION} ({number})")

        gc.callbacks.append(watch)
        started, spent = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        seconds, cpu = time.perf_counter() - started, time.process_time() - spent
    return {"rate": QUESTIONS / seconds, "megabytes": peak_megabytes(), "share": looking / cpu}


def main() -> None:
    """Print a table in Markdown: medians of interleaved rounds, each in a process of its own."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {(name, way): [] for name in NAMES for way in WAYS}
    with EndpointProcess(ttft=0, tps=0, points=POINTS, tokens=60) as endpoint:
        for _ in range(ROUNDS):
            for (name, way), rounds in found.items():
                command = [sys.executable, "-m", "benchmarks.collector", name, endpoint.base_url, json.dumps(WAYS[way])]
                output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
                rounds.append(json.loads(output))
    print(f"| {AT_ONCE} questions at once | collector | questions a second | its share of the CPU time | memory, MB |")
    print("| --- | --- | ---: | ---: | ---: |")
    for (name, way), rounds in found.items():
        rate, megabytes, share = (statistics.median(each[key] for each in rounds) for key in rounds[0])
        print(f"| `{name}` | {way} | {rate:.1f} | {100 * share:.0f} % | {megabytes:.0f} |")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        _name, _base_url, _threshold = sys.argv[1:]
        print(json.dumps(asyncio.run(measure(_name, _base_url, json.loads(_threshold)))))
