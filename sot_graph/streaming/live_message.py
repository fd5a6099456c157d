"""`LiveMessage`: the answer as one chat message, in reading order, for whoever listens to a run's messages.

`stream_mode="messages"`, `astream_events` and all chat clients that stand on them hear the calls of chat models. A
skeleton and eight texts written at once are of no use to them. So the graph says what a model that wrote the whole
answer would have said: one message, as it can be read. The model calls themselves stay what they are in traces.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    BaseCallbackHandler,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp

from sot_graph.streaming.answer_reader import AnswerReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig

    from sot_graph.events import SotEvent
    from sot_graph.run import RunContext

_NAME = "answer"


def follow_live(run: RunContext, given: Sequence[BaseMessage] = ()) -> None:
    """A node begins, and somebody listens: the run's answer is said to them, as far as it begins in this invocation.

    Args:
        run: The node's execution.
        given: The messages that the run was given. Nobody is shown them.
    """
    mark_as_shown(given, run)
    if run.invocation.live is not None:
        run.invocation.live.remind(run.config)
    elif run.invocation.begun_here:
        begin_live_message(run)


def begin_live_message(run: RunContext, *, at_end: bool = False) -> None:
    """Have the run's answer be heard from now on, if anybody listens and the caller's config doesn't say `nostream`.

    `at_end`: the answer is there, of a run that began elsewhere. LangGraph shows its own listeners what a node returns.
    """
    listeners = [each for each in run.listeners if not at_end or isinstance(each, AsyncCallbackHandler)]
    is_wanted = run.options.messages == "answer" and TAG_NOSTREAM not in (run.config.get("tags") or ())
    if is_wanted and listeners and run.invocation.live is None:
        run.invocation.live = LiveMessage(listeners, run.config, run.answer_id)


def mark_as_shown(messages: Sequence[BaseMessage], run: RunContext) -> None:
    """Keep messages that a node returns beside the answer out of `stream_mode="messages"`.

    LangGraph streams every message that a node returns, but for those that the node got as its input. A workaround,
    since there is no public way: this reports a node run whose input these messages are, and ends it with an error that
    LangGraph ignores.
    """
    listeners = [each for each in run.listeners if not isinstance(each, AsyncCallbackHandler)]
    if messages and listeners and run.options.messages == "answer":
        metadata = _as_parent_shows(run.config)
        name = metadata.get("langgraph_node")
        node = CallbackManager(listeners, metadata=metadata).on_chain_start({}, {"messages": messages}, name=name)
        node.on_chain_error(GraphBubbleUp())


class LiveMessage:
    """Says an answer, fed with the run's events, to a run's streaming handlers: and to no tracer or usage counter.

    Args:
        listeners: LangGraph's handlers of messages, LangChain's of events.
        config: Of the node in which the message begins.
        message_id: The id of the message.
    """

    def __init__(self, listeners: Sequence[BaseCallbackHandler], config: RunnableConfig, message_id: str) -> None:
        self._id = message_id
        self._reader = AnswerReader()
        self._text: list[str] = []
        self._held = ""
        self._has_begun = False
        # Points that are written in threads of their own speak at the same time.
        self._lock = threading.Lock()
        self._metadata = _as_parent_shows(config)
        self._step = self._metadata.get("langgraph_step")
        around: Any = {
            "parent_run_id": getattr(config.get("callbacks"), "parent_run_id", None),
            "tags": list(config.get("tags") or ()),
            "metadata": self._metadata,
        }
        sync_listeners = [each for each in listeners if not isinstance(each, AsyncCallbackHandler)]
        async_listeners = [each for each in listeners if each not in sync_listeners]
        self._sync_manager = CallbackManager(sync_listeners, **around)
        self._async_manager = AsyncCallbackManager(async_listeners, **around)
        run = {**around, "run_id": uuid4(), "inheritable_handlers": []}
        self._sync_run = CallbackManagerForLLMRun(handlers=sync_listeners, **run)
        self._async_run = AsyncCallbackManagerForLLMRun(handlers=async_listeners, **run)
        default = {BaseCallbackHandler.on_stream_event, AsyncCallbackHandler.on_stream_event}
        self._wants_blocks = any(type(each).on_stream_event not in default for each in listeners)
        """Whether anybody hears version 3 of event streams. For all others a call for each token would do nothing."""
        self._loop = asyncio.get_running_loop()
        self._last_notified: asyncio.Task[None] | None = None

    def hear(self, event: SotEvent) -> None:
        """Take one of the run's events, and say what can be read now."""
        with self._lock:
            text, self._held = self._held + self._reader.feed(event), ""
            if event["type"] == "sot.skeleton" and not self._has_begun:
                # Most often the superstep ends here, and clients that draw the graph's state, such as Studio, show that
                # in place of what was said. So the first title is said as the next one begins, some milliseconds later.
                self._held = text
            elif text:
                self._send_text(text)

    def remind(self, config: RunnableConfig) -> None:
        """A superstep begins. Clients that draw the state have dropped the message: an empty piece brings it back."""
        step = config.get("metadata", {}).get("langgraph_step")
        with self._lock:
            if step == self._step:
                return
            self._step = step
            if self._held:
                self._send_text(self._held)
                self._held = ""
            elif self._has_begun:
                # Only LangGraph's stream of messages has such clients, and its handler is synchronous. For the others
                # it would be an event that says nothing; held text is news to all.
                chunk = ChatGenerationChunk(message=AIMessageChunk(content="", id=self._id))
                self._sync_run.on_llm_new_token("", chunk=chunk)

    def end(self, message: AIMessage) -> None:
        """The answer is whole: this is its message."""
        with self._lock:
            usage, metadata = message.usage_metadata, message.response_metadata
            last = AIMessageChunk(
                content="", id=self._id, usage_metadata=usage, response_metadata=metadata, chunk_position="last"
            )
            self._send_chunk(last)
            whole = {"type": "text", "text": "".join(self._text)}
            self._notify("on_stream_event", {"event": "content-block-finish", "index": 0, "content": whole})
            self._notify("on_stream_event", {"event": "message-finish", "usage": usage, "metadata": {**metadata}})
            self._notify("on_llm_end", LLMResult(generations=[[ChatGeneration(message=message)]]))

    def fail(self, error: BaseException) -> None:
        """The run fails: no more of the answer follows."""
        with self._lock:
            if self._has_begun:
                self._notify("on_llm_error", error)

    async def all_told(self) -> None:
        """Wait until everybody has heard what was said."""
        if self._last_notified is not None and asyncio.get_running_loop() is self._loop:
            await self._last_notified

    def _begin(self) -> None:
        self._has_begun = True
        start: Any = {"run_id": self._sync_run.run_id, "name": _NAME}
        self._sync_manager.on_chat_model_start({"name": _NAME}, [[]], **start)
        self._notify_async(lambda: self._async_manager.on_chat_model_start({"name": _NAME}, [[]], **start))
        self._notify(
            "on_stream_event", {"event": "message-start", "role": "ai", "id": self._id, "message_id": self._id}
        )
        block = {"event": "content-block-start", "index": 0, "content": {"type": "text", "text": ""}}
        self._notify("on_stream_event", block)

    def _send_text(self, text: str) -> None:
        self._text.append(text)
        self._send_chunk(AIMessageChunk(content=text, id=self._id))

    def _send_chunk(self, chunk: AIMessageChunk) -> None:
        if not self._has_begun:
            self._begin()
        text = str(chunk.content)
        self._notify("on_llm_new_token", text, chunk=ChatGenerationChunk(message=chunk))
        if text and self._wants_blocks:
            delta = {"type": "text-delta", "text": text}
            self._notify("on_stream_event", {"event": "content-block-delta", "index": 0, "delta": delta})

    def _notify(self, what: str, *args: Any, **kwargs: Any) -> None:
        if self._sync_manager.handlers:
            getattr(self._sync_run, what)(*args, **kwargs)
        self._notify_async(lambda: getattr(self._async_run, what)(*args, **kwargs))

    def _notify_async(self, notify: Callable[[], Awaitable[Any]]) -> None:
        """Tell those whose methods are coroutines: one thing after the other, on the loop where they listen."""
        if not self._async_manager.handlers:
            return

        async def after(before: asyncio.Task[None] | None) -> None:
            if before is not None:
                await before
            await notify()

        def begin() -> None:
            self._last_notified = self._loop.create_task(after(self._last_notified))

        try:
            is_here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_here = False
        if is_here:
            begin()
        else:
            self._loop.call_soon_threadsafe(begin)


def _as_parent_shows(config: RunnableConfig) -> dict[str, Any]:
    """A node's metadata, lifted to where LangGraph shows a model that a node of the parent calls.

    So a client that doesn't ask for subgraphs hears the answer of a graph that is a node. At the root nothing changes.
    A node whose namespace is `answer:1|join:2` is shown as `answer:1`. One of `team:1|write:2|1|join:3`,
    where `1` is a function's second call, is shown as `team:1|write:2`.
    """
    metadata = dict(config.get("metadata") or {})
    own, _, _ = str(metadata.get("langgraph_checkpoint_ns", "")).rpartition("|")
    if not own:
        return metadata
    # LangGraph keeps a checkpoint's id for each graph above, by namespace. The longest one is our parent's; between it
    # and ours is a node, or calls of tasks in the functional API.
    graphs = (config.get("configurable") or {}).get("checkpoint_map") or {}
    # For the second call of the task `write` of the function `team`, in a node `team`, it is (`a` to `c` are ids)
    # {"": a, "team:1": b, "team:1|team:2": b, "team:1|team:2|write:3|1": c}. The last is ours, "team:1" our parent's,
    # and "team:1|write:3" is shown.
    parent, checkpoints = "", set()
    for namespace in sorted(graphs, key=len):
        # A function that calls tasks has a namespace of its own, but its graph's checkpoint.
        if namespace != own and own.startswith(namespace) and graphs[namespace] not in checkpoints:
            parent = namespace
        checkpoints.add(graphs[namespace])
    steps = [step for step in own.removeprefix(parent).strip("|").split("|") if not step.isdigit()]
    shown = "|".join(filter(None, (parent, steps[-1])))
    # For each task in its path, LangGraph drops a step of the namespace, which is lifted here already.
    lifted = {"langgraph_checkpoint_ns": shown, "langgraph_node": steps[-1].partition(":")[0], "langgraph_path": ()}
    if "checkpoint_ns" in metadata:
        lifted["checkpoint_ns"] = shown
    return {**metadata, **lifted}
