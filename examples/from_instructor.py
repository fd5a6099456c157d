"""A blog post about Hawaii, twice: the usual instructor + asyncio.gather script, and the graph.

    python examples/from_instructor.py                                   # a simulated endpoint: no key, no network
    python examples/from_instructor.py --base-url http://localhost:11434/v1 --model qwen3:4b

Offline, one section is made to fail the second time round, to show what becomes of the others.
"""

import argparse
import asyncio
from contextlib import nullcontext

import instructor
from instructor.core import InstructorRetryException
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from pydantic import BaseModel

from sot_graph import SotOptions, create_sot_graph, join_headings
from sot_graph.testing import Fault, Physics, SimulatedEndpoint, SkeletonResponder, Status

TOPIC = "Write a travel blog post about a recent trip to Hawaii, with cultural experiences and must-see attractions."
SECTIONS = {
    "Sunrise over Haleakala": "We stood above the clouds at three thousand metres, wrapped in every jumper we had.",
    "Learning the hula": "Our teacher in Hilo told the story of each gesture first. Only then did we get to dance.",
    "Pearl Harbor in silence": "The boat to the memorial was full, and nobody spoke. Book the free tickets early.",
    "Snorkelling at Hanauma Bay": "Green turtles passed below us as if we were not there. It rests two days a week.",
    "Poke from a petrol station": "The best meal of the trip came in a plastic bowl, and we ate it on the kerb.",
}


# --- The usual script -----------------------------------------------------------------------------------------------


class Outline(BaseModel):
    """The outline of a blog post: a list of section titles."""

    sections: list[str]


class Section(BaseModel):
    """One section of a blog post."""

    text: str


async def write_outline(client: instructor.AsyncInstructor, model: str) -> Outline:
    """One structured call."""
    return await client.chat.completions.create(
        model=model,
        response_model=Outline,
        messages=[{"role": "user", "content": f"{TOPIC}\n\nFirst write its outline as a JSON list of section titles."}],
    )


async def write_section(client: instructor.AsyncInstructor, model: str, title: str) -> Section:
    """One structured call for each section."""
    return await client.chat.completions.create(
        model=model,
        response_model=Section,
        messages=[{"role": "user", "content": f"{TOPIC}\n\nWrite only the following section: {title}"}],
    )


async def post_by_script(client: instructor.AsyncInstructor, model: str) -> str:
    """Outline, gather, join."""
    outline = await write_outline(client, model)
    sections = await asyncio.gather(*(write_section(client, model, title) for title in outline.sections))
    return "\n\n".join(
        f"## {title}\n\n{section.text}" for title, section in zip(outline.sections, sections, strict=True)
    )


# --- The graph ------------------------------------------------------------------------------------------------------


async def post_by_graph(chat: ChatOpenAI, finished: list | None = None) -> dict:
    """The same post; `finished` are expansions of an earlier run, which are not written again."""
    graph = create_sot_graph(chat, join=join_headings, options=SotOptions(point_length="one paragraph"))
    given = {"question": TOPIC}
    if finished is not None:
        given["given_expansions"] = finished
    return await graph.ainvoke(given)


# --- Both -----------------------------------------------------------------------------------------------------------


def simulated_endpoint() -> SimulatedEndpoint:
    """An OpenAI-compatible endpoint on this machine that has been to Hawaii."""
    responder = SkeletonResponder(titles=list(SECTIONS), text=lambda ask: SECTIONS.get(ask.title, "Aloha."))
    return SimulatedEndpoint(responder, physics=Physics.instant())


async def compare(base_url: str, model: str, endpoint: SimulatedEndpoint | None) -> None:
    """Write the post both ways; offline, also with a section that fails."""
    chat = ChatOpenAI(model=model, base_url=base_url, api_key="unused", use_responses_api=False)
    async with AsyncOpenAI(base_url=base_url, api_key="unused") as openai_client:
        client = instructor.from_openai(openai_client)
        print(f"=== The script\n\n{await post_by_script(client, model)}\n")
        result = await post_by_graph(chat)
        print(f"=== The graph\n\n{result['answer']}\n")
        if endpoint is None:
            return

        fails = Fault(Status(400), match=lambda request: "Learning the hula" in request.last_user)
        endpoint.faults.append(fails)
        try:
            await post_by_script(client, model)
        except InstructorRetryException:
            print("=== The script, when one section fails\n\nThe exception of that section; the others are lost.\n")
        result = await post_by_graph(chat)
        print(f"=== The graph, when one section fails\n\n{result['answer']}\n")

        endpoint.faults.clear()
        result = await post_by_graph(chat, finished=result["expansions"])
        calls = result["usage"]["total"]["calls"]
        print(f"=== The graph again, with what was finished ({calls} call)\n\n{result['answer']}")


def main() -> None:
    """Run both against the endpoint that was named, or against a simulated one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="of an OpenAI-compatible endpoint; without it: a simulated one")
    parser.add_argument("--model", default="simulated")
    arguments = parser.parse_args()
    with nullcontext() if arguments.base_url else simulated_endpoint() as endpoint:
        asyncio.run(compare(arguments.base_url or endpoint.base_url, arguments.model, endpoint))


if __name__ == "__main__":
    main()
