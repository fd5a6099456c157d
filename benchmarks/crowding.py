"""One contender, so many questions at once, in a process of its own: prints what that took as one line of JSON."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.contenders import Contender

__all__ = ["Crowd", "crowd_in_a_process", "peak_megabytes"]


@dataclass(frozen=True)
class Crowd:
    """What a crowd of questions took."""

    questions: int
    done: int
    """Answered whole."""
    seconds: float
    cpu_seconds: float
    peak_megabytes: float
    before_megabytes: float
    """With everything imported, and one question answered."""


def peak_megabytes() -> float:
    """The most memory that this process has had."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / 1024**2 if sys.platform == "darwin" else most / 1024
    # Not `ru_maxrss`: on Linux it begins with that of the process that started this one.
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024  # type: ignore[index]


async def _ask(name: str, questions: int, points: int, base_url: str) -> Crowd:
    from benchmarks.contenders import Setup, contending

    async with contending(Setup(base_url, points), name) as contenders:
        return await _ask_at_once(contenders[name], questions)


async def _ask_at_once(contender: Contender, questions: int) -> Crowd:
    from benchmarks.contenders import QUESTION

    answer = contender.answer
    assert answer is not None
    fewest = len(await answer(QUESTION)) // 2
    before, started, cpu = peak_megabytes(), time.perf_counter(), time.process_time()
    answers = await asyncio.gather(
        *(answer(f"{QUESTION} ({number})") for number in range(questions)), return_exceptions=True
    )
    seconds, spent = time.perf_counter() - started, time.process_time() - cpu
    failures = [each for each in answers if isinstance(each, BaseException)]
    if failures:
        print(f"{len(failures)} failed, the first with {failures[0]!r:.300}", file=sys.stderr)
    done = sum(isinstance(each, str) and len(each) >= fewest for each in answers)
    return Crowd(questions, done, seconds, spent, peak_megabytes(), before)


async def crowd_in_a_process(name: str, questions: int, points: int, base_url: str) -> Crowd:
    """Measure in a new process, whose peak of memory is this crowd's own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.crowding", name, str(questions), str(points), base_url),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        message = f"{questions} questions at once by {name}: the process ended with status {process.returncode}."
        raise RuntimeError(message)
    return Crowd(**json.loads(output))


if __name__ == "__main__":
    _name, _questions, _points, _base_url = sys.argv[1:]
    print(json.dumps(asdict(asyncio.run(_ask(_name, int(_questions), int(_points), _base_url)))))
