"""`Retriever`: whatever finds a caller's documents, and how it is asked.

A point's documents can be looked for as soon as its title is there, while the skeleton is still being written. The
point's node begins only after that. So such a retrieval is a task of the run's invocation, begun where the skeleton is
drafted; the point takes it over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda

from sot_graph.concurrency.background_loop import create_run_task
from sot_graph.concurrency.isolation import call_user_code, in_new_thread, run_isolated
from sot_graph.errors import check_call
from sot_graph.retrieval.documents import read_documents

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from sot_graph.run import RunContext
    from sot_graph.types import SkeletonPoint, SourceDocument, Stage

logger = logging.getLogger("sot_graph")

Retriever: TypeAlias = Runnable[str, Any] | Callable[[str], Sequence[Any] | Awaitable[Sequence[Any]]]
"""`query -> documents`: a retriever of LangChain's, another Runnable, or a callable, also async."""

FOUND_NOTHING = "the retriever found nothing for it"
_LONGEST_REASON = 200


def check_retriever(retriever: object) -> None:
    """Raise `SotConfigError` unless it can be asked a query."""
    if not isinstance(retriever, Runnable):
        check_call("retriever", retriever, {"query": ""}, hint=", or a retriever of LangChain's")


def retrieve_ahead(question: str, run: RunContext) -> Callable[[SkeletonPoint], None] | None:
    """What begins a point's retrieval, to be called when its title is there; `None`: there is nothing to begin.

    Not before a review, which nobody may come back from.
    """
    if run.retriever is None or run.parts.options.review_skeleton:
        return None

    def begin(point: SkeletonPoint) -> None:
        query, about = query_for(question, point), run.shown_point(point)
        if query not in run.invocation.retrievals:
            task = create_run_task(_found(query, run, about=about, stage="expansion"))
            run.invocation.retrievals[query] = task

    return begin


def query_for(question: str, point: SkeletonPoint) -> str:
    """What the retriever is asked for a point."""
    return f"{question} {point['title']}"


def seconds_for_retrieval(run: RunContext) -> float | None:
    """How long a retriever or a ranker may take: of what is left until a deadline, half is for the text."""
    return run.seconds_left(run.options.retrieval_timeout, share=0.5)


def failure_of(error: Exception, run: RunContext, timer: asyncio.Timeout, limit: float | None) -> str:
    """What became of a retriever or a ranker, in one line."""
    if isinstance(error, TimeoutError) and timer.expired():
        which = "retrieval_timeout" if limit == run.options.retrieval_timeout else "half of the time until the deadline"
        return f"had found nothing after {limit:.3g} s ({which})"
    return f"failed ({' '.join(run.described(error).split())[:_LONGEST_REASON]})"


async def retrieve(query: str, run: RunContext, *, about: str, stage: Stage) -> tuple[list[SourceDocument], str]:
    """Ask the run's retriever, or take over what it was asked ahead.

    Args:
        query: What to look for.
        run: The node's execution.
        about: What it is asked for, as traces and the log show it: `"3: Soil"`.
        stage: Of the call.

    Returns:
        What it found, and, where that is nothing, why. It is never raised: there is always something to write from.
    """
    if (begun := run.invocation.retrievals.pop(query, None)) is None:
        documents, why = await _found(query, run, about=about, stage=stage)
    else:

        async def take_over(_query: str) -> tuple[list[SourceDocument], str]:
            return await begun

        # The retriever's own run stands in the trace where it began; the point's shows what it got, and how long it
        # waited for that.
        config = run.child_config(run_name=f"retrieve {about}", stage=stage)
        documents, why = await RunnableLambda(take_over).ainvoke(query, config)
    if why:
        logger.warning("Retrieval (%s): %s; it is written from what there is.", about, why)
    return documents, why


async def _found(query: str, run: RunContext, *, about: str, stage: Stage) -> tuple[list[SourceDocument], str]:
    retriever, limit = run.retriever, seconds_for_retrieval(run)
    assert retriever is not None, "it is asked only where there is one"
    config = run.child_config(run_name=f"retrieve {about}", stage=stage)
    try:
        async with asyncio.timeout(limit) as timer:
            found = await run_isolated(_ask(retriever, query, config), f"The retriever ({about})")
            documents = read_documents(found, what="the retriever's documents")
    except Exception as error:  # noqa: BLE001  (a caller's code may raise what it likes)
        return [], f"the retriever {failure_of(error, run, timer, limit)}"
    return documents, "" if documents else FOUND_NOTHING


async def _ask(retriever: Retriever, query: str, config: RunnableConfig) -> Any:
    inherited = BaseRetriever._aget_relevant_documents  # a retriever's own is documented to take its place
    if isinstance(retriever, BaseRetriever) and type(retriever)._aget_relevant_documents is inherited:
        # It has no asynchronous method. LangChain would have it wait for one of the event loop's few threads.
        return await in_new_thread(lambda: retriever.invoke(query, config))
    return await call_user_code(retriever, query, config)
