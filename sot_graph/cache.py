"""`ResultCache`: skeletons and points that are good, kept in a LangGraph cache.

A `CachePolicy` on a node would store failures too, and its key holds neither the model nor the prompts. So the nodes
ask this class, and store only what is good.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.load import dumps
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

if TYPE_CHECKING:
    from langgraph.cache.base import BaseCache

logger = logging.getLogger("sot_graph")

_NAMESPACE = ("sot_graph", "1")
"""With the version of what is stored."""


def model_fingerprint(model: Runnable[Any, Any]) -> str:
    """A hash of a model and its settings, without its secrets. Two that differ in anything have two."""
    return _hash(dumps(model))


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
