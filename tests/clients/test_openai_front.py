"""An OpenAI-compatible front, `langgraph-openai-serve`, as docs/clients.md shows it."""

import re
from pathlib import Path

import pytest
from langgraph_openai_serve import GraphConfig, GraphRegistry, LanggraphOpenaiServe
from openai import AsyncOpenAI

from tests.clients.conftest import ANSWER, QUESTION

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"


@pytest.fixture
async def openai(make_graph, serve):
    """OpenAI's own client for a server that has the graph as a model."""
    registry = GraphRegistry(registry={"sot": GraphConfig(graph=make_graph(), description="Long answers, soon.")})
    front = LanggraphOpenaiServe(graphs=registry).bind_openai_api()
    async with AsyncOpenAI(base_url=f"{serve(front.app)}/v1", api_key="none") as client:
        yield client


async def test_chat_completions_stream_the_answer(openai, showing):
    messages = [{"role": "user", "content": QUESTION}]
    with showing() as shown:
        stream = await openai.chat.completions.create(
            model="sot", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            for choice in chunk.choices:
                shown.add(chunk.id, choice.delta.content or "")
    shown.is_live()
    assert chunk.usage.completion_tokens > 0


async def test_responses_stream_the_answer(openai, showing):
    with showing() as shown:
        stream = await openai.responses.create(model="sot", input=QUESTION, stream=True, store=False)
        async for event in stream:
            if event.type == "response.output_text.delta":
                shown.add(event.item_id, event.delta)
    shown.is_live()
    assert (event.type, event.response.output_text) == ("response.completed", ANSWER)


async def test_without_a_stream_it_is_the_same(openai, showing):
    with showing() as shown:
        shown.see([ANSWER])  # nobody waits for it
        reply = await openai.chat.completions.create(model="sot", messages=[{"role": "user", "content": QUESTION}])
    assert reply.choices[0].message.content == ANSWER


async def test_the_front_of_the_docs_answers(serve):
    namespace = {}
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(compile(code, str(PAGE), "exec"), namespace)
    async with AsyncOpenAI(base_url=f"{serve(namespace['app'])}/v1", api_key="none") as client:
        messages = [{"role": "user", "content": QUESTION}]
        stream = await client.chat.completions.create(model="long-answers", messages=messages, stream=True)
        said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert said.startswith("**1. Seed**\n\nAbout Seed.\n\n**2. Soil**")
