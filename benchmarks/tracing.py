"""What tracing costs: CPU time of this process for a question of 10 points, without a tracer and with LangSmith's.

    python benchmarks/tracing.py

The endpoint and the recorder that stands in LangSmith's place are processes of their own, and answer at once.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tracers import LangChainTracer
from langchain_openai import ChatOpenAI
from langsmith import Client
from pydantic import SecretStr

from sot_graph import SotOptions, create_sot_graph
from tests.support.endpoint_process import EndpointProcess

QUESTIONS = 20
ROUNDS = 7
QUESTION = "How do plants grow?"

_RECORDER = """
import sys
from tests.support.trace_recorder import TraceRecorder
with TraceRecorder() as recorder:
    print(recorder.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def recorder_process() -> Iterator[str]:
    """A recorder in a process of its own; its address."""
    with subprocess.Popen(
        [sys.executable, "-c", _RECORDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def cpu_ms(model: ChatOpenAI, client: Client | None, *, stream: bool) -> float:
    """CPU milliseconds a question, the sending of its trace included."""
    graph = create_sot_graph(model, options=SotOptions(stream=stream))
    before = time.process_time()
    for _ in range(QUESTIONS):
        config: RunnableConfig = {"callbacks": [LangChainTracer(client=client)]} if client is not None else {}
        result: Mapping[str, Any] = await graph.ainvoke({"question": QUESTION}, config)
        assert len(result["expansions"]) == 10
    if client is not None:
        await asyncio.to_thread(client.flush)
    return (time.process_time() - before) / QUESTIONS * 1000


async def main() -> None:
    """Measure all four by turns, so that a busy machine is busy for all of them, and print the medians."""
    with EndpointProcess(tps=0, ttft=0, points=10, words=40) as endpoint, recorder_process() as url:
        model = ChatOpenAI(model="simulated", base_url=endpoint.base_url, api_key=SecretStr("any"), stream_usage=True)
        client = Client(api_url=url, api_key="any")
        kinds = [(stream, tracer) for stream in (False, True) for tracer in (None, client)]
        for stream, tracer in kinds:  # imports and first connections
            await cpu_ms(model, tracer, stream=stream)
        taken: dict[tuple[bool, bool], list[float]] = {}
        for _ in range(ROUNDS):
            for stream, tracer in kinds:
                taken.setdefault((stream, tracer is not None), []).append(await cpu_ms(model, tracer, stream=stream))
        client.close()
    print("| | without a tracer | with LangSmith's | tracing |")
    print("|---|---|---|---|")
    for stream, name in ((False, "not streamed"), (True, "streamed")):
        without, traced = (statistics.median(taken[stream, is_traced]) for is_traced in (False, True))
        print(f"| {name} | {without:.0f} ms | {traced:.0f} ms | {traced - without:.0f} ms |")


if __name__ == "__main__":
    asyncio.run(main())
