"""Reading a result that may be incomplete, or come from a JSON file: what isn't there, or makes no sense, is `None`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sot_graph.errors import SotConfigError

__all__ = ["Span", "count_at", "part", "parts", "question_of", "seconds_at", "span_of", "text_at"]


_LONGEST = 1e15
"""Seconds or tokens: what is more can't be drawn or added up, and is no measurement."""


@dataclass(frozen=True)
class Span:
    """When something ran. In seconds from the run's start; a time that wasn't measured is `None`."""

    start: float
    end: float
    first_token: float | None = None
    """Only where the model's answer was streamed."""

    @property
    def seconds(self) -> float:
        """From start to end."""
        return self.end - self.start

    @property
    def waiting(self) -> float | None:
        """Seconds from the start to the first token."""
        return None if self.first_token is None else self.first_token - self.start

    @property
    def writing(self) -> float | None:
        """Seconds from the first token to the end."""
        return None if self.first_token is None else self.end - self.first_token


def part(source: object, key: str) -> Mapping[str, Any]:
    """The mapping under `key`, or an empty one."""
    value = source.get(key) if isinstance(source, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def parts(source: object, key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The mappings of the list under `key` that have an index, each after its index."""
    value = source.get(key) if isinstance(source, Mapping) else None
    for item in value if isinstance(value, Sequence) else ():
        if isinstance(item, Mapping) and type(item.get("index")) is int:
            yield item["index"], item


def text_at(source: Mapping[str, Any], key: str) -> str:
    """The string under `key`, or an empty one."""
    value = source.get(key)
    return value if isinstance(value, str) else ""


def seconds_at(source: Mapping[str, Any], key: str) -> float | None:
    """A time of zero or more seconds."""
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LONGEST:
        return None
    return float(value)


def count_at(source: Mapping[str, Any], key: str) -> int | None:
    """A number of zero or more tokens or calls."""
    value = source.get(key)
    return value if type(value) is int and 0 <= value < _LONGEST else None


def span_of(timing: Mapping[str, Any]) -> Span | None:
    """A timing with a start and an end in that order; its first token between them, or left out."""
    start, first_token, end = (seconds_at(timing, key) for key in ("start", "first_token", "end"))
    if start is None or end is None or end < start:
        return None
    return Span(start, end, first_token if first_token is not None and start <= first_token <= end else None)


def question_of(result: object) -> str:
    """The text of the last human message, whether messages are LangChain's or dicts.

    Raises:
        SotConfigError: `result` is not what a graph returns.
    """
    if not isinstance(result, Mapping):
        message = f"A timeline is drawn from the dict that a graph returned, not from {type(result).__name__}."
        raise SotConfigError(message)
    messages = result.get("messages")
    for message in reversed(messages if isinstance(messages, Sequence) else ()):
        if _field(message, "type") == "human" or _field(message, "role") == "user":
            return _text_of(message)
    return ""


def _field(message: object, key: str) -> object:
    return message.get(key) if isinstance(message, Mapping) else getattr(message, key, None)


def _text_of(message: object) -> str:
    data = _field(message, "data")  # of `messages_to_dict`
    content = _field(data if isinstance(data, Mapping) else message, "content")
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, Sequence) else ()
    texts = [text_at(block, "text") if isinstance(block, Mapping) else str(block) for block in blocks]
    return "\n".join(text for text in texts if text)
