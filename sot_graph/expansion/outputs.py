"""Reading what an expander gave: a text, and the sources that it rests on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from sot_graph.citations import cited_keys, read_sources
from sot_graph.prompts.messages import clean_text
from sot_graph.types import Source

__all__ = ["Expanded", "ExpanderError", "read_output"]

logger = logging.getLogger("sot_graph")

_WANTED = 'a text, an AIMessage, {"text": ..., "sources": [...]}, or an agent\'s state with messages'


class ExpanderError(Exception):
    """An expander failed, or gave what is no text: the point's error says which."""


@dataclass(slots=True)
class Expanded:
    """What an expander wrote."""

    text: str
    sources: list[Source] = field(default_factory=list)


def read_output(output: Any) -> Expanded:
    """What an expander returned, in any of its forms.

    Raises:
        ExpanderError: It is none of them.
    """
    if isinstance(output, str):
        return Expanded(clean_text(output))
    if isinstance(output, AIMessage):
        return Expanded(clean_text(str(output.text)))
    known = _fields(output)
    for fields in (known, _fields(known.get("structured_response"))):
        if isinstance(fields.get("text"), str):
            return Expanded(clean_text(fields["text"]), _sources(fields.get("sources") or []))
    if isinstance(output, Mapping):
        messages = output.get("messages")
        if isinstance(messages, Sequence) and messages and isinstance(messages[-1], (AIMessage, ToolMessage)):
            return _of_agent(messages)
    message = f"the expander returned {_shown(output)}; it must return {_WANTED}"
    raise ExpanderError(message)


def _fields(given: Any) -> Mapping[str, Any]:
    """Of a mapping, or of an object of Pydantic's or a dataclass, such as a model with structured output gives."""
    if isinstance(given, Mapping):
        return given
    return vars(given) if hasattr(given, "__dict__") else {}


def _sources(given: Any) -> list[Source]:
    try:
        return read_sources(given)
    except ValueError as error:
        message = f"the expander's output is wrong: {error}"
        raise ExpanderError(message) from error


def _shown(output: Any) -> str:
    return f"{type(output).__name__} ({output!r:.60})"


def _of_agent(messages: Sequence[BaseMessage]) -> Expanded:
    """An agent's last word, and what its tools found: the artifacts of their messages, where these are sources.

    Of these, the ones that the text cites; all of them where it cites none.
    """
    text = clean_text(str(messages[-1].text))
    found: list[Source] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            found += [source for source in _of_artifact(message.artifact) if source not in found]
    ids = {source["id"] for source in found if source.get("id")}
    keys = cited_keys(text, ids)
    # Where it also cites by places in the list, none may be left out.
    if not keys or not keys <= ids:
        return Expanded(text, found)
    return Expanded(text, [source for source in found if source.get("id") in keys])


def _of_artifact(artifact: Any) -> list[Source]:
    """The sources among what a tool keeps for its own purposes, such as rows or pictures."""
    if isinstance(artifact, Mapping):
        named = artifact.get("sources")
        return _sources(named) if isinstance(named, list) else []
    try:
        return read_sources(artifact) if isinstance(artifact, list) else []
    except ValueError as error:
        logger.debug("A tool's artifact is no list of sources: %s", error)
        return []
