"""`SkeletonResponder`: answers any Skeleton-of-Thought client by what it asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sot_graph.errors import SotConfigError
from sot_graph.testing.asks import Ask, understand
from sot_graph.testing.prose import make_prose, make_titles
from sot_graph.testing.replies import Reply, ToolCall
from sot_graph.testing.requests import ChatRequest
from sot_graph.testing.schema import SchemaFiller, schema_in_text

__all__ = ["SkeletonResponder"]

_SPARE_TITLES = 100
_ANY_SKELETON: Mapping[str, Any] = {
    "type": "object",
    "properties": {"points": {"type": "array", "items": {"type": "string"}}},
}


class SkeletonResponder:
    r"""Answers any Skeleton-of-Thought client by what it asks, never by the order of calls.

    A request with a JSON schema, or with tools, gets compact JSON that fits: titles in its arrays, prose
    where it has one text. A tool is called unless `tool_choice` is `"none"` or a tool's result has just
    come. A request that shows a schema or an example in its prompt and asks for JSON gets that. Of the
    others, one for a numbered list, a skeleton or an outline gets numbered lines; everything else gets
    prose, the same for the same request, that holds a word of the title of the point that is asked for.

    Args:
        points: How many points a skeleton has; with `titles`, they decide.
        words_per_point: Words (which are tokens) of a point's prose, or what makes them of the point's
            number.
        titles: The points' titles. Give different ones: a point is recognised by its title.
        frame_words: Words of an introduction or a conclusion.
        direct_words: Words of an answer that is no point; `None`: as many as all points together.
        cached_tokens: Prompt tokens that are reported as read from a cache.
        text: Makes the text of an `Ask` that is no skeleton, in place of the prose.

    Raises:
        SotConfigError: No points.

    Example:
        >>> responder = SkeletonResponder(titles=["Seed", "Soil"])
        >>> messages = [{"role": "user", "content": "Why? Give a numbered list."}]
        >>> responder(ChatRequest({"messages": messages})).text
        '1. Seed\n2. Soil'
    """

    def __init__(
        self,
        points: int = 8,
        words_per_point: int | Callable[[int], int] = 60,
        titles: Sequence[str] | None = None,
        *,
        frame_words: int = 40,
        direct_words: int | None = None,
        cached_tokens: int = 0,
        text: Callable[[Ask], str] | None = None,
    ) -> None:
        self.titles = list(titles) if titles is not None else make_titles(points)
        if not self.titles:
            message = "SkeletonResponder needs at least one point."
            raise SotConfigError(message)
        self.words_per_point = words_per_point
        self.cached_tokens = cached_tokens
        self._text = text
        self._direct_words = direct_words
        self._frame_words = frame_words

    def __call__(self, request: ChatRequest) -> Reply:
        """Answer a request."""
        ask = understand(request, self.titles)
        if (tool := _tool_to_call(request)) is not None:
            function = tool.get("function") or {}
            arguments = self._json(function.get("parameters") or {"type": "object"}, ask, request)
            return Reply(
                tool_calls=[ToolCall(str(function.get("name", "")), arguments)],
                cached_tokens=self.cached_tokens,
            )
        schema = _schema_of(request, ask)
        text = self._json(schema, ask, request) if schema is not None else self._plain(ask, request)
        return Reply(text, cached_tokens=self.cached_tokens)

    def _plain(self, ask: Ask, request: ChatRequest) -> str:
        if ask.stage == "skeleton":
            return "\n".join(f"{number}. {title}" for number, title in enumerate(self.titles, 1))
        return self._prose(ask, request)

    def _prose(self, ask: Ask, request: ChatRequest) -> str:
        if self._text is not None:
            return self._text(ask)
        seed = ask.title or f"{ask.number} {request.last_user}"
        return make_prose(self._words(ask), seed=seed, title=ask.title)

    def _words(self, ask: Ask) -> int:
        if ask.stage in ("introduction", "conclusion"):
            return self._frame_words
        numbers = range(1, len(self.titles) + 1) if ask.stage != "point" else [ask.number or 1]
        if ask.stage != "point" and self._direct_words is not None:
            return self._direct_words
        if callable(self.words_per_point):
            return sum(self.words_per_point(number) for number in numbers)
        return self.words_per_point * len(numbers)

    def _json(self, schema: Mapping[str, Any], ask: Ask, request: ChatRequest) -> str:
        # Where one text is asked for by a schema, it is a point's unless it clearly is a whole answer's.
        single = ask if ask.stage == "point" else Ask("point", 1)
        filler = SchemaFiller(
            root=schema,
            titles=self._titles_for(ask),
            prose=lambda: self._prose(single, request),
            count=len(self.titles),
        )
        return json.dumps(filler.fill(), separators=(",", ":"), ensure_ascii=False)

    def _titles_for(self, ask: Ask) -> Callable[[int], Sequence[str]]:
        if ask.title:
            return lambda count: [ask.title, *make_titles(count)]
        return lambda count: [*self.titles, *make_titles(_SPARE_TITLES + count)[_SPARE_TITLES:]]


def _tool_to_call(request: ChatRequest) -> dict[str, Any] | None:
    choice = request.tool_choice
    if not request.tools or choice == "none" or _has_fresh_result(request):
        return None
    wanted = (choice.get("function") or {}).get("name") if isinstance(choice, dict) else None
    named = (tool for tool in request.tools if (tool.get("function") or {}).get("name") == wanted)
    return next(named, request.tools[0])


def _has_fresh_result(request: ChatRequest) -> bool:
    """Whether a tool's result came after the assistant's last message, whatever was said behind it."""
    for message in reversed(request.messages):
        if message.get("role") == "tool":
            return True
        if message.get("role") == "assistant":
            return False
    return False


def _schema_of(request: ChatRequest, ask: Ask) -> Mapping[str, Any] | None:
    """The schema that the answer has to fit; `None`: plain text."""
    if request.response_format.get("type") == "json_schema":
        wrapper = request.response_format.get("json_schema") or {}
        return wrapper.get("schema") or {"type": "object"}
    json_only = request.response_format.get("type") == "json_object"
    if not json_only and "json" not in request.last_user.lower():
        return None
    shown = schema_in_text(request.last_user) or schema_in_text(request.system)
    if shown is None and (json_only or ask.stage == "skeleton"):
        return _ANY_SKELETON
    return shown
