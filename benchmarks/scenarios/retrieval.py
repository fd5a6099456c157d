"""What a retriever of 0.3 s costs a reader: the first words, and the whole answer, beside the same without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from langchain_core.documents import Document

from benchmarks.contenders import Contender, Setup, chat_model, sot_options
from benchmarks.figures import Result
from benchmarks.physics import hosted
from benchmarks.rounds import interleaved
from benchmarks.scenarios.base import Plan, Scenario
from benchmarks.scenarios.hosted import FIRST, WHOLE, Shape, first_words_seconds, warm
from sot_graph import astream_answer, create_sot_graph
from tests.support.endpoint_process import EndpointProcess

__all__ = ["LATER", "SCENARIO", "SHAPES"]

RETRIEVER_SECONDS = 0.3
POINTS = 8
SHAPES = {"points of 60": "60", "points of 20 to 120": "20-120"}
DISPATCHES = ("send", "pipelined")
LATER = "later by a retriever"


async def find(query: str) -> list[Document]:
    """A document for anything."""
    await asyncio.sleep(RETRIEVER_SECONDS)
    return [Document(f"What is known of {query}", metadata={"source": f"{query}.md"})]


def _contenders(setup: Setup) -> dict[str, Contender]:
    contenders = {}
    for dispatch in DISPATCHES:
        options = sot_options(setup, dispatch=dispatch)
        for name, retriever in ((dispatch, None), (f"{dispatch}, retrieving", find)):
            graph = create_sot_graph(chat_model(setup.base_url), options=options, retriever=retriever)
            contenders[name] = Contender("", None, partial(_read, graph))
    return contenders


def _read(graph: Any, question: str) -> AsyncIterator[str]:
    return astream_answer(graph, {"question": question})


async def measure(plan: Plan) -> Result:
    """Every way once a round, streamed."""
    await warm(Shape())
    result = Result("retrieval", {"points": POINTS, "seconds of the retriever": RETRIEVER_SECONDS})
    plan.steps.begin(plan.rounds * len(SHAPES) * len(DISPATCHES) * 2)
    for shape, tokens in SHAPES.items():
        with EndpointProcess(
            ttft=hosted.time_to_first_token, tps=hosted.tokens_per_second, points=POINTS, tokens=tokens
        ) as endpoint:
            contenders = _contenders(Setup(endpoint.base_url, POINTS))
            for contender in contenders.values():  # connections, too
                await first_words_seconds(contender)
            ways = {name: partial(first_words_seconds, contender) for name, contender in contenders.items()}
            reads = await interleaved(ways, plan.rounds, plan.steps)
        for dispatch in DISPATCHES:
            for figure, of in ((FIRST, "first"), (WHOLE, "whole")):
                bare, grounded = (
                    [float(getattr(read, of)) for read in reads[name]] for name in (dispatch, f"{dispatch}, retrieving")
                )
                name = f"{dispatch}, {shape}"
                result.add(figure, name, "s", bare)
                later = [with_it - without for without, with_it in zip(bare, grounded, strict=True)]
                result.add(f"{figure}, {LATER}", name, "s", later)
    return result


SCENARIO = Scenario("retrieval", "a retriever of 0.3 s", measure, 3)
