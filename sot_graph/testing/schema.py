"""JSON that fits a JSON schema, filled with titles and prose; and the schema that a prompt shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["SchemaFiller", "schema_in_text"]

_TITLE_NAMES = frozenset({"title", "name", "heading", "topic", "point"})
_PROSE_NAMES = frozenset({"text", "content", "body", "answer", "expansion", "markdown"})
_DEEPEST = 12

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class SchemaFiller:
    """Walks a JSON schema and makes a value that fits it.

    An array holds `count` items, within its `minItems` and `maxItems`; an array inside of another one as few
    as it may. In item number i, integers are i and strings the i-th title. Outside of arrays a string is
    prose where it is its object's only string or has a name such as `text`, else the title. An enum is its
    first value, a union its first member that isn't null. `pattern` and `format` are not looked at.

    Args:
        root: The whole schema, in which `$ref` is resolved.
        titles: Makes so many titles.
        prose: Makes the text of a single answer.
        count: Items of an array.
    """

    root: Schema
    titles: Callable[[int], Sequence[str]]
    prose: Callable[[], str]
    count: int

    def fill(self) -> Any:
        """A value that fits the whole schema."""
        return self._value(self.root, item=None, name="", lone=True, depth=0)

    def _value(self, schema: Schema, *, item: int | None, name: str, lone: bool, depth: int) -> Any:
        schema = self._resolve(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        makers: dict[str, Callable[[], Any]] = {
            "object": lambda: self._object(schema, item, depth),
            "array": lambda: self._array(schema, item, depth),
            "string": lambda: self._string(schema, item, name, lone),
            "integer": lambda: int(_within(schema, 1 if item is None else item)),
            "number": lambda: _within(schema, 1 if item is None else item),
            "boolean": lambda: True,
            "null": lambda: None,
        }
        return makers.get(_type_of(schema), makers["string"])()

    def _resolve(self, schema: Schema, depth: int) -> Schema:
        for _ in range(_DEEPEST):
            if depth > _DEEPEST:
                return {"type": "null"}
            if reference := schema.get("$ref"):
                schema = self._at(reference)
            elif union := schema.get("anyOf") or schema.get("oneOf"):
                schema = next((option for option in union if option.get("type") != "null"), {"type": "null"})
            elif parts := schema.get("allOf"):
                rest = {key: value for key, value in schema.items() if key != "allOf"}
                schema = {**rest, **{key: value for part in parts for key, value in part.items()}}
            else:
                break
        return schema

    def _at(self, reference: str) -> Schema:
        found: Any = self.root
        for key in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(key.replace("~1", "/").replace("~0", "~"), {}) if key else found
        return found if isinstance(found, dict) else {}

    def _object(self, schema: Schema, item: int | None, depth: int) -> dict[str, Any]:
        properties: Mapping[str, Schema] = schema.get("properties", {})
        strings = [name for name, part in properties.items() if _type_of(self._resolve(part, depth)) == "string"]
        free = [name for name in strings if not _is_fixed(self._resolve(properties[name], depth))]
        return {
            name: self._value(part, item=item, name=name, lone=free == [name], depth=depth + 1)
            for name, part in properties.items()
        }

    def _array(self, schema: Schema, item: int | None, depth: int) -> list[Any]:
        count = max(self.count if item is None else 0, schema.get("minItems", 0))
        count = min(count, schema.get("maxItems", count))
        items = schema.get("items", {"type": "string"})
        return [self._value(items, item=i, name="", lone=False, depth=depth + 1) for i in range(1, count + 1)]

    def _string(self, schema: Schema, item: int | None, name: str, lone: bool) -> str:
        if item is not None:
            text = self.titles(item)[item - 1]
        elif (lone or name in _PROSE_NAMES) and name not in _TITLE_NAMES:
            text = self.prose()
        else:
            text = self.titles(1)[0]
        return text[: schema.get("maxLength", len(text))]


def _is_fixed(schema: Schema) -> bool:
    return "enum" in schema or "const" in schema


def _type_of(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((str(one) for one in kind if one != "null"), "null")
    if kind is not None:
        return str(kind)
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _within(schema: Schema, number: float) -> float:
    """The number, moved inside of the schema's bounds."""
    if "minimum" in schema or "exclusiveMinimum" in schema:
        number = max(number, schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1))
    highest: float = schema.get("maximum", schema.get("exclusiveMaximum", number + 1) - 1)
    return min(number, highest)


def schema_in_text(text: str) -> Schema | None:
    """The first JSON schema that a text shows, or that of the first JSON object in it, or `None`.

    Clients without a schema mode put the schema, or an example such as `{"points": ["title"]}`, into the
    prompt.
    """
    decoder = json.JSONDecoder()
    example: Schema | None = None
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            start = text.find("{", start + 1)
            continue
        if "properties" in value or "$ref" in value:
            return dict(value)
        if value and example is None:
            example = _schema_of(value)
        start = text.find("{", end)
    return example


def _schema_of(value: Any) -> Schema:
    """The schema that an example fits."""
    if isinstance(value, dict):
        return {"type": "object", "properties": {name: _schema_of(part) for name, part in value.items()}}
    if isinstance(value, list):
        return {"type": "array", "items": _schema_of(value[0]) if value else {"type": "string"}}
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": kinds.get(type(value), "null")}
