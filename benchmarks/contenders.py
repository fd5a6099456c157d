"""Six ways to the same answer.

All ask the same endpoint for the same number of points, and each gets what its own request asks for. The usual script
is as it stands in many projects; the plain one, and the plain graph, are what a good engineer writes: they ask for
titles and for plain text, as this project does.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import instructor
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from openai import AsyncOpenAI
from pydantic import BaseModel, SecretStr
from typing_extensions import TypedDict

from sot_graph import SotOptions, astream_answer, create_sot_graph

__all__ = ["CONTENDERS", "QUESTION", "SCRIPTS", "Contender", "Setup", "chat_model", "contending", "sot_options"]

QUESTION = "What are the most effective ways to deal with stress?"
_MODEL = "simulated"
_KEY = "any"


@dataclass(frozen=True)
class Setup:
    """What a contender has to work with."""

    base_url: str
    points: int
    max_concurrency: int | None = None
    """Calls for points in flight at once."""


@dataclass(frozen=True)
class Contender:
    """One way to an answer."""

    name: str
    answer: Callable[[str], Awaitable[str]] | None
    """The whole answer to a question; `None`: it is only streamed."""
    read: Callable[[str], AsyncIterator[str]] | None = None
    """The answer's text in reading order, as it can be read; `None`: it is there all at once."""
    client: AsyncOpenAI | None = None
    """To be closed in the end."""


def chat_model(base_url: str) -> ChatOpenAI:
    """LangChain's model of an endpoint."""
    key = SecretStr(_KEY)
    return ChatOpenAI(model=_MODEL, base_url=base_url, api_key=key, stream_usage=True, use_responses_api=False)


# --- One sequential answer ------------------------------------------------------------------------------------------


def direct(setup: Setup) -> Contender:
    """The whole answer in one call, streamed."""
    client = AsyncOpenAI(base_url=setup.base_url, api_key=_KEY)

    async def read(question: str) -> AsyncIterator[str]:
        stream = await client.chat.completions.create(
            model=_MODEL, messages=[{"role": "user", "content": question}], stream=True
        )
        async for chunk in stream:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                yield text

    return Contender("direct", None, read, client)


# --- What most people write -----------------------------------------------------------------------------------------


class OutlinePoint(BaseModel):
    """One point of an outline."""

    index: int
    description: str


class Outline(BaseModel):
    """The outline of an answer."""

    points: list[OutlinePoint]


class Section(BaseModel):
    """The text of one point."""

    text: str


def _outline_prompt(question: str, points: int) -> str:
    return f"{question}\n\nWrite an outline of the answer as a list of {points} points."


def _section_prompt(question: str, title: str) -> str:
    return f"{question}\n\nWrite only the text of this point of the answer: {title}"


def _document(titles: Sequence[str], texts: Sequence[str]) -> str:
    pairs = zip(titles, texts, strict=True)
    return "\n\n".join(f"**{number}. {title}**\n\n{text}" for number, (title, text) in enumerate(pairs, 1))


def _script_client(setup: Setup) -> AsyncOpenAI:
    # The client's own five seconds for connecting lose answers of a crowd on a busy core.
    return AsyncOpenAI(base_url=setup.base_url, api_key=_KEY, timeout=600)


def _gate(setup: Setup) -> AbstractAsyncContextManager[object]:
    return asyncio.Semaphore(setup.max_concurrency) if setup.max_concurrency else nullcontext()


def instructor_gather(setup: Setup) -> Contender:
    """A structured outline by instructor on one shared OpenAI client, then one structured call a point in `gather`."""
    raw = _script_client(setup)
    client = instructor.from_openai(raw)

    async def answer(question: str) -> str:
        gate = _gate(setup)
        outline = await client.chat.completions.create(
            model=_MODEL,
            response_model=Outline,
            messages=[{"role": "user", "content": _outline_prompt(question, setup.points)}],
        )
        titles = [point.description for point in outline.points]

        async def write(title: str) -> str:
            async with gate:
                section = await client.chat.completions.create(
                    model=_MODEL,
                    response_model=Section,
                    messages=[{"role": "user", "content": _section_prompt(question, title)}],
                )
            return section.text

        return _document(titles, await asyncio.gather(*map(write, titles)))

    return Contender("instructor+gather", answer, client=raw)


# --- What a good engineer writes ------------------------------------------------------------------------------------


class Titles(BaseModel):
    """The titles of an answer's points."""

    points: list[str]


def plain_gather(setup: Setup) -> Contender:
    """The same script with titles only, validated by instructor, and points as plain text by the client itself."""
    raw = _script_client(setup)
    client = instructor.from_openai(raw)

    async def answer(question: str) -> str:
        gate = _gate(setup)
        outline = await client.chat.completions.create(
            model=_MODEL,
            response_model=Titles,
            messages=[{"role": "user", "content": _outline_prompt(question, setup.points)}],
        )

        async def write(title: str) -> str:
            async with gate:
                reply = await raw.chat.completions.create(
                    model=_MODEL, messages=[{"role": "user", "content": _section_prompt(question, title)}]
                )
            return reply.choices[0].message.content or ""

        return _document(outline.points, await asyncio.gather(*map(write, outline.points)))

    return Contender("plain gather", answer, client=raw)


class _State(TypedDict, total=False):
    question: str
    titles: list[str]
    sections: Annotated[list[tuple[int, str]], operator.add]
    answer: str


class _Job(TypedDict):
    question: str
    number: int
    title: str


def plain_langgraph(setup: Setup) -> Contender:
    """Titles by `with_structured_output`, a `Send` a point, plain texts, a join."""
    chat = chat_model(setup.base_url)
    outliner = chat.with_structured_output(Titles)

    async def plan(state: _State) -> _State:
        outline = await outliner.ainvoke(_outline_prompt(state["question"], setup.points))
        assert isinstance(outline, Titles)
        return {"titles": outline.points}

    def fan_out(state: _State) -> list[Send]:
        titles = enumerate(state["titles"])
        return [Send("write", _Job(question=state["question"], number=number, title=title)) for number, title in titles]

    async def write(state: _Job) -> _State:
        reply = await chat.ainvoke(_section_prompt(state["question"], state["title"]))
        return {"sections": [(state["number"], str(reply.text))]}

    async def join(state: _State) -> _State:
        return {"answer": _document(state["titles"], [text for _, text in sorted(state["sections"])])}

    builder: StateGraph[_State] = StateGraph(_State)
    builder.add_node("plan", plan)
    builder.add_node("write", write, input_schema=_Job)
    builder.add_node("join", join)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", fan_out, ["write"])
    builder.add_edge("write", "join")
    builder.add_edge("join", END)
    graph = builder.compile()
    config: Any = {"max_concurrency": setup.max_concurrency} if setup.max_concurrency else {}

    async def answer(question: str) -> str:
        return str((await graph.ainvoke({"question": question}, config))["answer"])

    return Contender("plain langgraph", answer)


# --- This project ---------------------------------------------------------------------------------------------------


def sot_options(setup: Setup, **more: Any) -> SotOptions:
    """As many points as the others are asked for."""
    return SotOptions(
        min_points=min(3, setup.points), max_points=setup.points, max_concurrency=setup.max_concurrency, **more
    )


def _sot(name: str, setup: Setup, options: SotOptions) -> Contender:
    graph = create_sot_graph(chat_model(setup.base_url), options=options)

    async def answer(question: str) -> str:
        return str((await graph.ainvoke({"question": question}))["answer"])

    return Contender(name, answer, lambda question: astream_answer(graph, {"question": question}))


def sot_graph(setup: Setup) -> Contender:
    """The graph as it comes."""
    return _sot("sot_graph", setup, sot_options(setup))


def sot_graph_pipelined(setup: Setup) -> Contender:
    """The graph that begins points while the skeleton is still being written."""
    return _sot("sot_graph pipelined", setup, sot_options(setup, dispatch="pipelined"))


SCRIPTS = ("instructor+gather", "plain gather")
"""What this project is compared with: the usual script, and a good engineer's."""

CONTENDERS: dict[str, Callable[[Setup], Contender]] = {
    "direct": direct,
    "instructor+gather": instructor_gather,
    "plain gather": plain_gather,
    "plain langgraph": plain_langgraph,
    "sot_graph": sot_graph,
    "sot_graph pipelined": sot_graph_pipelined,
}


@asynccontextmanager
async def contending(setup: Setup, *names: str) -> AsyncIterator[dict[str, Contender]]:
    """The contenders of these names; without names, all."""
    contenders = {name: CONTENDERS[name](setup) for name in names or CONTENDERS}
    try:
        yield contenders
    finally:
        for contender in contenders.values():
            if contender.client is not None:
                await contender.client.close()
