"""One round of requests before the first question, which then finds the beginnings of its prompts computed."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from langchain_core.messages import convert_to_openai_messages

from sot_graph.prompts.messages import expansion_messages, skeleton_messages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage

    from sot_graph.prompts.templates import SotPrompts
    from sot_graph.types import SkeletonPoint

__all__ = ["Prewarm"]

_QUESTION = "How does a bicycle stay upright?"
_TITLES = ("Wheels", "Steering", "Balance", "Speed", "Frame", "Rider")
_ANSWER_TOKENS = 4
_TIMEOUT_SECONDS = 60.0


class Prewarm:
    """Requests in the shape of one Skeleton-of-Thought answer: a skeleton and its points, all at once.

    Sending and waiting are apart, so that the caller can do something else while the server works. It needs
    neither threads nor a chat model.

    Args:
        base_url: The server's.
        prompts: Their fixed beginnings (system messages and examples) are what gets warm.
        parallel: How many requests the server works on at once.
    """

    def __init__(self, base_url: str, prompts: SotPrompts, *, parallel: int) -> None:
        url = urlsplit(base_url)
        self._host, self._port, self._path = url.hostname or "", url.port, f"{url.path}/chat/completions"
        # The server keeps what it has computed by slot, and has so many.
        self._bodies = _bodies(prompts)[:parallel]
        self._connections: list[http.client.HTTPConnection] = []

    def send(self) -> None:
        """Ask, and don't wait."""
        headers = {"Content-Type": "application/json", "Connection": "close"}
        for body in self._bodies:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS)
            self._connections.append(connection)
            connection.request("POST", self._path, json.dumps(body).encode(), headers)

    def wait(self) -> None:
        """Wait for the answers and throw them away. One that fails is no loss but of time later on."""
        for connection in self._connections:
            try:
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                return

    def close(self) -> None:
        """Drop the connections; the server stops working on what is left."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()


def _bodies(prompts: SotPrompts) -> list[dict[str, Any]]:
    skeleton: list[SkeletonPoint] = [
        {"index": index, "title": title, "depends_on": []} for index, title in enumerate(_TITLES, 1)
    ]
    asked = skeleton_messages(
        prompts,
        question=_QUESTION,
        history=(),
        skeleton_format="list",
        min_points=3,
        max_points=len(_TITLES),
        title_length="2 to 5 words",
    )
    bodies = [_body(asked, prompts.skeleton_settings)]
    for point in skeleton:
        messages = expansion_messages(
            prompts,
            point=point,
            skeleton=skeleton,
            skeleton_call=asked,
            skeleton_text="",
            question=_QUESTION,
            history=(),
            point_length="two sentences",
        )
        bodies.append(_body(messages, prompts.expansion_settings))
    return bodies


def _body(messages: Sequence[BaseMessage], settings: Mapping[str, Any]) -> dict[str, Any]:
    sampling = {key: value for key, value in settings.items() if key not in ("extra_body", "stop")}
    extra = dict(settings.get("extra_body", {}))
    return {"messages": convert_to_openai_messages(messages), **sampling, **extra, "max_tokens": _ANSWER_TOKENS}
