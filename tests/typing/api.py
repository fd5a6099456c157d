"""Type-checked by `make check`, never run: what a user's code may say."""

from collections.abc import Sequence
from typing import Any, assert_type

from langchain_core.documents import Document
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from sot_graph import (
    ExpanderInput,
    Expansion,
    PointwiseJoin,
    SkeletonOfThoughtMiddleware,
    SkeletonPoint,
    SotContext,
    SotOptions,
    SotPrompts,
    Source,
    create_sot_graph,
    create_sot_tool,
    join_plain,
)


def my_join(question: str, skeleton: list[SkeletonPoint], expansions: list[Expansion]) -> str:
    return question + "".join(expansion["text"] for expansion in expansions)


def my_expander(given: ExpanderInput) -> dict[str, Any]:
    source: Source = {"title": "Handbook", "url": "https://example.org"}
    return {"text": given["point"]["title"], "sources": [source]}


async def my_retriever(query: str) -> list[Document]:
    return [Document(query)]


def my_ranker(query: str, documents: Sequence[Document]) -> Sequence[Document]:
    return documents[::-1]


def build(model: Runnable[Any, Any]) -> None:
    create_sot_graph("gpt-4o-mini")
    create_sot_graph(model, join=join_plain)
    create_sot_graph(model, expander=my_expander)
    create_sot_graph(model, expander=model)
    create_sot_graph(model, join=PointwiseJoin(head="{title}: "))
    graph = create_sot_graph(
        model,
        skeleton_model="openai:gpt-4o-mini",
        options=SotOptions(max_points=5, deadline=20.0),
        prompts=SotPrompts(direct="{question}"),
    )
    create_sot_graph(model, retriever=my_retriever, ranker=my_ranker)
    tool: BaseTool = create_sot_tool(graph, name="explain", description="Explains.", return_direct=True)
    tool.invoke({"question": "?"})
    SkeletonOfThoughtMiddleware(lambda question, history: "skeleton", options=SotOptions(max_points=6))
    context: SotContext = {"max_points": 4}
    result = graph.invoke({"question": "?"}, context=context)
    assert_type(result["answer"], Any)
