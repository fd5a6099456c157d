"""What a batch takes: CPU a question, and memory with ever more questions.

uv run python -m benchmarks.batch [questions] [questions of the stub]

The endpoint runs in a process of its own. For the memory, a stub stands in for the graph: what grows is what the batch
itself keeps.
"""

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableLambda

from sot_graph import SotOptions, create_sot_graph
from sot_graph.batch.answer_file import AnswerFile
from sot_graph.batch.call_journal import CallJournal
from sot_graph.batch.question_pool import QuestionPool
from sot_graph.batch.row import Row
from sot_graph.llm.resolve import resolve_model
from sot_graph.usage import empty_usage
from tests.support.endpoint_process import EndpointProcess

STUB: dict[str, Any] = {
    "answer": "A river ran by the garden. " * 130,
    "route": "skeleton",
    "expansions": [{"index": number, "title": "t", "text": "", "status": "ok", "error": None} for number in range(8)],
    "usage": empty_usage(),
}


def rows(count: int) -> Iterator[Row]:
    """So many questions, none of which is kept."""
    return (Row(id=f"question-{number:06}", question=f"Question {number}?") for number in range(count))


def answer(make_graph: Callable[[CallJournal], Any], count: int, workers: int = 64) -> float:
    """Seconds of CPU that so many questions took."""
    with (
        tempfile.TemporaryDirectory() as folder,
        AnswerFile(Path(folder) / "answers.jsonl") as answers,
        CallJournal(Path(folder) / "calls", answers.is_whole) as journal,
    ):
        pool = QuestionPool(graph=make_graph(journal), answers=answers, journal=journal, workers=workers)
        before = time.process_time()
        asyncio.run(pool.run(rows(count)))
        assert answers.tally.answered == count
        return time.process_time() - before


def megabytes(count: int) -> float:
    """The most memory that a process of its own had for so many questions of the stub."""
    command = [sys.executable, "-m", "benchmarks.batch", "--stub", str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def stub(_given: Any) -> Any:
    """In place of a graph: an answer of 3.5 kB, which isn't shared with others."""
    await asyncio.sleep(0)
    return {**STUB, "answer": STUB["answer"] + " "}


class Stub(RunnableLambda[Any, Any]):
    """As much of a graph as is called."""

    async def ainvoke(self, input: Any, config: Any = None, **_: Any) -> Any:
        """An answer at once."""
        return await stub(input)


def main() -> None:
    """Print two tables in Markdown."""
    if sys.argv[1:2] == ["--stub"]:
        answer(lambda _journal: Stub(stub), int(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    count, most = [int(word) for word in sys.argv[1:]] or [500, 100_000]
    with EndpointProcess(ttft=0.05, tps=2000) as endpoint:
        model = resolve_model("simulated", base_url=endpoint.base_url)

        def make_graph(journal: CallJournal) -> Any:
            return create_sot_graph(model, options=SotOptions(stream=False), cache=journal)

        answer(make_graph, 20)  # what is imported and connected once
        seconds = answer(make_graph, count)
        calls = len(endpoint.log()["requests"])
    print(
        f"| questions | CPU ms a question | calls a question |\n|---|---|---|\n"
        f"| {count:,} | {1000 * seconds / count:.0f} | "
        f"{calls / (count + 20):.1f} |\n"
    )
    print("| questions | MB |\n|---|---|")
    for stubs in (1000, most):
        print(f"| {stubs:,} | {megabytes(stubs):.0f} |")


if __name__ == "__main__":
    main()
