"""Chat completions as they travel: requests as they are, replies as they came.

The OpenAI client looks up each field of a request, down to each message's, in its type, for names to translate, of
which chat completions have none; and it builds typed objects of a reply and of each streamed piece, of which LangChain
makes dictionaries again before it reads them. docs/benchmarks.md has what that costs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import openai
from openai import not_given, omit
from openai.resources.chat import AsyncCompletions
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from sot_graph.llm.inlining import WholeReply

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Completions", "Replies"]

Replies: TypeAlias = Literal["typed", "plain", "in_place"]
"""`"typed"`: as the OpenAI client's objects, for a model that may read fields of its provider's from them.
`"plain"`: as they came. `"in_place"`: as they came, and whole ones past the thread that LangChain reads them in, to a
model of `reading_in_place`."""


class Completions(AsyncCompletions):
    """What LangChain's models call, for one client.

    Args:
        client: Sends the requests.
        replies: How they reach the model.
    """

    def __init__(self, client: openai.AsyncOpenAI, replies: Replies) -> None:
        super().__init__(client)
        self._typed = replies == "typed"
        self._in_place = replies == "in_place"

    async def create(  # type: ignore[override]
        self,
        *,
        stream: bool | None = None,
        extra_headers: Any = None,
        extra_query: Any = None,
        extra_body: Any = None,
        timeout: Any = not_given,  # noqa: ASYNC109  (it goes on to the client)
        **body: Any,
    ) -> Any:
        """Ask for a completion."""
        given = {"headers": extra_headers, "params": extra_query, "extra_json": extra_body}
        options: Any = {name: value for name, value in given.items() if value is not None}
        options["security"] = {"bearer_auth": True}  # not the key of an administrator
        if timeout is not not_given:
            options["timeout"] = timeout
        if stream is not None:
            body["stream"] = stream
        reply: Any = await self._client.post(
            "/chat/completions",
            cast_to=ChatCompletion if self._typed else _AsItCame,
            body=body,
            options=options,
            stream=bool(stream),
            stream_cls=openai.AsyncStream[ChatCompletionChunk] if self._typed else openai.AsyncStream[object],
        )
        if self._in_place and not stream:
            _hand_over(reply)
        return reply

    async def parse(self, *, messages: Iterable[Any], extra_body: Any = None, **others: Any) -> Any:
        """Ask for a completion in a form that the client checks; a plain JSON schema leaves it nothing to check."""
        if self._is_plain(others):
            return await self.create(messages=messages, extra_body=extra_body, stream=False, **others)
        body = {"messages": list(messages), **(extra_body or {})}
        return await super().parse(messages=cast("Any", omit), extra_body=body, **others)

    def stream(self, **asked: Any) -> Any:
        """The same, streamed."""
        return _Streamed(self, asked) if self._is_plain(asked) else super().stream(**asked)

    def _is_plain(self, asked: Mapping[str, Any]) -> bool:
        return not self._typed and isinstance(asked.get("response_format"), Mapping)


def _hand_over(reply: Any) -> None:
    try:
        # Asked for by `with_raw_response`, as LangChain does, it is still to be parsed.
        whole = reply.parse() if hasattr(reply, "http_response") else reply
    except Exception:  # noqa: BLE001  (LangChain parses it again, and tells what is wrong)
        return
    raise WholeReply(whole)


class _AsItCame(ChatCompletion):
    """What the client is told to make of a reply: nothing. Only a refusal is looked for by LangChain in an object."""

    @classmethod
    def build(cls, *, response: object, data: object) -> object:
        """The client calls this in place of looking through its types."""
        return ChatCompletion.construct(**data) if isinstance(data, dict) and _is_refused(data) else data


def _is_refused(data: Mapping[str, Any]) -> bool:
    """Whether the model declines. Servers send all sorts of things; what is wrong with one is LangChain's to say."""
    choices = data.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    return isinstance(message, dict) and bool(message.get("refusal"))


class _Streamed:
    """A streamed reply as it comes, and in the end what it has refused, which is in no message that LangChain makes."""

    def __init__(self, completions: Completions, asked: dict[str, Any]) -> None:
        self._completions = completions
        self._asked = asked
        self._refusal = ""

    async def __aenter__(self) -> Self:
        self._pieces = await self._completions.create(**self._asked, stream=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pieces.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for piece in self._pieces:
            with suppress(AttributeError, TypeError):  # a piece of another form, of which LangChain says what is wrong
                for choice in piece.get("choices") or ():
                    self._refusal += (choice.get("delta") or {}).get("refusal") or ""
            yield piece

    async def get_final_completion(self) -> ChatCompletion:
        """What LangChain asks for when all pieces have come."""
        message = {"role": "assistant", "content": "", "refusal": self._refusal or None}
        return ChatCompletion.construct(choices=[{"index": 0, "message": message}])
