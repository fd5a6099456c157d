"""Which package a question's CPU time goes to: a sample of the running code every millisecond of CPU time.

Time in a library that several packages use, such as pydantic, counts for the package that called it.

uv run python -m benchmarks.shares
"""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

import sot_graph
from benchmarks.contenders import QUESTION, Setup, contending
from tests.support.endpoint_process import EndpointProcess

NAMES = ("plain gather", "plain langgraph", "sot_graph")
ROUNDS = 200
POINTS = 10
_PACKAGES = {
    "aiohttp": "HTTP",
    "httpx2": "HTTP",
    "httpcore2": "HTTP",
    "httpx_aiohttp": "HTTP",
    "anyio": "HTTP",
    "openai": "OpenAI's client",
    "langchain_core": "LangChain",
    "langchain_openai": "LangChain",
    "langsmith": "LangChain",
    "langgraph": "LangGraph",
    "instructor": "instructor",
    "asyncio": "asyncio",
    "benchmarks": "the script",
}
_OWN = str(Path(sot_graph.__file__).parent)


def package_of(frame: FrameType | None) -> str:
    """The package that the running code works for: that of the innermost frame which is of a known one."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_OWN):
            return "sot_graph"
        for part in reversed(Path(name).parts):
            if part in _PACKAGES:
                return _PACKAGES[part]
        frame = frame.f_back
    return "Python"


async def measure(name: str, base_url: str) -> Counter[str]:
    """Samples by package, of one contender's questions."""
    samples: Counter[str] = Counter()

    def sample(_signal: int, frame: FrameType | None) -> None:
        samples[package_of(frame)] += 1

    async with contending(Setup(base_url, POINTS), name) as contenders:
        answer = contenders[name].answer
        assert answer is not None
        await answer(QUESTION)
        before = signal.signal(signal.SIGPROF, sample)
        signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
        try:
            for _ in range(ROUNDS):
                await answer(QUESTION)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
    return samples


def main() -> None:
    """Print a table in Markdown: percent of a contender's samples."""
    with EndpointProcess(ttft=0, tps=0, points=POINTS, tokens=60) as endpoint:
        found = {name: asyncio.run(measure(name, endpoint.base_url)) for name in NAMES}
    print("| % of the CPU time | " + " | ".join(f"`{name}`" for name in NAMES) + " |")
    print("| --- |" + " ---: |" * len(NAMES))
    packages = sorted(set().union(*found.values()), key=lambda package: -found["sot_graph"][package])
    for package in packages:
        cells = [f"{100 * samples[package] / samples.total():.0f}" for samples in found.values()]
        print(f"| {package} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
