"""`ResultCache`: skeletons and points that are good, kept in a LangGraph cache.

A `CachePolicy` on a node would store failures too, and its key holds neither the model nor the prompts. So the nodes
ask this class, and store only what is good.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.load.serializable import Serializable
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from pydantic import BaseModel

if TYPE_CHECKING:
    from langgraph.cache.base import BaseCache

logger = logging.getLogger("sot_graph")

_NAMESPACE = ("sot_graph", "1")
"""With the version of what is stored."""
_marks: dict[int, tuple[weakref.ref[Any], str]] = {}
"""By the address of an object: the object, and its mark."""


def model_fingerprint(model: Runnable[Any, Any]) -> str:
    """A hash of a model and its settings: its fields, but for its secrets and what it excludes, such as its client.

    A field that is no data, such as a function or a graph, counts by the object itself: only this process knows it.
    """
    try:
        return _hash(json.dumps(model, default=_as_data))
    except Exception:  # noqa: BLE001  (it holds itself, what JSON has no form for, or what can't even be shown)
        return _mark_of(model)


def _as_data(value: Any) -> Any:
    if isinstance(value, type):
        name = f"{value.__module__}.{value.__qualname__}"
        return _mark_of(value) if "<locals>" in name else name
    if isinstance(value, BaseModel):
        hidden = {name for name, field in type(value).model_fields.items() if field.exclude}
        if isinstance(value, Serializable):
            hidden |= value.lc_secrets.keys()
        return [type(value), {name: each for name, each in value if name not in hidden}]
    # Two closures of one function have one name, and two graphs may, too.
    if isinstance(value, Runnable) or callable(value):
        return _mark_of(value)
    if dataclasses.is_dataclass(value):
        return [type(value), {each.name: getattr(value, each.name, None) for each in dataclasses.fields(value)}]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(each, default=_as_data) for each in value)
    shown = repr(value)
    return _mark_of(value) if " at 0x" in shown else shown


def _mark_of(value: Any) -> str:
    """A word that stands for this object alone. Its address would be another's after its end, or in another process."""
    known = _marks.get(id(value))
    if known is None or known[0]() is not value:
        mark = uuid4().hex
        try:
            # The dead reference is `pop`'s default: another object may have that address by then.
            known = (weakref.ref(value, partial(_marks.pop, id(value))), mark)
        except TypeError:  # it takes no weak references: each time it counts as another one
            return mark
        _marks[id(value)] = known
    return known[1]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class ResultCache:
    """Good results by everything that they depend on. A cache that fails counts as an empty one.

    Args:
        cache: LangGraph's.
    """

    def __init__(self, cache: BaseCache[Any]) -> None:
        self._cache = cache

    def key(self, kind: str, model: str, messages: Sequence[BaseMessage], settings: Mapping[str, Any]) -> str:
        """The key of a result.

        Args:
            kind: What it is: `"skeleton"`, `"point"`.
            model: The model's fingerprint.
            messages: The whole prompt: with it go question, history, prompts and the options that shape them.
            settings: Whatever else decides what comes out.
        """
        said = [[message.type, message.content] for message in messages]
        return _hash(json.dumps([kind, model, said, sorted(settings.items())], default=repr))

    async def get(self, key: str) -> Any:
        """What is kept under a key; `None`: nothing."""
        full = (_NAMESPACE, key)
        try:
            return (await self._cache.aget([full])).get(full)
        except Exception as error:  # noqa: BLE001  (an answer is worth more than its cache)
            logger.warning("The cache could not be read: %s", error)
            return None

    async def put(self, key: str, value: Any) -> None:
        """Keep a good result."""
        try:
            await self._cache.aset({(_NAMESPACE, key): (value, None)})
        except Exception as error:  # noqa: BLE001
            logger.warning("The cache could not be written: %s", error)
