"""A graph's calls by a provider's batches: a graph is run again and again, each time with the replies that are there.

A loopback endpoint answers the requests that the ledger has a reply to, and notes and refuses the others. So the first
pass notes all skeletons, the second one all points, and the third gives the answers. No graph and no client is
changed for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from langsmith import tracing_context

from sot_graph.batch.row import Row, try_row
from sot_graph.errors import ExpansionError

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from sot_graph.batch.answer_file import AnswerFile
    from sot_graph.batch.request_ledger import RequestLedger

_NOT_YET = "this request waits for the provider's batch"
_LARGEST_BODY = 64 * 1024 * 1024
_REFUSED = 401
"""The status of a request that has no reply yet. A graph takes it for a wrong key, so it neither repeats the call nor
falls back to another format: it asks nothing that it wouldn't have asked."""


async def replay(
    make_graph: Callable[[str], Runnable[Any, Any]],
    rows: Iterator[Row],
    answers: AnswerFile,
    ledger: RequestLedger,
    *,
    workers: int,
) -> int:
    """Answer those rows whose requests have replies, and note what the others ask.

    Args:
        make_graph: Makes the graph, for a model at this address.
        rows: The questions that are still to be answered.
        answers: Where answers go.
        ledger: What was asked and replied.
        workers: Rows at once.

    Returns:
        How many rows wait for replies.
    """
    waiting = 0

    async def work(graph: Runnable[Any, Any]) -> None:
        nonlocal waiting
        for row in rows:
            earlier = answers.unfinished(row["id"])
            # As long as points wait, nothing is to be made of the others, such as a conclusion.
            record, failure = await try_row(graph, row, earlier=earlier, context={"on_point_failure": "raise"})
            if isinstance(failure, ExpansionError) and not _waits(record):
                record, _ = await try_row(graph, row, earlier=earlier, context={"on_point_failure": "mark"})
            if _waits(record):
                waiting += 1
                continue
            _halve_cost(record, earlier or {})
            answers.add(record)

    logger = logging.getLogger("sot_graph")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what waits is no point that failed
    try:
        with tracing_context(enabled=False):
            async with _endpoint(ledger) as address, asyncio.TaskGroup() as group:
                graph = make_graph(address)
                for _ in range(workers):
                    group.create_task(work(graph))
    finally:
        logger.setLevel(level)
    return waiting


def _waits(record: Mapping[str, Any]) -> bool:
    """Whether a call has no reply yet: the refusal's message is the error of the row, or of one of its texts."""
    return _NOT_YET in json.dumps(record)


def _halve_cost(record: dict[str, Any], earlier: Mapping[str, Any]) -> None:
    """Batches are sold at half the price. The record holds what an earlier try cost, too, which was halved then."""
    cost = record.get("usage", {}).get("cost", {})
    before = earlier.get("usage", {}).get("cost", {})
    cost |= {stage: (paid + before.get(stage, 0.0)) / 2 for stage, paid in cost.items() if isinstance(paid, float)}


@asynccontextmanager
async def _endpoint(ledger: RequestLedger) -> AsyncIterator[str]:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        key = ledger.key(body)
        if (known := ledger.reply(key)) is not None:
            status, reply = known
            return web.json_response(reply, status=status)
        ledger.ask(key, body)
        error = {"type": "authentication_error", "message": _NOT_YET}
        return web.json_response({"type": "error", "error": error}, status=_REFUSED)

    app = web.Application(client_max_size=_LARGEST_BODY)
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
