"""What clients show of an answer, and when: the real ones, on a simulated endpoint with an API's physics.

uv run python -m benchmarks.clients [--page] [--screenshots FOLDER]

With `--page` the table goes into docs/clients.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import httpx2
from ag_ui_langgraph import LangGraphAgent, add_langgraph_fastapi_endpoint
from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph_openai_serve import GraphConfig, GraphRegistry, LanggraphOpenaiServe
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from openai import AsyncOpenAI
from playwright.async_api import Browser

from benchmarks.pages import filled
from benchmarks.physics import hosted
from sot_graph import SotOptions, create_sot_graph
from sot_graph.testing import SimulatedEndpoint, SkeletonResponder
from tests.support.clients import WEB, ChatPage, chromium, install_packages, page_served, program, served
from tests.support.development_server import development_server

PAGE = Path(__file__).parents[1] / "docs" / "clients.md"
QUESTION = "What are good tips for keeping a garden?"
CHAT: Any = {"messages": [{"role": "user", "content": QUESTION}]}
SCREENSHOTS = (0.7, 1.5, 3.0)
"""Seconds after the question."""

Way: TypeAlias = tuple[str, Literal["send", "pipelined"]]
WAYS: list[Way] = [("sot_graph", "send"), ("sot_graph", "pipelined"), ("agent", "send"), ("agent", "pipelined")]
"""The graph itself or a parent with it as a node, and how points are begun."""
POINTS, TOKENS = 8, 60

_text = SkeletonResponder(points=POINTS)


def _written(title: str) -> str:
    return (title + " leaf" * TOKENS)[: 4 * TOKENS - 1] + "."


responder = SkeletonResponder(titles=_text.titles, text=lambda ask: _written(ask.title))
ANSWER = "\n\n".join(f"**{number}. {title}**\n\n{_written(title)}" for number, title in enumerate(responder.titles, 1))


class Reading:
    """What a client shows, from the moment its question is sent."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.first = 0.0
        """Seconds until text could be seen."""
        self.switches = 0
        """How often what had been shown was no longer the beginning."""
        self.hidden = 0.0
        """Seconds for which text that had been shown wasn't."""
        self.texts: list[str] = []
        self._pieces: dict[str, str] = {}
        self._before = ""
        self._hidden_since = 0.0

    def add(self, key: str, text: str) -> None:
        """A piece of a message, in a client that adds them up."""
        self._pieces[key] = self._pieces.get(key, "") + text
        self.see([*self._pieces.values()])

    def see(self, texts: list[str]) -> None:
        """These texts are shown now."""
        now, self.texts, shown = time.monotonic(), texts, "".join(texts)
        if not shown:
            self._hidden_since = self._hidden_since or (now if self.first else 0.0)
            return
        if self._hidden_since:
            self.hidden += now - self._hidden_since
            self._hidden_since = 0.0
        self.first = self.first or now - self.begun
        self.switches += not shown.startswith(self._before)
        self._before = shown

    @property
    def end(self) -> str:
        """In words."""
        if self.texts == [ANSWER]:
            return "the answer, once"
        return "the answer in pieces" if "".join(self.texts) == ANSWER else "something else"


@dataclass
class Bench:
    """Everything that the clients talk to."""

    server: str
    sdk: LangGraphClient
    graphs: dict[Way, Any]
    """In this process."""
    assistants: dict[Way, str]
    """The same on the development server, by their ids."""
    front: str
    """The address of the AG-UI agents, and of the OpenAI-compatible front."""
    page: str
    browser: Browser


async def messages_mode(bench: Bench, way: Way, reading: Reading) -> None:
    """In the process."""
    async for message, _ in bench.graphs[way].astream(
        CHAT, {"configurable": {"thread_id": "1"}}, stream_mode="messages"
    ):
        reading.add(message.id, message.content)


async def python_sdk(bench: Bench, way: Way, reading: Reading) -> None:
    """The SDK, and the development server."""
    async for part in bench.sdk.runs.stream(None, bench.assistants[way], input=CHAT, stream_mode="messages-tuple"):
        if part.event == "messages":
            reading.add(part.data[0]["id"], part.data[0]["content"])


async def ag_ui(bench: Bench, way: Way, reading: Reading) -> None:
    """As CopilotKit's runtime asks."""
    asked = {"id": "1", "role": "user", "content": QUESTION}
    body: dict[str, Any] = {"threadId": str(reading.begun), "runId": "1", "messages": [asked], "tools": []}
    body |= {"context": [], "state": {}, "forwardedProps": {}}
    agent = f"{bench.front}/{'-'.join(way)}"
    async with httpx2.AsyncClient(timeout=60) as http, http.stream("POST", agent, json=body) as response:
        async for line in response.aiter_lines():
            event = json.loads(line.removeprefix("data: ")) if line else {}
            if event.get("type") == "TEXT_MESSAGE_CONTENT":
                reading.add(event["messageId"], event["delta"])


async def openai_front(bench: Bench, way: Way, reading: Reading) -> None:
    """OpenAI's client."""
    async with AsyncOpenAI(base_url=f"{bench.front}/v1", api_key="none") as client:
        asked: Any = [{"role": "user", "content": QUESTION}]
        async for chunk in await client.chat.completions.create(model="-".join(way), messages=asked, stream=True):
            for choice in chunk.choices:
                reading.add(chunk.id, choice.delta.content or "")


async def ai_sdk(bench: Bench, way: Way, reading: Reading) -> None:
    """The adapter's transport, in Node."""
    command = [program("node"), str(WEB / "ai_sdk.mjs"), QUESTION, bench.assistants[way], bench.server]
    node = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, limit=2**20)
    assert node.stdout
    async for line in node.stdout:
        message = json.loads(line)
        if message["role"] == "user":  # it has started, which takes half a second, and sends the question now
            reading.begun = time.monotonic()
        else:
            reading.see([part["text"] for part in message["parts"] if part["type"] == "text"])
    await node.wait()


async def in_page(bench: Bench, way: Way, reading: Reading, hook: str, screenshots: Path | None = None) -> None:
    """The page of examples/web."""
    chat = ChatPage(await bench.browser.new_page(viewport={"width": 900, "height": 700}))
    await chat.open(bench.page, bench.server, bench.assistants[way], hook)
    chat.sees = reading.see
    reading.begun = time.monotonic()
    await chat.ask(QUESTION)
    for moment in SCREENSHOTS if screenshots else ():
        await asyncio.sleep(moment - (time.monotonic() - reading.begun))
        await chat.page.screenshot(path=f"{screenshots}/{hook}-{'-'.join(way)}-{moment:g}s.png")
    await chat.ends_with(ANSWER)
    await chat.page.close()


CLIENTS: dict[str, Callable[[Bench, Way, Reading], Awaitable[None]]] = {
    '`stream_mode="messages"`, in process': messages_mode,
    "Python SDK": python_sdk,
    "AG-UI (`ag-ui-langgraph`)": ag_ui,
    "OpenAI client (`langgraph-openai-serve`)": openai_front,
    "`useStream` of the JavaScript SDK, Chromium": partial(in_page, hook="sdk"),
    "`useStream` of `@langchain/react`, Chromium": partial(in_page, hook="react"),
    "AI SDK (`@ai-sdk/langchain`), Node": ai_sdk,
}


def make_graph(endpoint: SimulatedEndpoint, way: Way) -> Any:
    """A graph of this process."""
    place, dispatch = way
    options = SotOptions(dispatch=dispatch)
    if place == "sot_graph":
        return create_sot_graph(endpoint.chat_model(), options=options)
    builder = StateGraph(MessagesState)
    builder.add_node("long_answer", create_sot_graph(endpoint.chat_model(), options=options))
    builder.add_edge(START, "long_answer")
    return builder.compile()


@asynccontextmanager
async def opened(endpoint: SimulatedEndpoint) -> AsyncIterator[Bench]:
    """All servers, and the browser."""
    install_packages()
    app = FastAPI()
    graphs = {way: make_graph(endpoint, way) for way in WAYS}
    for way in WAYS:
        agent = make_graph(endpoint, way)
        agent.checkpointer = InMemorySaver()
        add_langgraph_fastapi_endpoint(app, LangGraphAgent(name="agent", graph=agent), f"/{'-'.join(way)}")
    models = {"-".join(way): GraphConfig(graph=graph, description="Long answers.") for way, graph in graphs.items()}
    LanggraphOpenaiServe(graphs=GraphRegistry(registry=models), app=app).bind_openai_api()
    settings = {"OPENAI_API_KEY": "test", "OPENAI_BASE_URL": endpoint.base_url}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server = stack.enter_context(development_server(folder, **settings)).url
        front, page = stack.enter_context(served(app)), stack.enter_context(page_served())
        async with get_client(url=server) as sdk, chromium() as browser:
            assistants = {}
            for place, dispatch in WAYS:
                context = {"dispatch": dispatch} if place == "sot_graph" else {"sot": {"dispatch": dispatch}}
                made = await sdk.assistants.create(place, context=context)
                assistants[place, dispatch] = made["assistant_id"]
            yield Bench(server, sdk, graphs, assistants, front, page, browser)


async def measured(rounds: int, screenshots: Path | None) -> str:
    """The table."""
    rows = []
    with SimulatedEndpoint(responder, physics=hosted) as endpoint:
        async with opened(endpoint) as bench:
            for name, client in CLIENTS.items():
                cells, readings = [], []
                await client(bench, WAYS[0], Reading())  # connections, imports
                for way in WAYS:
                    print(f"measuring: {name}, {' '.join(way)} ...", file=sys.stderr, flush=True)
                    firsts, without = [], []
                    for _ in range(rounds):
                        endpoint.reset()
                        reading = Reading()
                        await client(bench, way, reading)
                        readings.append(reading)
                        firsts.append(reading.first)
                        without.append(reading.first - (endpoint.requests[0].arrived_at - reading.begun))
                    cells.append(f"{statistics.median(firsts):.2f} ({statistics.median(without):.2f})")
                switches = sum(reading.switches for reading in readings)
                hidden = max(reading.hidden for reading in readings)
                ends = ", ".join(sorted({reading.end for reading in readings}))
                rows.append([name, *cells, f"{switches}", f"{hidden:.2f}", ends])
            for hook in ("react", "sdk") if screenshots else ():
                await in_page(bench, WAYS[0], Reading(), hook, screenshots)
    headings = ["client", "root", "root, pipelined", "node", "node, pipelined"]
    headings += ["order switches", "hidden, s", "in the end"]
    lines = [headings, ["---", *["---:"] * 6, "---"], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="write the table into docs/clients.md")
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the React page")
    given = parser.parse_args()
    table = asyncio.run(measured(given.rounds, given.screenshots))
    print(table)
    if given.page:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), {"clients": table}), encoding="utf-8")


if __name__ == "__main__":
    main()
