"""`answer_row`: one question of many, from a plain row to a plain record."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from sot_graph.errors import ExpansionError
from sot_graph.llm.provider_errors import explain
from sot_graph.usage import add_usage

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

_INPUT_KEYS = ("question", "messages", "documents")
_KEPT_OF_UNFINISHED = ("skeleton", "expansions", "frame")
"""What a later try goes on from."""


class Row(TypedDict, total=False):
    """One question. `question` or `messages` is there."""

    id: str
    """The row's name in the answers; if there is none, a hash of the rest."""
    question: str
    messages: list[Any]
    """A conversation whose last human message is the question: messages of LangChain's, or `{"role", "content"}`."""
    documents: list[Any]
    """What the answer is to rest on."""


def row_id(row: Mapping[str, Any]) -> str:
    """The row's own id, or a hash of what is asked."""
    given = row.get("id")
    return hash_of(row) if given in (None, "") else str(given)


def hash_of(row: Mapping[str, Any]) -> str:
    """A hash of what is asked."""
    text = json.dumps(_graph_input(row), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _graph_input(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in _INPUT_KEYS if row.get(key)}


def is_whole(record: Mapping[str, Any]) -> bool:
    """Whether nothing of a record is left to do: there is an answer, and none of its texts failed."""
    return "error" not in record and "expansions" not in record


async def answer_row(
    graph: Runnable[Any, Any], row: Mapping[str, Any], *, earlier: Mapping[str, Any] | None = None, context: Any = None
) -> dict[str, Any]:
    """Answer one row.

    Args:
        graph: Of `create_sot_graph`.
        row: A `Row`.
        earlier: What this function returned for the row before: its good points are kept, the others are written.
        context: The run's context, as for `graph.invoke`.

    Returns:
        Plain JSON: `id`, `asked` (a hash of what the row asks), `answer`, `route`, `statuses` (of the points),
        `usage`, `seconds`; `sources`, if there are any. `error`, a line, in place of the answer where there is none.
        Where a text failed, also the `skeleton`, the `expansions` and the `frame`, for a later try.

    Examples:
        >>> from sot_graph import create_sot_graph
        >>> from sot_graph.testing import ScriptedChatModel, answer_skeleton_of_thought
        >>> graph = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought(points=3)))
        >>> record = asyncio.run(answer_row(graph, {"id": "1", "question": "How does sleep help memory?"}))
        >>> record["statuses"]
        ['ok', 'ok', 'ok']
    """
    record, _ = await try_row(graph, row, earlier=earlier, context=context)
    return record


async def try_row(
    graph: Runnable[Any, Any], row: Mapping[str, Any], *, earlier: Mapping[str, Any] | None = None, context: Any = None
) -> tuple[dict[str, Any], Exception | None]:
    """As `answer_row`; with the record comes what was raised, if anything was."""
    given = _graph_input(row)
    before = earlier or {}
    if before.get("expansions"):
        given["given_expansions"] = before["expansions"]
        given["given_skeleton"] = before.get("skeleton") or [one["title"] for one in before["expansions"]]
        if before.get("frame"):
            given["given_frame"] = before["frame"]
    started = time.monotonic()
    failure: Exception | None = None
    try:
        found: Mapping[str, Any] = await graph.ainvoke(given, context=context)
        record = _record_of(found)
    except Exception as error:  # noqa: BLE001 - one row's failure is never another's
        failure, kept = error, (*_KEPT_OF_UNFINISHED, "statuses")
        record = {"error": explain(error), **{key: before[key] for key in kept if key in before}}
        if isinstance(error, ExpansionError):
            record |= {"statuses": [one["status"] for one in error.expansions], "expansions": error.expansions}
            if error.frame:
                record["frame"] = error.frame
            if error.usage is not None:
                record["usage"] = error.usage
    if before.get("usage"):
        record["usage"] = add_usage(before["usage"], record.get("usage"))
    if "usage" in record:  # stages of which there was nothing would be most of the line
        record["usage"] = {stage: used for stage, used in record["usage"].items() if stage == "total" or _is_used(used)}
    seconds = round(time.monotonic() - started, 3)
    return {"id": row_id(row), "asked": hash_of(row), **record, "seconds": seconds}, failure


def _record_of(result: Mapping[str, Any]) -> dict[str, Any]:
    record = {"answer": result["answer"], "route": result["route"]}
    expansions, frame = result.get("expansions") or [], result.get("frame") or {}
    record["statuses"] = [one["status"] for one in expansions]
    if result.get("finish_reason") == "length":
        record["finish_reason"] = "length"
    if result.get("sources"):
        record["sources"] = result["sources"]
    record["usage"] = result["usage"]
    if any(text["status"] != "ok" for text in (*expansions, *frame.values())):
        record |= {key: result[key] for key in _KEPT_OF_UNFINISHED if result.get(key)}
    return record


def _is_used(used: object) -> bool:
    return any(used.values()) if isinstance(used, Mapping) else bool(used)
