"""An event loop whose clock jumps to what is due next: minutes of waiting take no time, and no busy machine shows."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from sot_graph.testing import Physics, ScriptedChatModel, count_tokens

__all__ = ["PacedModel", "run_in_virtual_time"]

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Where nothing is ready, it doesn't sleep: the clock jumps."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; else the time until the next timer has passed."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # nothing is due: only a thread can go on
            return super().select(None)
        self.now += timeout
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _JumpingSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        """Virtual seconds."""
        return self.clock.now


def run_in_virtual_time(coroutine: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` by the jumping clock. Threads don't stop it: nothing that waits for one may be measured."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(coroutine)


class PacedModel(ScriptedChatModel):
    """A scripted model that writes with an endpoint's physics, by its event loop's clock."""

    physics: Physics = Physics()

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        result = await super()._agenerate(messages, *args, **kwargs)
        await asyncio.sleep(self.physics.due(count_tokens(str(result.generations[0].message.text))))
        return result

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        now = asyncio.get_running_loop().time
        begun, token = now(), 0
        async for chunk in super()._astream(messages, *args, **kwargs):
            await asyncio.sleep(max(0.0, begun + self.physics.due(token) - now()))
            token += 1
            yield chunk
