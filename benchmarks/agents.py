"""What the middleware and the tool do to an agent's long answer, on a simulated endpoint with an API's physics.

uv run python benchmarks/agents.py
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk

from sot_graph import SkeletonOfThoughtMiddleware, astream_answer, create_sot_graph, create_sot_tool
from sot_graph.testing import ChatRequest, Physics, Reply, SimulatedEndpoint, SkeletonResponder, ToolCall

QUESTION = {"messages": [("user", "What are good tips for starting a vegetable garden in Oslo?")]}
PHYSICS = Physics(time_to_first_token=0.4, tokens_per_second=60.0)
write = SkeletonResponder(points=8, tokens_per_point=60)


def weather(city: str) -> str:
    """How the weather is in a city."""
    return f"12 degrees in {city}."


def respond(request: ChatRequest) -> Reply:
    """One call of a tool, then the answer: by its skeleton where that is asked for, else 480 tokens."""
    if "one point" in request.last_user:
        return write(request)
    if request.tools and not any(message["role"] == "tool" for message in request.messages):
        name = request.tools[0]["function"]["name"]
        arguments = {"city": "Oslo"} if name == "weather" else {"question": QUESTION["messages"][0][1]}
        return Reply(tool_calls=[ToolCall(name, arguments)])
    if "Decide how to go on" in request.last_user:
        return Reply("\n".join(f"{number}. {title}" for number, title in enumerate(write.titles, 1)))
    return write(ChatRequest({**request.raw, "tools": []}))


async def of_agent(agent: Any) -> tuple[float, float]:
    """Seconds to the first word of the answer, and to its end, as the agent's message stream has it."""
    begin, first = time.monotonic(), 0.0
    async for chunk, metadata in agent.astream(QUESTION, stream_mode="messages"):
        if isinstance(chunk, AIMessageChunk) and chunk.text and metadata["langgraph_node"] == "model":
            first = first or time.monotonic() - begin
    return first, time.monotonic() - begin


async def of_answer(agent: Any) -> tuple[float, float]:
    """The same, as `astream_answer` reads it."""
    begin, first = time.monotonic(), 0.0
    async for _ in astream_answer(agent, QUESTION):
        first = first or time.monotonic() - begin
    return first, time.monotonic() - begin


def agents(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """The ways to one long answer."""
    yield "plain agent", create_agent(model, [weather]), of_agent
    middleware = [SkeletonOfThoughtMiddleware(lambda question, history: "skeleton")]
    yield "with the middleware", create_agent(model, [weather], middleware=middleware), of_agent
    tool = create_sot_tool(create_sot_graph(model), return_direct=True)
    yield "with the tool, returned directly", create_agent(model, [tool]), of_answer


async def main() -> None:
    """Print a table."""
    with SimulatedEndpoint(respond, physics=PHYSICS) as endpoint:
        print("| | first word, s | whole answer, s | calls | prompt tokens |\n|---|---|---|---|---|", flush=True)
        for name, agent, measure in agents(endpoint.chat_model()):
            print(f"measuring: {name} ...", file=sys.stderr, flush=True)
            await measure(agent)  # connections, imports
            endpoint.reset()
            first, whole = await measure(agent)
            prompts = sum(logged.request.prompt_tokens for logged in endpoint.requests)
            print(f"| {name} | {first:.1f} | {whole:.1f} | {len(endpoint.requests)} | {prompts:,} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
