"""`FastCompletions`: chat completions through the OpenAI client, requests as they are and replies as they came.

The client's own `chat.completions` looks up each field of a request in its type, down to each message's, for names to
translate, of which chat completions have none; and it builds typed objects of a reply and of each streamed piece, of
which LangChain makes dictionaries again before it reads them. The client's `post`, which is public, does neither.
docs/benchmarks.md has what that costs. A model that doesn't call what stands here is slower, and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import httpx2
import openai
from openai import not_given
from openai.types.chat import ChatCompletion

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["FastCompletions"]

_NOT_IN_THE_BODY = {"extra_headers": "headers", "extra_query": "params", "extra_body": "extra_json"}


class FastCompletions:
    """What a `ChatOpenAI` holds as its `async_client`; all but `create` is the client's own.

    Args:
        client: Sends the requests.
    """

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client
        self.with_raw_response = _WithRawResponse(client)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client.chat.completions, name)

    async def create(self, *, stream: bool | None = None, **asked: Any) -> Any:
        """Ask for a completion."""
        if not stream:
            return (await self.with_raw_response.create(**asked)).parse()
        body, options = _request({**asked, "stream": True})
        pieces = await self._client.post(
            "/chat/completions",
            cast_to=object,
            body=body,
            options=options,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        return _Pieces(pieces)


class _WithRawResponse:
    """The same, for those who want the response's headers beside its content, as LangChain does of whole replies."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    async def create(self, **asked: Any) -> Any:
        if asked.get("stream"):
            return await self._client.chat.completions.with_raw_response.create(**asked)
        body, options = _request(asked)
        return _Whole(await self._client.post("/chat/completions", cast_to=httpx2.Response, body=body, options=options))


def _request(asked: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """What goes into a request's body, and how it is sent."""
    options: dict[str, Any] = {"security": {"bearer_auth": True}}  # not the key of an administrator
    body = dict(asked)
    for name, option in _NOT_IN_THE_BODY.items():
        value = body.pop(name, None)
        if value is not None:
            options[option] = value
    timeout = body.pop("timeout", not_given)
    if timeout is not not_given:
        options["timeout"] = timeout
    return body, options


class _Whole:
    """A whole reply."""

    def __init__(self, response: httpx2.Response) -> None:
        self.http_response = response
        self.headers = response.headers

    def parse(self) -> Any:
        """The reply; the text of one that isn't JSON, of which LangChain says what is wrong."""
        if not self.headers.get("content-type", "json").partition(";")[0].endswith("json"):
            return self.http_response.text
        data = self.http_response.json()
        # Only of an object does LangChain tell that the model declines.
        return ChatCompletion.construct(**data) if _is_refused(data) else data


def _is_refused(data: Any) -> bool:
    try:
        return bool(data["choices"][0]["message"]["refusal"])
    except (KeyError, IndexError, TypeError):  # servers send all sorts of things, and LangChain tells what is wrong
        return False


class _Pieces:
    """A streamed reply as it comes."""

    def __init__(self, pieces: openai.AsyncStream[Any]) -> None:
        self._pieces = pieces

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pieces.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for piece in self._pieces:
            if isinstance(piece, dict):
                for choice in piece.get("choices") or ():
                    if isinstance(choice, dict):  # Azure's content filter sends choices without a `delta`
                        choice.setdefault("delta", None)
            yield piece
