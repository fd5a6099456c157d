"""One question answered two ways, told as it happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from sot_graph.errors import SotError
from sot_graph.graph import create_sot_graph
from sot_graph.llm.provider_errors import explain
from sot_graph.options import SotOptions
from sot_graph.report import result_timeline
from sot_graph.routing.protocol import always_direct
from sot_graph.streaming.answer_reader import AnswerReader, is_sot_event

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

DIRECT, SKELETON = "direct", "skeleton"


async def race(
    model: Runnable[Any, Any], question: str, options: SotOptions, *, in_turn: bool = False, local: bool = False
) -> AsyncIterator[dict[str, Any]]:
    """Answer a question directly and with a skeleton, and tell what happens, as it happens.

    Leaving the iterator early closes every model call.

    Args:
        model: It answers both ways. The direct way is the graph's own, so that both count and fail alike.
        question: The question.
        options: Of both ways.
        in_turn: The direct answer first, then the other. Otherwise both at once.
        local: Whether the model runs on this machine, where parallel calls share the cores.

    Yields:
        Dicts that fit into JSON, each with `way` (`"direct"` or `"skeleton"`), `at` (seconds from the start of that
        way) and `what`: `"begun"`; `"event"` with an `event` of the graph's; `"first_word"`, when somebody could
        read it; `"done"` with its `seconds` and other figures, the answer and a `timeline`; or `"failed"` with a
        `reason`.
    """
    news: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    ways = {
        DIRECT: create_sot_graph(model, options=options, router=always_direct),
        SKELETON: create_sot_graph(model, options=options),
    }

    async def run() -> None:
        go = partial(_run_way, question=question, tell=news.put_nowait, local=local)
        if not in_turn:
            await asyncio.gather(*(go(name, graph) for name, graph in ways.items()))
            return
        for name, graph in ways.items():
            await go(name, graph)

    running = asyncio.create_task(run())
    running.add_done_callback(lambda _: news.put_nowait(None))
    try:
        while (item := await news.get()) is not None:
            yield item
        await running
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _run_way(
    name: str, graph: Any, question: str, tell: Callable[[dict[str, Any]], None], *, local: bool
) -> None:
    """Run one way to its end. It tells what becomes of it, and raises nothing for what a model did."""
    started = time.monotonic()

    def now() -> float:
        return round(time.monotonic() - started, 3)

    def say(what: str, **more: Any) -> None:
        tell({"way": name, "what": what, "at": now(), **more})

    reader, result, first_word = AnswerReader(), {}, None
    say("begun")
    try:
        async with aclosing(graph.astream({"question": question}, stream_mode=["custom", "values"])) as parts:
            async for mode, value in parts:
                if mode == "values":
                    result = value
                elif is_sot_event(value):
                    # A title is no word of the answer's text: both ways are measured by what somebody reads first.
                    if reader.feed(value).strip() and value.get("text") and first_word is None:
                        first_word = now()
                        say("first_word")
                    say("event", event=value)
    except SotError as error:
        say("failed", reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a model did, the other way goes on
        say("failed", reason=explain(error))
    else:
        ended = now()
        say("done", seconds=ended, first_word=first_word, **_figures(result, local=local))


def _figures(result: Mapping[str, Any], *, local: bool) -> dict[str, Any]:
    total = result["usage"]["total"]
    return {
        "answer": result["answer"],
        "route": result["route"],
        "calls": total["calls"],
        "input_tokens": total["input_tokens"],
        "output_tokens": total["output_tokens"],
        "timeline": result_timeline(result, local=local),
    }
