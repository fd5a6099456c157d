"""Private and undocumented things of LangGraph, LangChain, LangSmith and asyncio that this package uses.

What stands in for the OpenAI client is in `llm/openai_client.py`, by the methods that LangChain calls of it.

| function | what of whom | the public thing that is missing | without it |
|---|---|---|---|
| `somebody_listens` | LangGraph's stream writer that does nothing | a question "is this run streamed?" | replies are streamed to nobody, which costs CPU time; or LangChain streams them inside `ainvoke` |
| `streaming_handlers` | LangChain's private protocol of them | a handler's word that it streams | each model call is heard by itself, and the answer at the end |
| `has_checkpointer`, `without_checkpointer`, `resumed_call`, `state_reader`, `with_parents_messages`, `parents_messages` | LangGraph's keys in a config, and their prefix, which it shows nobody | the same, of a node's config | a review asks where nobody can answer, and LangGraph says so; an agent in a point keeps a state; a node with a thread of its own gives an earlier answer where a resumed parent asks it something new; each `Send` carries, and a checkpoint keeps, all that its point is written from, and as a node the whole conversation |
| `client_hides_content` | three attributes of LangSmith's client | properties of the client | content counts as hidden: traces have no titles |
| `in_class` | assignment to an object's `__class__` | a LangGraph `compile` that makes a class of one's own | who leaves a synchronous run waits until its model calls end |
| `abandon_tasks` | asyncio's register of tasks; in Python 3.11 their contexts | a task that a loop's end doesn't wait for | the loop's end waits for code that takes no cancellation |

Each function does without its private thing where that is gone; tests/unit/test_seams.py takes it away.
"""  # noqa: E501  (a table)

from __future__ import annotations

import asyncio
import gc
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.messages import AnyMessage
    from langchain_core.runnables import RunnableConfig
    from langgraph.runtime import Runtime

T = TypeVar("T")

_CHECKPOINTER = "__pregel_checkpointer"
_DURABILITY = "__pregel_durability"
_READ = "__pregel_read"
_RESUMING = "__pregel_resuming"
_SCRATCHPAD = "__pregel_scratchpad"
_NAMESPACE = "checkpoint_ns"
_PARENTS_MESSAGES = "__pregel_sot_parents_messages"
"""Ours. LangGraph shows keys that begin like its own to no reader of a stream, and sends them to no other server."""
_STREAMS = "tap_output_aiter"
"""The method that makes a handler one of LangChain's private protocol, for which it streams inside `ainvoke`."""


class ResumedCall(NamedTuple):
    """Configs for a graph in a parent's node."""

    goes_on: RunnableConfig
    """To go on with what the thread keeps."""
    begins: RunnableConfig
    """For a new run."""
    thread: RunnableConfig
    """To look at the thread."""


def somebody_listens(runtime: Runtime[Any]) -> bool:
    """Whether anybody listens to a run's events, by `stream_mode="custom"`.

    Where it can't be told, the answer is yes: streaming to nobody costs a little, silence costs the feature.
    """
    # Where nobody listens, LangGraph hands out a writer that does nothing: a function that refers to nothing.
    code = getattr(runtime.stream_writer, "__code__", None)
    return code is None or bool(code.co_freevars or code.co_names)


def streaming_handlers(config: RunnableConfig) -> list[BaseCallbackHandler]:
    """Those of a config's callbacks that want tokens: of `stream_mode="messages"` and of event streams."""
    callbacks = config.get("callbacks")
    handlers = callbacks if isinstance(callbacks, list) else getattr(callbacks, "handlers", None) or []
    return [handler for handler in handlers if hasattr(handler, _STREAMS)]


def has_checkpointer(config: RunnableConfig) -> bool:
    """Whether a node's run, or a parent of it, is kept: only then can it stop and go on later."""
    configurable = config.get("configurable", {})
    if _CHECKPOINTER in configurable:
        return configurable[_CHECKPOINTER] is not None
    return configurable.get("thread_id") is not None  # which a checkpointer needs


def without_checkpointer(config: RunnableConfig) -> RunnableConfig:
    """A config for a graph within a node that keeps no state of its own."""
    # With "sync", LangGraph would wait for what a checkpointer has kept.
    none = {_CHECKPOINTER: None, _DURABILITY: "async"}
    return {**config, "configurable": {**config.get("configurable", {}), **none}}


def resumed_call(config: RunnableConfig) -> ResumedCall | None:
    """Of a node's config in a parent's run that is resumed: how a graph that has its own thread may be called there.

    LangGraph then goes on with what the thread keeps, be it of an earlier question. `None`: it won't.
    """
    configurable = config.get("configurable", {})
    scratchpad: Any = configurable.get(_SCRATCHPAD)
    can_be_numbered = is_dataclass(scratchpad) and hasattr(scratchpad, "subgraph_counter")
    if not (configurable.get(_RESUMING) and has_checkpointer(config) and can_be_numbered):
        return None
    # LangGraph numbers the graphs that a node calls as they begin: so does this, before the thread is looked at.
    number = scratchpad.subgraph_counter()
    own = {**configurable, _SCRATCHPAD: replace(scratchpad, subgraph_counter=lambda: number)}
    thread = {key: value for key, value in own.items() if key != "checkpoint_id"}
    thread[_NAMESPACE] += f"|{number}" if number else ""
    return ResumedCall(
        goes_on={**config, "configurable": own},
        begins={**config, "configurable": {**own, _RESUMING: False}},
        thread={**config, "configurable": thread},
    )


def state_reader(config: RunnableConfig) -> Callable[[list[str]], dict[str, Any]] | None:
    """What reads the graph's state, by its keys, also in the task of a `Send`; `None`: there is nothing that can."""
    read: Callable[[list[str]], dict[str, Any]] | None = config.get("configurable", {}).get(_READ)
    return read


def with_parents_messages(config: RunnableConfig, messages: list[AnyMessage]) -> RunnableConfig:
    """A config for a graph in a parent's node that tells its nodes, but no graph below them, the parent's messages."""
    configurable = config["configurable"]
    own = {_PARENTS_MESSAGES: (configurable.get(_NAMESPACE), messages)}
    return {**config, "configurable": {**configurable, **own}}


def parents_messages(config: RunnableConfig) -> list[AnyMessage]:
    """The messages that `with_parents_messages` told this node's graph; none, if it told them a graph above."""
    configurable = config.get("configurable", {})
    graph, messages = configurable.get(_PARENTS_MESSAGES, ("", []))
    own, _, _ = str(configurable.get(_NAMESPACE)).rpartition("|")
    # A function's second call of a graph has a number behind the function's own namespace.
    return messages if re.sub(r"\|\d+$", "", own) == graph else []


def client_hides_content(client: Any) -> bool:
    """Whether a LangSmith client hides anything of what goes in or comes out.

    One that hides a part, by a function or an anonymizer, counts as one that hides all: names don't pass through
    either.
    """
    hidden = (getattr(client, name, True) for name in ("_hide_inputs", "_hide_outputs"))
    return any(value is not False for value in hidden) or getattr(client, "_anonymizer", True) is not None


def in_class(instance: T, kind: type[T]) -> T:
    """The same object, in a subclass of its class; where Python refuses that, as it is."""
    with suppress(TypeError):
        instance.__class__ = kind
    return instance


def abandon_tasks(belongs: Callable[[Context], bool]) -> list[asyncio.Task[Any]]:
    """Have the running loop's end not wait for these tasks: `asyncio.run` would, for ever if they never end.

    Args:
        belongs: Chooses them by the context that they run in.

    Returns:
        The tasks. Whoever asked has to hold them: their loop does so only weakly.
    """
    if sys.version_info >= (3, 12):
        tasks = [task for task in asyncio.all_tasks() if belongs(task.get_context())]
    else:
        held = {task: gc.get_referents(task) for task in asyncio.all_tasks()}
        tasks = [task for task, things in held.items() if any(isinstance(it, Context) and belongs(it) for it in things)]
    unregister = getattr(asyncio, "_unregister_task", None)
    if unregister is not None:
        for task in tasks:
            unregister(task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]
    return tasks
