"""What it costs to say the answer to those who listen to messages, in CPU time of the process that runs the graph.

LangGraph's own part is measured beside it: a plain graph of as many nodes, of which one is heard.

uv run python -m benchmarks.messages
"""

import asyncio
import operator
import statistics
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from sot_graph import SotOptions, create_sot_graph
from tests.support.endpoint_process import EndpointProcess

ASK: Any = {"question": "How do plants grow?"}
ROUNDS = 25
POINTS = 8


class _State(TypedDict, total=False):
    index: int
    done: Annotated[list[int], operator.add]


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
    """Eight nodes that stream at once; one is heard."""
    model = _PacedModel(messages=iter(()))

    async def write(state: _State) -> _State:
        async for _ in model.astream("?", {"tags": ["nostream"] if state["index"] else []}):
            pass
        return {"done": [state["index"]]}

    builder = StateGraph(_State).add_node("write", write)
    builder.add_conditional_edges(START, lambda _: [Send("write", {"index": index}) for index in range(POINTS)])
    return builder.compile()


async def cost_of_listening(graph: Any, given: Any) -> tuple[float, float, int]:
    """CPU milliseconds of a run that nobody hears, microseconds a chunk above 1.05 x that, and the chunks."""
    unheard, more = [], []
    chunks = 0
    for _ in range(ROUNDS + 1):
        before = time.process_time()
        await graph.ainvoke(given)
        between = time.process_time()
        chunks = len([chunk async for chunk in graph.astream(given, stream_mode="messages")])
        unheard.append(between - before)
        more.append((time.process_time() - between - 1.05 * unheard[-1]) / chunks)
    return statistics.median(unheard[1:]) * 1e3, statistics.median(more[1:]) * 1e6, chunks


async def measure(base_url: str) -> None:
    """Interleaved rounds; medians."""
    model = ChatOpenAI(model="simulated", api_key="none", base_url=base_url, stream_usage=True)  # type: ignore[arg-type]
    sot = create_sot_graph(model, options=SotOptions(stream=True))
    for name, graph, given in (("sot_graph", sot, ASK), ("LangGraph alone", plain_graph(), {"done": []})):
        unheard, more, chunks = await cost_of_listening(graph, given)
        print(f"{name}: nobody listens {unheard:.1f} ms; above 1.05 x that: {more:.0f} us a chunk ({chunks} chunks)")
    print("target: at most 100 us a chunk")


if __name__ == "__main__":
    with EndpointProcess(ttft=0.05, tps=60, tokens=60) as endpoint:
        asyncio.run(measure(endpoint.base_url))
