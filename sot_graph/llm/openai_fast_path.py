"""`fast_client`: chat completions through the OpenAI client, requests as they are and replies as they came.

The client's own `chat.completions` looks up each field of a request in its type, down to each message's, for names to
translate, of which chat completions have none; and it builds typed objects of a reply and of each streamed piece, of
which LangChain makes dictionaries again before it reads them. The client's `post`, which is public, does neither.
docs/benchmarks.md has what that costs. A model that doesn't call what stands here is slower, and nothing else.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TYPE_CHECKING, Any

import httpx2
import openai
from openai import not_given
from openai.types.chat import ChatCompletion

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_NOT_IN_THE_BODY = {"extra_headers": "headers", "extra_query": "params", "extra_body": "extra_json"}


def fast_client(client: openai.AsyncOpenAI) -> Any:
    """An OpenAI client with other chat completions. A `ChatOpenAI` takes it as its `root_async_client`."""
    completions = _Completions(client)
    # LangChain streams a reply to a schema by `beta`.
    beta = _Over(client.beta, chat=_Over(client.beta.chat, completions=completions))
    return _Over(client, chat=_Over(client.chat, completions=completions), beta=beta)


class _Over:
    """An object, but for some of its attributes."""

    def __init__(self, below: Any, **own: Any) -> None:
        self._below = below
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)


class _Completions(_Over):
    """What LangChain's models call of `chat.completions`; the rest is the client's own."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        super().__init__(client.chat.completions, with_raw_response=_WithRawResponse(client))
        self._client = client

    async def create(self, *, stream: bool | None = None, **asked: Any) -> Any:
        """Ask for a completion."""
        if stream:
            return _Pieces(await self._opened(asked))
        return (await self.with_raw_response.create(**asked)).parse()

    def stream(self, **asked: Any) -> Any:
        """Ask for a streamed completion in a form that the client checks; a JSON schema leaves it nothing to check."""
        return _Pieces(self._opened(asked)) if _asks_for_plain_json(asked) else self._below.stream(**asked)

    async def _opened(self, asked: Mapping[str, Any]) -> openai.AsyncStream[object]:
        body, options = _request({**asked, "stream": True})
        return await self._client.post(
            "/chat/completions",
            cast_to=object,
            body=body,
            options=options,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )


class _WithRawResponse(_Over):
    """The same, for those who want the response's headers too. LangChain asks for whole replies here."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        super().__init__(client.chat.completions.with_raw_response)
        self._client = client

    async def create(self, **asked: Any) -> Any:
        if asked.get("stream"):
            return await self._below.create(**asked)
        body, options = _request(asked)
        response = await self._client.post("/chat/completions", cast_to=httpx2.Response, body=body, options=options)
        return _Whole(response)

    async def parse(self, **asked: Any) -> Any:
        if _asks_for_plain_json(asked):
            return await self.create(**asked, stream=False)
        return await self._below.parse(**asked)


def _asks_for_plain_json(asked: Mapping[str, Any]) -> bool:
    return isinstance(asked.get("response_format"), Mapping)


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
    """A streamed reply as it comes, and in the end what it has refused, which is in no message that LangChain makes."""

    def __init__(self, pieces: openai.AsyncStream[Any] | Awaitable[openai.AsyncStream[Any]]) -> None:
        self._pieces: Any = pieces
        self._refusal = ""

    async def __aenter__(self) -> Self:
        if inspect.isawaitable(self._pieces):
            self._pieces = await self._pieces
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pieces.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for piece in self._pieces:
            for choice in (piece.get("choices") or ()) if isinstance(piece, dict) else ():
                if isinstance(choice, dict):
                    # Azure's content filter sends choices without a `delta`, which LangChain passes over if it is null.
                    delta = choice.setdefault("delta", None)
                    if isinstance(delta, dict):
                        self._refusal += delta.get("refusal") or ""
            yield piece

    async def get_final_completion(self) -> ChatCompletion:
        """What LangChain asks for when all pieces of a reply to a schema have come."""
        message = {"role": "assistant", "content": "", "refusal": self._refusal or None}
        return ChatCompletion.construct(choices=[{"index": 0, "message": message}])
