"""One text within its time: what becomes of it, whatever its writer does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sot_graph.llm.call import BrokenStreamError, ModelCall
from sot_graph.llm.provider_errors import explain

if TYPE_CHECKING:
    from sot_graph.expansion.expanding import ExpanderWriter
    from sot_graph.expansion.replying import TextWriter
    from sot_graph.types import ExpansionStatus

__all__ = ["write_in_time", "write_something"]

_TRIES_FOR_A_TEXT = 2


async def write_something(writer: TextWriter | ExpanderWriter, call: ModelCall) -> str:
    """Have a text written, and once more if there is no word in it.

    Returns:
        Why there is still none, in one line; empty: there is a text.

    Raises:
        Exception: Trying again and going on are used up.
    """
    for _ in range(_TRIES_FOR_A_TEXT):
        await writer.write()
        if writer.says_something:
            return ""
        call.trace.reject(f"{writer.who} wrote nothing")
    why = ": its tokens ran out before the first word (thinking takes some, too)" if writer.truncated else ""
    return f"{writer.who} wrote nothing for it, twice{why}"


async def write_in_time(writer: TextWriter | ExpanderWriter, call: ModelCall) -> tuple[ExpansionStatus, str | None]:
    """Have a text written within `point_timeout` and what is left until the deadline; nothing is raised.

    Returns:
        What became of it, and why.
    """
    own = call.task.options.point_timeout
    limit = call.task.seconds_left(own)
    try:
        async with asyncio.timeout(limit) as timer:
            nothing = await write_something(writer, call)
    except Exception as error:  # noqa: BLE001  (one text's failure is never another's)
        if isinstance(error, TimeoutError) and timer.expired():
            if own is not None and limit == own:
                return "timed_out", f"not finished after {own:.3g} s (point_timeout)"
            return "timed_out", f"not finished {call.task.options.deadline:.3g} s after the run's start (deadline)"
        cause = error.__cause__ if isinstance(error, BrokenStreamError) else None
        return "failed", explain(cause or error)
    return ("failed", nothing) if nothing else ("ok", None)
