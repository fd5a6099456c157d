"""What it costs to say the answer to those who listen to messages, in CPU time of the process that runs the graph.

uv run python -m benchmarks.messages
"""

import asyncio
import statistics
import time

from langchain_openai import ChatOpenAI

from sot_graph import SotOptions, create_sot_graph
from sot_graph.state import SotInput
from tests.support.endpoint_process import EndpointProcess

ASK: SotInput = {"question": "How do plants grow?"}
ROUNDS = 15


async def measure(base_url: str) -> None:
    """Interleaved rounds; medians."""
    model = ChatOpenAI(model="simulated", api_key="none", base_url=base_url, stream_usage=True)  # type: ignore[arg-type]
    graph = create_sot_graph(model, options=SotOptions(stream=True))
    seconds: dict[str, list[float]] = {"nobody": [], "messages": []}
    chunks = 0
    for _ in range(ROUNDS):
        before = time.process_time()
        await graph.ainvoke(ASK)
        seconds["nobody"].append(time.process_time() - before)
        before = time.process_time()
        chunks = len([chunk async for chunk in graph.astream(ASK, stream_mode="messages")])
        seconds["messages"].append(time.process_time() - before)
    nobody, messages = (statistics.median(values[1:]) * 1000 for values in seconds.values())
    more = (messages - 1.05 * nobody) / chunks * 1000
    print(f"streamed replies, nobody listens: {nobody:.1f} ms; messages: {messages:.1f} ms, {chunks} chunks")
    print(f"above 1.05 x that: {more:.0f} us a chunk (target: at most 100)")


if __name__ == "__main__":
    with EndpointProcess(ttft=0.05, tps=60, tokens=60) as endpoint:
        asyncio.run(measure(endpoint.base_url))
