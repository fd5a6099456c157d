"""What it costs to say the answer to those who listen to messages, in CPU time of the process that runs the graph.

LangGraph's own part is measured beside it: a plain graph with one node, whose model streams.

uv run python -m benchmarks.messages
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from sot_graph import SotOptions, create_sot_graph
from tests.support.endpoint_process import EndpointProcess

ASK: Any = {"question": "How do plants grow?"}
ROUNDS = 40


class _State(TypedDict, total=False):
    text: str


class _PacedModel(GenericFakeChatModel):
    """Sixty pieces, sixty a second."""

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for number in range(60):
            await asyncio.sleep(1 / 60)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=f"word {number} "))
            if run_manager is not None:
                await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            yield chunk


def plain_graph() -> Any:
    """One node that streams: what LangGraph takes to hand on a chunk that somebody hears."""
    model = _PacedModel(messages=iter(()))

    async def write(state: _State) -> _State:
        return {"text": "".join([str(chunk.content) async for chunk in model.astream("?")])}

    return StateGraph(_State).add_node("write", write).add_edge(START, "write").compile()


@dataclass
class Cost:
    """What the runs of a graph took, in CPU seconds."""

    unheard: list[float] = field(default_factory=list)
    """Of a run that nobody hears."""
    more: list[float] = field(default_factory=list)
    """Of a chunk, above 1.05 x that."""
    chunks: int = 0

    async def add(self, graph: Any, given: Any) -> None:
        """Run it once without and once with somebody who listens."""
        before = time.process_time()
        await graph.ainvoke(given)
        between = time.process_time()
        self.chunks = len([chunk async for chunk in graph.astream(given, stream_mode="messages")])
        self.unheard.append(between - before)
        self.more.append((time.process_time() - between - 1.05 * self.unheard[-1]) / self.chunks)


async def measure(base_url: str) -> None:
    """Interleaved rounds, of which the first warms up; medians."""
    model = ChatOpenAI(model="simulated", api_key="none", base_url=base_url, stream_usage=True)  # type: ignore[arg-type]
    graphs = {
        "sot_graph": (create_sot_graph(model, options=SotOptions(stream=True)), ASK),
        "LangGraph alone": (plain_graph(), {"text": ""}),
    }
    costs = {name: Cost() for name in graphs}
    for _ in range(ROUNDS + 1):
        for name, (graph, given) in graphs.items():
            await costs[name].add(graph, given)
    for name, cost in costs.items():
        unheard, more = statistics.median(cost.unheard[1:]) * 1e3, statistics.median(cost.more[1:]) * 1e6
        print(
            f"{name}: nobody listens {unheard:.1f} ms; above 1.05 x that: {more:.0f} us a chunk ({cost.chunks} chunks)"
        )
    print("target: at most 100 us a chunk")


if __name__ == "__main__":
    with EndpointProcess(ttft=0.05, tps=60, tokens=60) as endpoint:
        asyncio.run(measure(endpoint.base_url))
